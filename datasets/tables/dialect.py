"""Find out how a text file separates its values: delimiter, quotation mark, line end, and where its header stands."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

DELIMITERS = {
    ",": "','",
    ";": "';'",
    "\t": "a tab",
    "|": "'|'",
    "\x01": "Ctrl-A",
    "，": "'，'",
    "^": "'^'",
    "~": "'~'",
    " ": "a blank",
}
_DELIMITER = "[" + re.escape("".join(sign for sign in DELIMITERS if sign != " ")) + "]"
MAX_SAMPLE_RECORDS = 200
MAX_PREAMBLE = 10  # lines above the header, such as a title


@dataclass(frozen=True)
class Dialect:
    """quote: empty where quotation marks are ordinary signs. preamble: lines above the header.

    has_escapes: whether a quotation mark inside a value is written \\".
    """

    encoding: str
    bom: int  # bytes
    delimiter: str
    quote: str = '"'
    newline: str = "\n"
    preamble: int = 0
    has_escapes: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the file is UTF-8 with commas, double quotation marks, and its header in the first line."""
        return (self.encoding, self.delimiter, self.quote, self.newline) == ("utf-8", ",", '"', "\n") and not (
            self.preamble or self.has_escapes
        )


def sniff(sample: str, encoding: str, bom: int, known_names: Collection[str] = ()) -> Dialect:
    """The dialect of a file's beginning. known_names: column names, by which a delimiter is recognised first."""
    newline = "\r" if "\r" in sample and "\n" not in sample else "\n"
    lines = sample.replace("\r\n", "\n").split(newline)
    preamble, delimiter = 0, ""
    if match := re.fullmatch(r"sep=(.|\\t)", lines[0].strip("\ufeff\r\n\"'"), re.IGNORECASE):
        preamble, delimiter = 1, match[1].replace("\\t", "\t")
        lines = lines[1:]
    quote, has_escapes = _sniff_quote(sample), '\\"' in sample and '\\""' not in sample
    records = {candidate: _records(lines, candidate, quote or '"') for candidate in DELIMITERS}
    if not delimiter:
        delimiter = _best_delimiter(records, known_names)
    parsed = records.get(delimiter) or _records(lines, delimiter, quote or '"')
    if not preamble:
        preamble = _count_preamble(parsed, known_names)
    return Dialect(encoding, bom, delimiter, quote, newline, preamble, has_escapes)


def _records(lines: list[str], delimiter: str, quote: str) -> list[list[str]]:
    """The first records; the last, which the sample may cut, is left out where there are others."""
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, quotechar=quote)
    records: list[list[str]] = []
    try:
        for record in reader:
            if record:
                records.append(record)
            if len(records) == MAX_SAMPLE_RECORDS:
                return records
    except csv.Error:
        pass
    return records[:-1] if len(records) > 2 else records


def _best_delimiter(records: dict[str, list[list[str]]], known_names: Collection[str]) -> str:
    known = frozenset(known_names)

    def score(delimiter: str) -> tuple[int, float, int]:
        rows = records[delimiter]
        widths = Counter(len(row) for row in rows)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0])) if widths else (1, 0)
        if width < 2 and known.isdisjoint(name for row in rows[:1] for name in row):
            return 0, 0.0, 0
        matches = max((len(known.intersection(row)) for row in rows[: MAX_PREAMBLE + 1]), default=0) if known else 0
        header_fits = bool(rows) and any(len(row) == width for row in rows[: MAX_PREAMBLE + 1])
        consistency = count / len(rows) if header_fits else 0.0
        first_line_fits = bool(rows) and len(rows[0]) == width
        return matches, round(consistency + 0.3 * first_line_fits - 0.2 * (delimiter == " "), 2), min(width, 3)

    best = max(records, key=score)
    return best if score(best)[:2] > (0, 0.0) else ","


def _sniff_quote(sample: str) -> str:
    if (
        sample.count("'") > 4
        and '"' not in sample
        and len(re.findall(rf"(?:^|{_DELIMITER})'[^'\n]*'(?={_DELIMITER}|[\r\n])", sample)) > 4
    ):
        return "'"
    proper = len(re.findall(rf'(?:^|\n|{_DELIMITER})"|"(?={_DELIMITER}|[\r\n]|$)', sample))
    return "" if sample.count('"') >= 3 and proper == 0 else '"'


def _count_preamble(records: list[list[str]], known_names: Collection[str]) -> int:
    """Records above the header: those with fewer values than most, such as a title."""
    if len(records) < 3:
        return 0
    width = Counter(len(record) for record in records).most_common(1)[0][0]
    for index, record in enumerate(records[:MAX_PREAMBLE]):
        filled = sum(bool(value.strip()) for value in record)
        if len(record) == width and (filled > width / 2 or width < 3):
            return index
        if not frozenset(known_names).isdisjoint(record) or (
            filled > 1 and len(record) != width and filled > width / 2
        ):
            return index
    return 0
