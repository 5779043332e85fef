"""The errors of tables and files: where, what was found, what was expected, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LISTED_ERRORS = 20  # errors listed in a message; the rest are counted


@dataclass(frozen=True, slots=True)
class FieldError:
    """One value that breaks its contract. row: counted from 1 below the header; None if it concerns no single row."""

    field: str
    actual: str
    expected: str
    expected_zh: str
    row: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        """The error in English, as one sentence."""
        terminator = "" if self.expected.endswith("?") else "."
        return f"{self._location('row')}: {self.field} is {self.actual}; it must be {self.expected}{terminator}"

    def zh(self) -> str:
        """The error in Chinese, as one sentence."""
        return f"{self._location('行')}：{self.field} 为 {self.actual}；应为{self.expected_zh}。"

    def _location(self, row_label: str) -> str:
        segments = [self.file or "input", f"{row_label} {self.row}" if self.row is not None else ""]
        return ", ".join(segment for segment in segments if segment)


class DataError(ValueError):
    """Base of the errors about data.

    DataError
    ├── InvalidTableError        values break the contract: correct the rows
    └── UnreadableFileError      the file is not what it claims to be: send another
    """


class InvalidTableError(DataError):
    """All errors of one table. total: their number, which may exceed that of the listed errors."""

    def __init__(self, errors: Sequence[FieldError], total: int | None = None):
        self.errors = tuple(errors)
        self.total = len(self.errors) if total is None else total
        lines = [str(error) for error in self.errors[:MAX_LISTED_ERRORS]]
        if self.total > len(lines):
            lines.append(f"... and {self.total - len(lines):,} more. Correct the rows, or leave the values empty.")
        super().__init__("\n".join(lines))


class UnreadableFileError(DataError):
    """A file that cannot be read at all. zh: the sentence in Chinese, where there is one."""

    def __init__(self, message: str, zh: str = ""):
        self.zh = zh
        super().__init__(message)

    def both(self) -> str:
        """The sentence in English, and below it in Chinese."""
        return f"{self}\n{self.zh}" if self.zh else str(self)


def did_you_mean(name: str, candidates: list[str]) -> str:
    """'; did you mean ...?' with the nearest candidate, or an empty text if none is near."""
    matches = difflib.get_close_matches(name, candidates, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
