"""What a tenant used in a month, line by line: each charged once, each tied to its leaf in the log and its receipt."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.db.engine import Where, reading
from serving.core.db.schema import METER

MONTH = r"[0-9]{4}-(0[1-9]|1[0-2])"
FORMATS = {"json": "application/json", "ndjson": "application/x-ndjson", "csv": "text/csv"}
TOLD = ("decision", "at", "product", "units", "rules", "rule", "fen", "leaf")
PART = 5_000  # lines in memory together


def bounds(month: str) -> tuple[str, str]:
    """[from, to) in UTC. Raises ValueError."""
    if not re.fullmatch(MONTH, month):
        raise ValueError(f"{month!r} is no month; one as 2026-11 is needed")
    year, number = int(month[:4]), int(month[5:])
    after = f"{year + number // 12:04d}-{number % 12 + 1:02d}"
    return month, after  # as text, any time of a month lies between its name and the next one's


def lines(where: Where, tenant: str, month: str) -> Iterator[list[dict[str, Any]]]:
    """In the order of time, in parts."""
    begin, end = bounds(month)
    last: tuple[str, str] = (begin, "")
    while True:
        later = sa.or_(METER.c.at > last[0], sa.and_(METER.c.at == last[0], METER.c.decision > last[1]))
        chosen = sa.select(*(METER.c[name] for name in TOLD))
        chosen = chosen.where(METER.c.tenant == tenant, METER.c.at >= last[0], METER.c.at < end, later)
        with reading(where) as connection:
            rows = connection.execute(chosen.order_by(METER.c.at, METER.c.decision).limit(PART)).all()
        if not rows:
            return
        yield [dict(zip(TOLD, row, strict=True)) | {"receipt": f"/v1/decisions/{row[0]}/receipt"} for row in rows]
        last = rows[-1][1], rows[-1][0]


def statement(where: Where, tenant: str, month: str, format: str) -> Iterator[bytes]:
    """A statement's bytes, in parts. JSON tells the totals too; the sum of its lines is theirs."""
    rest = lines(where, tenant, month)
    first = next(rest, None)  # before anything is given out: a store that fails is a failure from the start
    parts = () if first is None else chain([first], rest)
    if format == "json":
        yield from _as_json(parts, tenant, month)
    elif format == "ndjson":
        yield b""
        for part in parts:
            yield b"".join(orjson.dumps(line) + b"\n" for line in part)
    else:
        yield (",".join((*TOLD, "receipt")) + "\n").encode()
        for part in parts:
            out = io.StringIO()
            csv.DictWriter(out, (*TOLD, "receipt"), lineterminator="\n").writerows(part)
            yield out.getvalue().encode()


def _as_json(parts: Iterable[list[dict[str, Any]]], tenant: str, month: str) -> Iterator[bytes]:
    summed: dict[tuple[str, str, str], dict[str, Any]] = {}
    yield orjson.dumps({"tenant": tenant, "month": month})[:-1] + b',"lines":['
    comma = b""
    for part in parts:
        for line in part:
            key = (line["product"], line["rules"], line["rule"])
            total = summed.setdefault(key, dict.fromkeys(("lines", "units", "fen"), 0))
            total["lines"] += 1
            total["units"] += line["units"]
            total["fen"] += line["fen"]
        yield comma + b",".join(orjson.dumps(line) for line in part)
        comma = b","
    told = [{"product": p, "rules": v, "rule": r, **total} for (p, v, r), total in sorted(summed.items())]
    whole = {"totals": told, "fen": sum(total["fen"] for total in told), "currency": "CNY"}
    yield b"]," + orjson.dumps(whole)[1:]
