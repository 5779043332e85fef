"""GET /v1/statements/{month}: what the caller's tenant used in a month."""

from __future__ import annotations

import asyncio
import re
from itertools import chain

from datasets.errors import FieldError
from serving.core.billing import statements
from serving.core.db.store import Store
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response, StreamingResponse, iterate_in_thread, parse_query
from serving.core.http.router import Routes


class StatementRoutes:
    def __init__(self, store: Store):
        self.store = store

    def routes(self) -> Routes:
        return {"/v1/statements/{month}": {"GET": self.get_statement}}

    async def get_statement(self, request: Request) -> Response:
        options, errors = parse_query(request, ("format",))
        month, format = request.path_params["month"], options.get("format", "json")
        if format not in statements.FORMATS:
            known = ", ".join(statements.FORMATS)
            errors.append(FieldError("format", repr(format[:60]), f"one of {known}", f"{known} 之一"))
        if not re.fullmatch(statements.MONTH_PATTERN, month):
            errors.append(FieldError("month", repr(month[:60]), "a month as 2026-11", "月份，如 2026-11"))
        if errors:
            raise ProblemError("bad_parameter", errors=errors)
        chunks = statements.render_statement(self.store.engine, request.principal.tenant, month, format)
        first_chunk = await asyncio.to_thread(next, chunks)  # before the status is sent
        return StreamingResponse(iterate_in_thread(chain([first_chunk], chunks)), media_type=statements.FORMATS[format])
