"""GET /v1/statements/{month}: the statement of the caller's tenant."""

from __future__ import annotations

import asyncio
import re
from itertools import chain
from typing import Annotated

from pydantic import Field

from datasets.errors import FieldError
from serving.core.billing import statements
from serving.core.db.store import Store
from serving.core.http.request import Request, Response, StreamingResponse, iterate_in_thread
from serving.core.http.router import Routes
from serving.core.http.validation import RequestModel, one_of, parse_query


class StatementQuery(RequestModel):
    """Query of GET /v1/statements/{month}."""

    format: Annotated[str, one_of(*statements.FORMATS), Field(description="Of the statement.")] = "json"


class StatementRoutes:
    """Routes of monthly statements."""

    def __init__(self, store: Store):
        self.store = store

    def routes(self) -> Routes:
        return {"/v1/statements/{month}": {"GET": self.get_statement}}

    async def get_statement(self, request: Request) -> Response:
        month, errors = request.path_params["month"], []
        if not re.fullmatch(statements.MONTH_PATTERN, month):
            errors = [FieldError("month", repr(month[:60]), "a month such as 2026-11", "月份，如 2026-11")]
        format = parse_query(request, StatementQuery, errors).format
        chunks = statements.render_statement(self.store.engine, request.principal.tenant, month, format)
        first_chunk = await asyncio.to_thread(next, chunks)  # so that an unavailable store is an error response
        return StreamingResponse(iterate_in_thread(chain([first_chunk], chunks)), media_type=statements.FORMATS[format])
