"""A company's history: its warnings and results by month, and the tenant's decisions about it.

Indicators are not part of it: a page may say that revenue fell, never what it was.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
from pydantic import Field

from serving.core.db.lookup import DecisionRecord, decision_ids_about, find_many
from serving.core.db.reader import StoreReader
from serving.core.db.schema import COMPANIES
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request
from serving.core.http.schema import Schema, closed_object
from serving.core.http.validation import RequestModel, matching, parse_query, whole_number
from serving.core.identifiers import DECISION_ID_PATTERN
from serving.privacy.subjects.indicators import is_simulated
from serving.privacy.subjects.vault import Vault, existing_keys

PRODUCT = "scitech_risk"
DEFAULT_MONTHS, MAX_MONTHS = 36, 120  # on a page; of decisions as many
MONTH_PATTERN = r"[0-9]{4}-(?:0[1-9]|1[0-2])"
CURSOR_PATTERN = f"(?:{MONTH_PATTERN}|{DECISION_ID_PATTERN.pattern})"
RESULT_FIELDS = ("grade", "pd", "limit", "gate", "innovation")


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """The newest `limit` months before `before_month`, and decisions whose ids come before `before_decision`."""

    limit: int = DEFAULT_MONTHS
    before_month: str = "9999-99"
    before_decision: str = "g"


class HistoryQuery(RequestModel):
    limit: Annotated[int, whole_number(1, MAX_MONTHS), Field(description="Most months, and most decisions.")] = (
        DEFAULT_MONTHS
    )
    before: Annotated[
        str,
        matching(CURSOR_PATTERN, "a month, YYYY-MM, or a decision_id", "月份（格式 YYYY-MM）或 decision_id"),
        Field(description="A month or a decision_id: only what is older."),
    ] = ""


_MONTHS_QUERY = sa.select(COMPANIES).where(COMPANIES.c.pseudonym.in_(sa.bindparam("ids", expanding=True)))


def months_of(reader: StoreReader, companies: Sequence[str]) -> dict[str, bytes]:
    """Pseudonym -> encoded and encrypted months, for the companies that have any."""
    rows = reader.run(lambda connection: connection.execute(_MONTHS_QUERY, {"ids": companies}).all())
    return {row.pseudonym: row.months for row in rows}


def encode_months(months: Sequence[Mapping[str, Any]]) -> bytes:
    """Compress a company's months, newest first: month, warnings and RESULT_FIELDS of each. The texts repeat a lot."""
    return zlib.compress(orjson.dumps(months), 1)


def decode_months(content: bytes) -> list[dict[str, Any]]:
    """The reverse of `encode_months`."""
    months: list[dict[str, Any]] = orjson.loads(zlib.decompress(content))
    return months


def page(request: Request) -> HistoryPage:
    """The page that the query asks for. Raises ProblemError with every fault."""
    query = parse_query(request, HistoryQuery)
    return HistoryPage(query.limit, *(_cursor_bounds(query.before) if query.before else ()))


def _cursor_bounds(before: str) -> tuple[str, str]:
    """(month, decision id) that the page ends before: an id begins with its time, 48 bits of milliseconds."""
    if DECISION_ID_PATTERN.fullmatch(before):
        try:
            return f"{datetime.fromtimestamp(int(before[:12], 16) / 1_000, UTC):%Y-%m}", before
        except (OverflowError, ValueError):  # an id of a time after the year 9999, which no decision has
            return "9999-99", before
    year, month = int(before[:4]), int(before[5:])
    month_start = 0.0 if year < 1970 else datetime(year, month, 1, tzinfo=UTC).timestamp()
    return before, f"{int(1_000 * month_start):012x}"


def history(reader: StoreReader, vault: Vault, tenant: str, company_id: str, page: HistoryPage) -> bytes:
    """A page of a company's history as JSON, newest first. Raises ProblemError for a company of no register."""
    pseudonym = vault.pseudonym(PRODUCT, company_id)
    simulated = reader.run(lambda connection: is_simulated(connection, pseudonym))
    if simulated is None:
        raise ProblemError("unknown_company", actual=repr(company_id[:80]))
    encrypted = months_of(reader, [pseudonym]).get(pseudonym)
    months = []
    if encrypted is not None:
        key = reader.run(lambda connection: existing_keys(connection, vault, [pseudonym]))[pseudonym]
        months = [
            month
            for month in decode_months(vault.open(key, encrypted, pseudonym))
            if month["month"] < page.before_month
        ]
    ids = reader.run(
        lambda connection: decision_ids_about(connection, PRODUCT, pseudonym, tenant, page.before_decision, page.limit)
    )
    decisions = reader.run(lambda connection: find_many(connection, ids, tenant))
    payload = {
        "company_id": company_id,
        "simulated": simulated,
        "months": months[: page.limit],
        "decisions": [_decision_json(decisions[decision_id]) for decision_id in ids if decision_id in decisions],
    }
    return orjson.dumps(payload)


def _decision_json(record: DecisionRecord) -> dict[str, Any]:
    """In a row of a batch, `gate` is the verdict alone, and there is no currency."""
    answer, gate = record.answer, record.answer["gate"]
    return {
        "decision_id": record.id,
        "created": record.created,
        "model": record.model,
        "version": record.version,
        "decision": answer["decision"],
        "grade": answer["grade"],
        "pd": answer["pd"],
        "limit": answer["limit"],
        "currency": answer.get("currency"),
        "gate": gate["verdict"] if isinstance(gate, dict) else gate,
    }


def schema() -> Schema:
    """The JSON schema of a page."""
    text, null = {"type": "string"}, {"type": "null"}
    message = dict.fromkeys(("code", "en", "zh"), text)
    warning = {"type": "object", "required": [*message, "severity"],
               "properties": message | {"severity": {"enum": ["watch", "act"]}}}  # fmt: skip
    share = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    results = {"grade": {"anyOf": [text, null]}, "pd": share, "limit": {"type": ["integer", "null"], "minimum": 0},
               "gate": {"enum": ["pass", "review", "block", None]}}  # fmt: skip
    month = {
        "month": {"type": "string", "pattern": f"^{MONTH_PATTERN}$"},
        "warnings": {"type": "array", "items": warning},
        **results,
        "innovation": {"type": ["number", "null"], "description": "0 to 100"},
    }
    provenance = dict.fromkeys(("decision_id", "created", "model", "version"), text)
    decision = provenance | {"decision": {"enum": ["approve", "refer"]}, "currency": {"anyOf": [text, null]}} | results
    return closed_object(
        {
            "company_id": text,
            "simulated": {"type": "boolean"},
            "months": {"type": "array", "items": closed_object(month, [*month])},
            "decisions": {"type": "array", "items": closed_object(decision, [*decision])},
        },
        ["company_id", "simulated", "months", "decisions"],
    )
