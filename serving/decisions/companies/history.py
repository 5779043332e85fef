"""What a bank may be told of a company's past: by month its warnings and results, and the decisions about it.

Indicators stay in the store: a page says that revenue fell, never what it was.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from serving.core.db.lookup import Recorded, decided_about, find_many
from serving.core.db.reader import Reader
from serving.core.db.schema import COMPANIES
from serving.core.http.problems import Problem
from serving.core.http.request import Call, query
from serving.core.http.schema import Schema, closed
from serving.privacy.subjects.indicators import known
from serving.privacy.subjects.vault import Vault, held_keys

PRODUCT = "scitech_risk"
USUAL, MOST = 36, 120  # months on a page, and decisions
MONTH = r"[0-9]{4}-(?:0[1-9]|1[0-2])"
DECISION = r"[0-9a-f]{32}(?:-[1-9][0-9]{0,9})?"
BEFORE = f"^(?:{MONTH}|{DECISION})$"
RESULTS = ("grade", "pd", "limit", "gate", "innovation")


@dataclass(frozen=True, slots=True)
class Page:
    """The newest `most` months before `month` and decisions whose ids come before `decision`."""

    most: int = USUAL
    month: str = "9999-99"
    decision: str = "g"


_MONTHS = sa.select(COMPANIES).where(COMPANIES.c.pseudonym.in_(sa.bindparam("ids", expanding=True)))


def months_of(reader: Reader, companies: Sequence[str]) -> dict[str, bytes]:
    """Encoded and encrypted, by pseudonym, of those that have any."""
    rows = reader.ask(lambda connection: connection.execute(_MONTHS, {"ids": companies}).all())
    return {row.pseudonym: row.months for row in rows}


def pack(months: Sequence[Mapping[str, Any]]) -> bytes:
    """A company's months, newest first: month, warnings and RESULTS of each. Words repeat, so they shrink well."""
    return zlib.compress(orjson.dumps(months), 1)


def unpack(packed: bytes) -> list[dict[str, Any]]:
    months: list[dict[str, Any]] = orjson.loads(zlib.decompress(packed))
    return months


def page(call: Call) -> Page:
    """As the address asks for it. Raises Problem, with all that is wrong."""
    options, faults = query(call, ("limit", "before"))
    limit, before = options.get("limit", str(USUAL)), options.get("before")
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= MOST:
        needed = f"a whole number from 1 to {MOST}", f"1 至 {MOST} 的整数"
        faults.append(Fault("limit", repr(limit[:60]), *needed))
    if before is not None and not re.fullmatch(BEFORE, before):
        needed = "a month, YYYY-MM, or a decision_id", "月份（格式 YYYY-MM）或 decision_id"
        faults.append(Fault("before", repr(before[:60]), *needed))
    if faults:
        raise Problem("bad_parameter", errors=faults)
    return Page(int(limit)) if before is None else Page(int(limit), *_bounds(before))


def _bounds(before: str) -> tuple[str, str]:
    """(month, decision id) before both of which a page ends: ids begin with their time, 48 bits of milliseconds."""
    if re.fullmatch(DECISION, before):
        try:
            return f"{datetime.fromtimestamp(int(before[:12], 16) / 1_000, UTC):%Y-%m}", before
        except (OverflowError, ValueError):  # an id from after the year 9999, which nobody was given
            return "9999-99", before
    year, month = int(before[:4]), int(before[5:])
    began = 0.0 if year < 1970 else datetime(year, month, 1, tzinfo=UTC).timestamp()
    return before, f"{int(1_000 * began):012x}"


def history(reader: Reader, vault: Vault, tenant: str, company: str, page: Page) -> bytes:
    """As JSON, newest first, with the tenant's own decisions. Raises Problem for a company that no register brought."""
    name = vault.pseudonym(PRODUCT, company)
    simulated = reader.ask(lambda connection: known(connection, name))
    if simulated is None:
        raise Problem("unknown_company", found=repr(company[:80]))
    sealed = months_of(reader, [name]).get(name)
    months = []
    if sealed is not None:
        key = reader.ask(lambda connection: held_keys(connection, vault, [name]))[name]
        months = [one for one in unpack(vault.open(key, sealed, name)) if one["month"] < page.month]
    ids = reader.ask(lambda connection: decided_about(connection, PRODUCT, name, tenant, page.decision, page.most))
    decided = reader.ask(lambda connection: find_many(connection, ids, tenant))
    told = {
        "company_id": company,
        "simulated": simulated,
        "months": months[: page.most],
        "decisions": [_decision(decided[one]) for one in ids if one in decided],
    }
    return orjson.dumps(told)


def _decision(of: Recorded) -> dict[str, Any]:
    """A row of a batch has its gate as a word, and tells no currency."""
    answer, gate = of.answer, of.answer["gate"]
    return {
        "decision_id": of.id,
        "created": of.created,
        "model": of.model,
        "version": of.version,
        "decision": answer["decision"],
        "grade": answer["grade"],
        "pd": answer["pd"],
        "limit": answer["limit"],
        "currency": answer.get("currency"),
        "gate": gate["verdict"] if isinstance(gate, dict) else gate,
    }


def schema() -> Schema:
    text, null = {"type": "string"}, {"type": "null"}
    words = dict.fromkeys(("code", "en", "zh"), text)
    warning = {"type": "object", "required": [*words, "severity"],
               "properties": words | {"severity": {"enum": ["watch", "act"]}}}  # fmt: skip
    share = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    results = {"grade": {"anyOf": [text, null]}, "pd": share, "limit": {"type": ["integer", "null"], "minimum": 0},
               "gate": {"enum": ["pass", "review", "block", None]}}  # fmt: skip
    month = {
        "month": {"type": "string", "pattern": f"^{MONTH}$"},
        "warnings": {"type": "array", "items": warning},
        **results,
        "innovation": {"type": ["number", "null"], "description": "0 to 100"},
    }
    made = dict.fromkeys(("decision_id", "created", "model", "version"), text)
    decision = made | {"decision": {"enum": ["approve", "refer"]}, "currency": {"anyOf": [text, null]}} | results
    return closed(
        {
            "company_id": text,
            "simulated": {"type": "boolean"},
            "months": {"type": "array", "items": closed(month, [*month])},
            "decisions": {"type": "array", "items": closed(decision, [*decision])},
        },
        ["company_id", "simulated", "months", "decisions"],
    )
