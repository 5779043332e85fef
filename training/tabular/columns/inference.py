"""Infer what a column of a user's table is: its kind, how its values are written, and whether a model can use it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from datasets.tables.values import dates, numbers
from datasets.tables.values.marks import NONE_WORDS, count_marks, find_sentinel_codes, missing_mask, strip_blanks
from datasets.tables.values.numbers import NumberFormat, canonical_level
from training.tabular.columns.roles import Protected, find_protected, names_a_person

MAX_LEVELS = 60  # of a category; with more distinct values a text column counts as free text
MAX_FREQUENT_LEVELS, MIN_LEVEL_ROWS = 500, 30  # a category may have more levels where each has so many rows on average
OTHER_LEVEL, MIN_FREQUENT_SHARE = "(other)", 0.5  # of rare levels together; of the rows whose levels are frequent
MAX_ODD_SHARE, MAX_ODD_ROWS = 0.01, 3  # of values that are no numbers in a column of numbers
FIRST_VALUES = 2_000  # of a column, most of which are numbers if it is one of numbers
MAX_SAMPLE = 100_000  # values by which the form of a column is recognised; all values are then read by it
ID_NAME = re.compile(
    r"(^|_|\b)(id|uuid|guid|key|index|rownum|row_number|unnamed.*|no|nr|number|phone|mobile|tel)$"
    r"|(编号|号码|单号|证号|账号|帐号|卡号|户号|序号|流水号|手机号|手机|电话|代码|合同号)$",
    re.IGNORECASE,
)
ID_CARD, ID_CARD_WEIGHTS = re.compile(r"^\d{17}[\dXx]$"), (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
LEFT_OUT = "it is left out of the model. Declare its role to keep it."
AUDITED = 'it is compared between groups and is no input. To use it, declare role = "indicator" and a reason.'
MIN_ID_DIGITS, MIN_ID_ROWS = 8, 200  # of numbers that are one as long as the other and differ in every row
MIN_NAMES = 20  # different texts of a column of names or addresses


@dataclass
class ColumnInference:
    """declared: the fields of the column's schema. series: its values as the schema reads them.

    marks: further texts that mean "not known". remarks: sentences on what was inferred or left out. protected: the
    protected attribute that it describes.
    """

    series: pl.Series
    declared: dict[str, Any]
    marks: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    protected: Protected | None = None


def infer_file_decimal(raw: pl.DataFrame, missing: Sequence[str]) -> Literal[".", ","] | None:
    """The decimal sign that the texts of a file prove; None where they prove none."""
    return numbers.infer_decimal([series.head(5_000) for series in raw if series.dtype == pl.String])


def infer_column(
    raw: pl.Series, declared: dict[str, Any], missing: Sequence[str], decimal: Literal[".", ","] | None
) -> ColumnInference:
    """Fill in what `declared` leaves open about a column. decimal: the sign that the rest of the file proves."""
    result = ColumnInference(_to_text_or_number(raw, declared), dict(declared))
    if result.series.dtype.is_integer() and not declared.keys() & {"kind", "levels"}:
        text = result.series.cast(pl.String)
        if dates.infer_date_form(text.drop_nulls(), raw.name).form:
            result.series = text
    known = _drop_missing(result, missing)
    if result.series.dtype == pl.String:
        _infer_text(result, known, missing, decimal)
    else:
        _infer_number(result, known)
    _infer_levels(result, missing)
    result.protected = find_protected(raw.name, result.declared.get("levels", ()))
    _exclude(result, missing)
    return result


def _to_text_or_number(series: pl.Series, declared: dict[str, Any]) -> pl.Series:
    """Numbers stay numbers, unless they are declared a category; dates and truth values become text."""
    if series.dtype.is_temporal():
        text = series.cast(pl.String)
        return text.str.replace(r"[ T]00:00:00(\.0+)?$", "")
    if series.dtype.is_numeric() and declared.get("kind") in ("category", "text"):
        text = series.cast(pl.String)
        return text.str.replace(r"\.0$", "") if series.dtype.is_float() else text
    return series if series.dtype.is_numeric() else series.cast(pl.String)


def _drop_missing(result: ColumnInference, missing: Sequence[str]) -> pl.Series:
    """The values that are known; a remark on marks that stand for the others."""
    series = result.series
    if series.dtype != pl.String:
        infinite = int(series.is_infinite().sum()) if series.dtype.is_float() else 0
        if infinite:
            result.remarks.append(f"{_rows(infinite)} infinity, which counts as missing.")
            series = series.set(series.is_infinite().fill_null(False), None)
        return series.drop_nulls()
    counts = count_marks(series, [mark for mark in missing if mark not in result.declared.get("levels", ())])
    if counts:
        examples = ", ".join(f"{mark!r} in {rows:,}" for mark, rows in list(counts.items())[:8])
        result.remarks.append(f"{_rows(sum(counts.values()))} a mark of a missing value: {examples}.")
    return series.filter(~missing_mask(series, missing) & series.is_not_null())


def _infer_text(
    result: ColumnInference, known: pl.Series, missing: Sequence[str], decimal: Literal[".", ","] | None
) -> None:
    """Dates, numbers as people write them, or texts."""
    declared, kind = result.declared, result.declared.get("kind")
    without_none = known.filter(~missing_mask(known, NONE_WORDS))
    if kind in (None, "text") and "levels" not in declared and "date_format" not in declared:
        date_form = dates.infer_date_form(without_none, result.series.name)
        if form := date_form.form:
            declared |= {"date_format": form, "kind": "text"}
            mixed = without_none.filter(dates.parse_dates(without_none, form).is_null())
            odd = without_none.filter(dates.parse_mixed(without_none, form).is_null())
            if mixed.len() > odd.len():
                others = _count(mixed.len() - odd.len(), "date is", "dates are")
                result.remarks.append(f"{others} written in another form, such as {mixed[0]!r}, and read as well.")
            if odd.len():
                result.remarks.append(_describe_odd(result.series, odd, "date"))
                result.marks += odd.unique(maintain_order=True).to_list()
            return
        if date_form.is_ambiguous:
            result.remarks.append(
                f"dates such as {without_none[0]!r} may begin with the day or the month. Declare date_format = "
                '"DD/MM/YYYY" or "MM/DD/YYYY".'
            )
            declared |= {"kind": "text"}
            return
    if kind in ("category", "text") or "levels" in declared:
        return
    is_code = numbers.has_leading_zeros(without_none) or numbers.has_long_digits(without_none)
    if kind is None and (is_code or not without_none.len()):
        return
    forms = numbers.infer_format(without_none.head(MAX_SAMPLE), decimal)
    number_format = NumberFormat.model_validate(declared.get("number_format", forms.format))
    first = without_none.head(FIRST_VALUES)
    if numbers.parse_numbers(first, number_format).null_count() * 2 > first.len():
        return  # texts: the others need not be looked at
    values = numbers.parse_numbers(without_none, number_format)
    odd = without_none.filter(values.is_null())
    if odd.len() > max(MAX_ODD_ROWS, MAX_ODD_SHARE * without_none.len()) or odd.len() * 2 > without_none.len():
        return
    declared |= {"kind": "number", "number_format": number_format}
    result.remarks += [f"numbers are {remark}." for remark in forms.remarks]
    if odd.len():
        result.remarks.append(_describe_odd(result.series, odd, "number"))
        result.marks += odd.unique(maintain_order=True).to_list()
    _infer_number(result, values.drop_nulls())


def _describe_odd(series: pl.Series, odd: pl.Series, kind: str) -> str:
    texts = odd.unique(maintain_order=True).to_list()
    rows = (series.is_in(texts).fill_null(False).arg_true() + 1).to_list()
    places = ", ".join(f"{row:,}" for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
    examples = ", ".join(repr(text[:40]) for text in texts[:5])
    count = _count(odd.len(), f"value is no {kind} and counts", f"values are no {kind}s and count")
    return f"{count} as missing: {examples} (rows {places})."


def _infer_number(result: ColumnInference, known: pl.Series) -> None:
    declared = result.declared
    if declared.setdefault("kind", "number") != "number" or not known.len():
        return
    declared.setdefault("number_format", NumberFormat())
    values = known.cast(pl.Float64)
    if "missing_codes" not in declared and (codes := find_sentinel_codes(values)):
        declared["missing_codes"] = tuple(codes)
        for code, rows in codes.items():
            share = rows / result.series.len()
            result.remarks.append(
                f"{code:.0f} stands in {share:.1%} of the rows, apart from all other values; it counts as missing. "
                "Declare missing_codes = [] if it is a true value."
            )
    values = values.filter(~values.is_in([float(code) for code in declared.get("missing_codes", ())]))
    if values.len() and "low" not in declared and float(values.min()) >= 0:  # type: ignore[arg-type]
        declared["low"] = 0  # no value is negative; an upper bound is for the owner to declare
    if values.len() and values.is_in([0.0, 1.0]).all():
        declared.setdefault("boolean", True)


def _infer_levels(result: ColumnInference, missing: Sequence[str]) -> None:
    """The levels of a category, or text where there are too many; numbers declared a category are named so too."""
    declared, series = result.declared, result.series
    if declared.get("kind") not in (None, "category"):
        return
    if "levels" in declared:
        declared["kind"] = "category"
        return
    if series.dtype != pl.String:
        result.series = series = series.cast(pl.String)
    known = strip_blanks(series.filter(~missing_mask(series, missing) & series.is_not_null()))
    distinct = known.n_unique()
    allowed = MAX_FREQUENT_LEVELS if known.len() >= distinct * MIN_LEVEL_ROWS else MAX_LEVELS
    if declared.get("kind") is None and not 0 < distinct <= allowed:
        _group_rare_levels(result, known, distinct)
        return
    levels = sorted({canonical_level(level) for level in known.unique()})
    if levels and all(re.fullmatch(r"-?\d+(\.\d+)?", level) for level in levels):
        levels.sort(key=float)
    declared |= {"kind": "category", "levels": tuple(levels)}


def _group_rare_levels(result: ColumnInference, known: pl.Series, distinct: int) -> None:
    """A category of the frequent levels, with one for all others; text where those are not most of the rows."""
    counts = known.value_counts(sort=True).filter(pl.col("count") >= MIN_LEVEL_ROWS).head(MAX_FREQUENT_LEVELS)
    levels = sorted({canonical_level(level) for level in counts[known.name]} - {OTHER_LEVEL})
    rows = int(counts["count"].sum())
    if len(levels) < 2 or rows < MIN_FREQUENT_SHARE * known.len():
        result.declared["kind"] = "text"
        return
    result.declared |= {"kind": "category", "levels": (*levels, OTHER_LEVEL), "other_level": OTHER_LEVEL}
    result.remarks.append(
        f"has {distinct:,} different texts; {len(levels):,} occur in {MIN_LEVEL_ROWS} rows or more and are levels, the "
        f"others ({known.len() - rows:,} rows) are joined as {OTHER_LEVEL!r}, as is any other text in service (to keep "
        'each, declare kind = "category").'
    )


def _exclude(result: ColumnInference, missing: Sequence[str]) -> None:
    """Give a column without information for a model the role of an id, with a remark."""
    declared = result.declared
    if "role" in declared:
        return
    reason = _exclusion_reason(result, missing)
    if reason:
        declared |= {"role": "id", "kind": "text", "levels": ()}
        for name in ("low", "missing_codes", "number_format", "boolean", "other_level"):
            declared.pop(name, None)
        if result.series.dtype != pl.String:
            result.series = result.series.cast(pl.String).str.replace(r"\.0$", "")
        result.remarks.insert(0, f"{reason}; {LEFT_OUT}")
    elif result.protected:
        declared["role"] = "audit"
        result.remarks.insert(0, f"describes {result.protected.name}, a protected attribute; {AUDITED}")


def _exclusion_reason(result: ColumnInference, missing: Sequence[str]) -> str | None:
    series, declared = result.series, result.declared
    known = series.drop_nulls()
    if known.dtype == pl.String:
        known = known.filter(~missing_mask(known, missing))
    if declared.get("date_format"):
        return f"contains dates ({declared['date_format']})"
    distinct = known.n_unique()
    if distinct <= 1:
        return "has no value" if distinct == 0 else f"has only one value ({' '.join(str(known[0]).split())[:60]})"
    identifier = _identifier_reason(series.name, known, distinct)
    if identifier:
        return identifier
    if distinct > MIN_NAMES and declared["kind"] in ("text", "category") and names_a_person(series.name):
        return "holds names or addresses of people"
    if declared["kind"] == "text":
        if distinct == known.len():
            return "differs in every row like an identifier"
        return f'has {distinct:,} different texts, too many for a category (to keep it, declare kind = "category")'
    return None


def _identifier_reason(name: str, known: pl.Series, distinct: int) -> str | None:
    digits = r"^\s*[0-9]+(?:[Xx]|\.0+)?\s*$"
    if not known.head(1_000).cast(pl.String).str.contains(digits).all():
        return None
    text = strip_blanks(known.cast(pl.String)).str.replace(r"\.0+$", "")
    if not text.str.contains(r"^[0-9]+[Xx]?$").all():
        return None
    if _is_id_card(text.head(1_000)):
        return "holds numbers of identity cards"
    if distinct < 0.9 * known.len() or known.len() < 20:
        return None
    if text.str.contains(r"^1[3-9][0-9]{9}$").all():
        return "holds numbers of mobile phones"
    if bool((text.str.len_chars() > numbers.MAX_EXACT_DIGITS).any()):
        return "holds long numbers like an identifier"
    lengths = text.str.len_chars()
    if lengths.min() == lengths.max() and int(lengths[0]) >= MIN_ID_DIGITS and distinct == known.len() >= MIN_ID_ROWS:
        return "holds numbers of one length that differ in every row like an identifier"
    values = text.str.strip_chars_end("Xx").cast(pl.Float64)
    is_sequence = float(values.max()) - float(values.min()) + 1 == known.len() == distinct  # type: ignore[arg-type]
    return "numbers the rows like an identifier" if is_sequence or ID_NAME.search(name) else None


def _is_id_card(text: pl.Series) -> bool:
    """Whether the texts are numbers of Chinese identity cards: 18 signs of which the last checks the others."""
    items = text.to_list()
    valid = sum(_has_check_digit(item) for item in items if ID_CARD.match(item))
    return len(items) >= 3 and valid >= 0.9 * len(items)


def _has_check_digit(number: str) -> bool:
    total = sum(weight * int(digit) for weight, digit in zip(ID_CARD_WEIGHTS, number[:17], strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def _count(count: int, singular: str, plural: str) -> str:
    return f"{count:,} {singular if count == 1 else plural}"


def _rows(count: int) -> str:
    return _count(count, "row has", "rows have")
