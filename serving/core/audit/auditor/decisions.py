"""Compare decisions and charges with the log entries that record them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.findings import AuditReport, Comparison, IndexedEntries
from serving.core.audit.entry_checks import to_bytes
from serving.core.audit.verify import salted_digest
from serving.core.db.schema import DECISIONS, METER

_METER_COLUMNS = ("tenant", "product", "at", "units", "rules", "rule", "fen")


class DecisionChecks(Comparison):
    def __init__(self, connection: sa.Connection, report: AuditReport):
        super().__init__(connection, report)
        self.price_lists: dict[str, tuple[Any, int]] = {}  # version -> digest of its rules, and the first entry with it
        self.unsalted_decisions: dict[str, str] = {}  # decisions whose salt was deleted, with the digests of their rows

    def check_decisions(self, logged: IndexedEntries) -> None:
        names = ("id", "leaf", "tenant", "bundle", "policy", "salt", "answer", *entries.DECISION_FIELDS)
        stmt = sa.select(*(DECISIONS.c[name] for name in names)).where(DECISIONS.c.id.in_(logged))
        existing = set()
        for name, leaf, tenant, bundle, policy, salt, answer, *record in self.connection.execute(stmt):
            existing.add(name)
            index, body = logged[name]
            self.check_leaf_index("decisions", name, leaf, index)
            if salt is None:  # the salted digests can no longer be checked
                self.unsalted_decisions[name] = entries.retained_decision_digest(to_bytes(answer), record)
                digests = body["answer"], body["record"]
            else:
                encoded_record = orjson.dumps(record, default=repr)
                digests = salted_digest(to_bytes(salt), to_bytes(answer)), salted_digest(to_bytes(salt), encoded_record)
            columns = ("tenant", "bundle", "policy", "answer", ", ".join(entries.DECISION_FIELDS))
            expected = (body["tenant"], body["bundle"], body["policy"], body["answer"], body["record"])
            if mismatches := _mismatches(columns, (tenant, bundle, policy, *digests), expected):
                self.report_edited(f"decisions {name}", index, "; ".join(mismatches))
        self.report.rows["decisions"] += len(existing)
        self.report_missing("decisions", logged, existing)

    def check_meter(self, priced: IndexedEntries) -> None:
        stmt = sa.select(METER.c.decision, METER.c.leaf, *(METER.c[name] for name in _METER_COLUMNS))
        for index, body in priced.values():
            self._check_price_rules(index, body["price"])
        existing = set()
        for name, leaf, *actual in self.connection.execute(stmt.where(METER.c.decision.in_(priced))):
            existing.add(name)
            index, body = priced[name]
            self.check_leaf_index("meter", name, leaf, index)
            price = body["price"]
            expected = (body["tenant"], body["product"], body["at"], *(price[key] for key in _METER_COLUMNS[3:]))
            if mismatches := _mismatches(_METER_COLUMNS, actual, expected):
                self.report_edited(f"meter {name}", index, ", ".join(mismatches))
        self.report.rows["meter"] += len(existing)
        self.report_missing("meter", priced, existing)

    def _check_price_rules(self, index: int, price: Mapping[str, Any]) -> None:
        """A version of the price list has the same rules in every entry."""
        version, digest = price["rules"], price.get("sha256")
        expected, first_index = self.price_lists.setdefault(version, (digest, index))
        if digest != expected:
            detail = f"log entry {index} was charged by other rules than entry {first_index}, under the same version"
            self.report.add("edited", f"prices {version}", detail)
            self.price_lists[version] = digest, index


def _mismatches(columns: Sequence[str], actual: Sequence[Any], expected: Sequence[Any]) -> list[str]:
    """The columns whose value is not the expected one."""
    return [
        column
        for column, actual_value, expected_value in zip(columns, actual, expected, strict=True)
        if actual_value != expected_value
    ]
