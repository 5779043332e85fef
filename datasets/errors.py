"""What is wrong with a table, said once, for a person: where, what was found, what was needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 20  # faults spelled out in a message; the rest are counted


@dataclass(frozen=True, slots=True)
class Fault:
    """One value that breaks its contract. `row` counts from 1 below the header; None where no single row is meant."""

    column: str
    found: str
    needed: str
    needed_zh: str
    row: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        stop = "" if self.needed.endswith("?") else "."
        return f"{self._place('row')}: {self.column} is {self.found}; it must be {self.needed}{stop}"

    def zh(self) -> str:
        return f"{self._place('行')}：{self.column} 为 {self.found}；应为{self.needed_zh}。"

    def _place(self, word: str) -> str:
        parts = [self.file or "input", f"{word} {self.row}" if self.row is not None else ""]
        return ", ".join(part for part in parts if part)


class DataError(ValueError):
    """Base of what this room refuses.

    DataError
    ├── Faults         values break the contract: correct the rows
    └── Unreadable     the file is not what it says it is: send another
    """


class Faults(DataError):
    """All the faults of one table together. `total` may exceed `len(faults)`, which is capped."""

    def __init__(self, faults: Sequence[Fault], total: int | None = None):
        self.faults = tuple(faults)
        self.total = len(self.faults) if total is None else total
        lines = [str(fault) for fault in self.faults[:SHOWN]]
        if self.total > len(lines):
            lines.append(f"... and {self.total - len(lines):,} more. Correct the rows, or leave the values empty.")
        super().__init__("\n".join(lines))


class Unreadable(DataError):
    """The file as a whole cannot be read."""
