"""The audit report, and what every comparison of rows with log entries has in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
MAX_FINDINGS = 1_000  # findings that a report lists; the rest are only counted

KINDS_ZH = {
    "edited": "被修改",
    "deleted": "被删除",
    "added": "被添加",
    "reordered": "被调换",
    "rolled back": "被回退",
    "not signed": "签名不符",
    "backdated": "时间不符",
}
Body = Mapping[str, Any]  # of a log entry, parsed
IndexedEntries = dict[str, tuple[int, Body]]  # name of a row -> index and body of the entry that records it


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str  # a key of KINDS_ZH
    location: str  # the row
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {KINDS_ZH[self.kind]}: {self.location}: {self.detail}"


@dataclass
class AuditReport:
    leaves: int = 0
    covered: int = 0  # leaves under the newest checkpoint whose root they have
    checkpoints: int = 0
    rows: Counter[str] = field(default_factory=Counter)  # table -> rows that a log entry records
    findings: list[Finding] = field(default_factory=list)  # the first MAX_FINDINGS
    finding_count: int = 0
    epochs: list[tuple[int, Body]] = field(default_factory=list)  # restored stores that an operator accepted

    def add(self, kind: str, location: str, detail: str) -> None:
        self.finding_count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind, location, detail))


class Comparison:
    """Compares rows with log entries in one snapshot of the store and adds the differences to a report."""

    def __init__(self, connection: sa.Connection, report: AuditReport):
        self.connection, self.report = connection, report
        self.pending = PendingFindings(report)

    def fetch_row(self, stmt: sa.Select[Any], table: str, name: str, index: int) -> Mapping[str, Any] | None:
        """The row that an entry records. None, with a finding, where it is missing or its JSON cannot be read."""
        try:
            row = self.connection.execute(stmt).mappings().first()
        except ValueError:
            self.report.add("edited", f"{table} {name}", "its JSON cannot be read")
            return None
        if row is None:
            self.report_deleted(table, name, index)
        return None if row is None else dict(row)

    def check_leaf_index(self, table: str, name: str, leaf: int | None, index: int) -> None:
        if leaf != index:
            self.report.add("reordered", f"{table} {name}", f"it names log entry {leaf}, but entry {index} records it")

    def report_edited(self, location: str, index: int, columns: str) -> None:
        self.report.add("edited", location, edited_detail(index, columns))

    def report_deleted(self, table: str, name: str, index: int) -> None:
        self.report.add("deleted", f"{table} {name}", f"log entry {index} records it")

    def report_added(self, location: str) -> None:
        self.report.add("added", location, "no log entry records it")

    def report_missing(self, table: str, entries: IndexedEntries, existing: set[str]) -> None:
        for name, (index, _) in entries.items():
            if name not in existing:
                self.report_deleted(table, name, index)


class PendingFindings:
    """Findings about rows that several entries record in turn. A row must agree with the last of them, so a difference
    counts only once no later entry explains it."""

    def __init__(self, report: AuditReport):
        self.report = report
        self.findings: dict[str, Finding] = {}

    def update(self, row: str, finding: Finding | None) -> None:
        """Replace what is known about a row by how it differs from its newest entry."""
        if finding is None:
            self.findings.pop(row, None)
        else:
            self.findings[row] = finding

    def flush(self) -> None:
        for finding in self.findings.values():
            self.report.add(finding.kind, finding.location, finding.detail)


def edited_detail(index: int, columns: str) -> str:
    return f"{columns}: not as recorded by log entry {index}"


def digest_or_none(digest: Callable[..., T], *args: Any) -> T | None:
    """None where a value has a type that the service never records, such as bytes in place of text, or NaN."""
    try:
        return digest(*args)
    except (TypeError, ValueError):
        return None
