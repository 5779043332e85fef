"""What an audit found, and what each comparison of rows with leaves has in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
MOST = 1_000  # findings that are spelled out

ZH = {
    "edited": "被修改",
    "deleted": "被删除",
    "added": "被添加",
    "reordered": "被调换",
    "rolled back": "被回退",
    "not signed": "签名不符",
}
Body = Mapping[str, Any]
Told = dict[str, tuple[int, Body]]  # by the name of its row: a leaf with its index


@dataclass(frozen=True, slots=True)
class Finding:
    what: str  # of ZH
    where: str  # the row
    why: str

    def __str__(self) -> str:
        return f"{self.what} {ZH[self.what]}: {self.where}: {self.why}"


@dataclass
class Report:
    leaves: int = 0
    checkpoints: int = 0
    rows: Counter[str] = field(default_factory=Counter)  # by table, that their leaves prove
    findings: list[Finding] = field(default_factory=list)  # the first MOST
    found: int = 0

    def add(self, what: str, where: str, why: str) -> None:
        self.found += 1
        if len(self.findings) < MOST:
            self.findings.append(Finding(what, where, why))


class Comparison:
    """With one state of the store; what differs goes into the report."""

    def __init__(self, connection: sa.Connection, report: Report):
        self.connection, self.report = connection, report
        self.last = Last(report)

    def read(self, chosen: sa.Select[Any], table: str, name: str, index: int) -> Mapping[str, Any] | None:
        """A row with columns of JSON, which may be none any more. None where it is not there, or cannot be read, which
        then is told."""
        try:
            row = self.connection.execute(chosen).mappings().first()
        except ValueError:
            self.report.add("edited", f"{table} {name}", "its JSON cannot be read")
            return None
        if row is None:
            self.gone(table, name, index)
        return None if row is None else dict(row)

    def linked(self, table: str, name: str, leaf: int | None, index: int) -> None:
        if leaf != index:
            self.report.add("reordered", f"{table} {name}", f"it names leaf {leaf}; leaf {index} tells of it")

    def differs(self, where: str, index: int, wrong: str) -> None:
        self.report.add("edited", where, f"{wrong}: not as leaf {index} tells")

    def gone(self, table: str, name: str, index: int) -> None:
        self.report.add("deleted", f"{table} {name}", f"leaf {index} tells of it")

    def missing(self, table: str, told: Told, there: set[str]) -> None:
        for name, (index, _) in told.items():
            if name not in there:
                self.gone(table, name, index)


class Last:
    """Of rows of which several leaves tell, one after the other: a row stands as the last of them tells. Held is what
    does not, or not yet."""

    def __init__(self, report: Report):
        self.report = report
        self.held: dict[str, Finding] = {}

    def tell(self, row: str, wrong: Finding | None) -> None:
        """`wrong`: how the row differs from its newest leaf."""
        if wrong is None:
            self.held.pop(row, None)
        else:
            self.held[row] = wrong

    def finish(self) -> None:
        for found in self.held.values():
            self.report.add(found.what, found.where, found.why)


def made_of(digest: Callable[..., T], *told: Any) -> T | None:
    """None of what cannot be digested, as it was never recorded so: bytes where a text belongs, a number that is
    none."""
    try:
        return digest(*told)
    except (TypeError, ValueError):
        return None


def raw(stored: Any) -> bytes:
    """What a column of bytes holds. SQLite lets somebody put text there: that is never what was hashed."""
    return stored if isinstance(stored, bytes) else repr(stored).encode()
