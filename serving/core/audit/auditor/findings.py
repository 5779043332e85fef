"""What an audit found, and what each comparison of rows with leaves has in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
MAX_FINDINGS = 1_000  # findings that are spelled out

KINDS_ZH = {
    "edited": "被修改",
    "deleted": "被删除",
    "added": "被添加",
    "reordered": "被调换",
    "rolled back": "被回退",
    "not signed": "签名不符",
}
Body = Mapping[str, Any]
IndexedEntries = dict[str, tuple[int, Body]]  # by the name of its row: a leaf with its index


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str  # of ZH
    location: str  # the row
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {KINDS_ZH[self.kind]}: {self.location}: {self.detail}"


@dataclass
class AuditReport:
    leaves: int = 0
    checkpoints: int = 0
    rows: Counter[str] = field(default_factory=Counter)  # by table, that their leaves prove
    findings: list[Finding] = field(default_factory=list)  # the first MOST
    finding_count: int = 0

    def add(self, kind: str, location: str, detail: str) -> None:
        self.finding_count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind, location, detail))


class Comparison:
    """With one state of the store; what differs goes into the report."""

    def __init__(self, connection: sa.Connection, report: AuditReport):
        self.connection, self.report = connection, report
        self.pending = PendingFindings(report)

    def fetch_row(self, stmt: sa.Select[Any], table: str, name: str, index: int) -> Mapping[str, Any] | None:
        """A row with columns of JSON, which may be none any more. None where it is not there, or cannot be read, which
        then is told."""
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
            self.report.add("reordered", f"{table} {name}", f"it names leaf {leaf}; leaf {index} tells of it")

    def report_edited(self, location: str, index: int, mismatch: str) -> None:
        self.report.add("edited", location, f"{mismatch}: not as leaf {index} tells")

    def report_deleted(self, table: str, name: str, index: int) -> None:
        self.report.add("deleted", f"{table} {name}", f"leaf {index} tells of it")

    def report_missing(self, table: str, entries: IndexedEntries, existing: set[str]) -> None:
        for name, (index, _) in entries.items():
            if name not in existing:
                self.report_deleted(table, name, index)


class PendingFindings:
    """Of rows of which several leaves tell, one after the other: a row stands as the last of them tells. Held is what
    does not, or not yet."""

    def __init__(self, report: AuditReport):
        self.report = report
        self.findings: dict[str, Finding] = {}

    def update(self, row: str, finding: Finding | None) -> None:
        """`wrong`: how the row differs from its newest leaf."""
        if finding is None:
            self.findings.pop(row, None)
        else:
            self.findings[row] = finding

    def flush(self) -> None:
        for finding in self.findings.values():
            self.report.add(finding.kind, finding.location, finding.detail)


def digest_or_none(digest: Callable[..., T], *args: Any) -> T | None:
    """None of what cannot be digested, as it was never recorded so: bytes where a text belongs, a number that is
    none."""
    try:
        return digest(*args)
    except (TypeError, ValueError):
        return None


def to_bytes(stored: Any) -> bytes:
    """What a column of bytes holds. SQLite lets somebody put text there: that is never what was hashed."""
    return stored if isinstance(stored, bytes) else repr(stored).encode()
