"""Monthly statements: one line per use, charged once, with its log entry and its receipt."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.db.engine import EngineOrConnection, read_connection
from serving.core.db.schema import METER

MONTH_PATTERN = r"[0-9]{4}-(0[1-9]|1[0-2])"
FORMATS = {"json": "application/json", "ndjson": "application/x-ndjson", "csv": "text/csv"}
COLUMNS = ("decision", "at", "product", "units", "rules", "rule", "fen", "leaf")
PAGE_SIZE = 5_000  # lines in memory at a time


def month_bounds(month: str) -> tuple[str, str]:
    """[start, end) of a month in UTC, as prefixes of timestamps. Raises ValueError."""
    if not re.fullmatch(MONTH_PATTERN, month):
        raise ValueError(f"{month!r} is not a month; expected one such as 2026-11")
    year, month_number = int(month[:4]), int(month[5:])
    next_month = f"{year + month_number // 12:04d}-{month_number % 12 + 1:02d}"
    return month, next_month  # as text, every timestamp of a month sorts between its name and the next one's


def iterate_lines(bind: EngineOrConnection, tenant: str, month: str) -> Iterator[list[dict[str, Any]]]:
    """The lines of a statement in the order of time, page by page."""
    start, end = month_bounds(month)
    last: tuple[str, str] = (start, "")
    while True:
        after_last = sa.or_(METER.c.at > last[0], sa.and_(METER.c.at == last[0], METER.c.decision > last[1]))
        stmt = sa.select(*(METER.c[name] for name in COLUMNS))
        stmt = stmt.where(METER.c.tenant == tenant, METER.c.at >= last[0], METER.c.at < end, after_last)
        with read_connection(bind) as connection:
            rows = connection.execute(stmt.order_by(METER.c.at, METER.c.decision).limit(PAGE_SIZE)).all()
        if not rows:
            return
        yield [dict(zip(COLUMNS, row, strict=True)) | {"receipt": f"/v1/decisions/{row[0]}/receipt"} for row in rows]
        last = rows[-1][1], rows[-1][0]


def render_statement(bind: EngineOrConnection, tenant: str, month: str, format: str) -> Iterator[bytes]:
    """A statement in one of FORMATS, in chunks. Only JSON has totals, which are the sums of its lines."""
    remaining = iterate_lines(bind, tenant, month)
    first_page = next(remaining, None)  # read before the response starts, so that an unavailable store is an error
    pages = () if first_page is None else chain([first_page], remaining)
    if format == "json":
        yield from _render_json(pages, tenant, month)
    elif format == "ndjson":
        yield b""
        for page in pages:
            yield b"".join(orjson.dumps(line) + b"\n" for line in page)
    else:
        yield (",".join((*COLUMNS, "receipt")) + "\n").encode()
        for page in pages:
            buffer = io.StringIO()
            csv.DictWriter(buffer, (*COLUMNS, "receipt"), lineterminator="\n").writerows(page)
            yield buffer.getvalue().encode()


def _render_json(pages: Iterable[list[dict[str, Any]]], tenant: str, month: str) -> Iterator[bytes]:
    totals: dict[tuple[str, str, str], dict[str, Any]] = {}
    yield orjson.dumps({"tenant": tenant, "month": month})[:-1] + b',"lines":['
    separator = b""
    for page in pages:
        for line in page:
            key = (line["product"], line["rules"], line["rule"])
            total = totals.setdefault(key, dict.fromkeys(("lines", "units", "fen"), 0))
            total["lines"] += 1
            total["units"] += line["units"]
            total["fen"] += line["fen"]
        yield separator + b",".join(orjson.dumps(line) for line in page)
        separator = b","
    total_rows = [
        {"product": product, "rules": version, "rule": rule, **total}
        for (product, version, rule), total in sorted(totals.items())
    ]
    footer = {"totals": total_rows, "fen": sum(total["fen"] for total in total_rows), "currency": "CNY"}
    yield b"]," + orjson.dumps(footer)[1:]
