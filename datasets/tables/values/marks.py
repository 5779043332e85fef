"""Marks of a missing value in a table: words and signs, the errors of spreadsheets, and codes such as -9999."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

MISSING_MARKS = (
    "", "-", "--", "---", "—", "–", "——", "/", "\\", "?", "？", ".", "*", "\\N", "NA", "N/A", "n/a", "N.A.", "na",
    "NaN", "nan", "NAN", "-nan", "NULL", "null", "Null", "(null)", "NIL", "nil", "<NA>", "NaT", "missing", "unknown",
    "#N/A", "#NA", "#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A N/A",
    "inf", "-inf", "+inf", "Inf", "-Inf", "Infinity", "-Infinity", "1.#INF", "-1.#IND", "1.#QNAN",
    "Missing", "MISSING", "Unknown", "UNKNOWN",
    "缺失", "空", "未知", "不详", "不明", "未填", "未填写", "暂无", "无数据",
)  # fmt: skip
# Words for "none": missing among numbers and dates, but a level of its own among the texts of a category.
NONE_WORDS = ("None", "none", "NONE", "无", "没有")
NO_CODE_WORDS = frozenset({*MISSING_MARKS, *NONE_WORDS, "0", "0.0", "false", "False", "FALSE", "no", "No", "NO", "否"})
NO_CODE = "none"  # how a text of codes says that there are none
MAX_CODES = 3  # codes recognised in one column
MIN_CODE_ROWS = 3  # rows in which a code must occur
_CODE_DIGITS = frozenset({"9" * count for count in range(2, 13)} | {"9" * count + "8" for count in range(2, 8)})


def missing_mask(text: pl.Series, marks: Collection[str]) -> pl.Series:
    """Whether each text is one of the marks, blanks around it aside."""
    stripped = strip_blanks(text)
    return stripped.is_in([*marks]).fill_null(False) if text.len() else pl.Series(text.name, [], pl.Boolean)


def strip_blanks(text: pl.Series) -> pl.Series:
    """The texts without blanks around them, no-break and full-width ones included."""
    return text.str.strip_chars(" \t\r\n\u00a0\u2007\u202f\u3000\ufeff\u200b")


def count_marks(text: pl.Series, marks: Collection[str]) -> dict[str, int]:
    """Mark -> rows, the empty text aside, the most frequent first."""
    present = strip_blanks(text.drop_nulls())
    counts = present.filter(present.is_in([mark for mark in marks if mark])).value_counts(sort=True)
    return dict(counts.rows())


def split_codes(text: str) -> list[str]:
    """The codes of a text that lists them with ';' between; a word for "none" is no code."""
    codes = [code.strip() for code in text.replace("；", ";").split(";")]
    return [code for code in codes if code not in NO_CODE_WORDS]


def states_codes(text: str) -> bool:
    """Whether a text says which codes there are, if only that there are none; blank texts and marks say nothing."""
    return any(code.strip() not in MISSING_MARKS for code in text.replace("；", ";").split(";"))


def find_sentinel_codes(numbers: pl.Series) -> dict[float, int]:
    """Codes such as -9999 or 99999999 that stand apart from the other values of a column: code -> rows.

    A code consists of nines (or nines and an 8), occurs at least MIN_CODE_ROWS times, and lies beyond every other value
    by a wide margin: it is below 0 where no other value is, or exceeds ten times the largest other value.
    """
    values = numbers.drop_nulls().cast(pl.Float64)
    values = values.filter(values.is_finite())
    if values.len() < 20:
        return {}
    candidates = [
        float(value)
        for value in {values.min(), values.max(), *values.value_counts(sort=True).head(10).to_series(0).to_list()}
        if isinstance(value, float) and value == int(value) and str(abs(int(value))) in _CODE_DIGITS
    ]
    codes: dict[float, int] = {}
    for code in sorted(candidates, key=abs, reverse=True):
        rows = int((values == code).sum())
        others = values.filter((values != code) & ~values.is_in([*codes]))
        if rows < MIN_CODE_ROWS or others.len() < 10 or len(codes) == MAX_CODES:
            continue
        low, high = float(others.min()), float(others.max())  # type: ignore[arg-type]
        remaining_codes = [other for other in candidates if other != code and other not in codes]
        true_low = float(others.filter(~others.is_in(remaining_codes)).min() or 0.0)  # type: ignore[arg-type]
        is_apart = (code < 0 <= true_low and abs(code) >= 90) or code > max(10 * high, 900.0)
        if is_apart and code not in (low, high):
            codes[code] = rows
    return codes
