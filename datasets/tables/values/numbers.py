"""Read numbers as people write them: 1,234.00, 12,5, 3.2 %, 1.2万, ￥1,200, full-width digits, (300) for -300."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from datasets.tables.values.marks import strip_blanks

CURRENCIES = r"(?i:CNY|RMB|USD|EUR|HKD|NT\$|US\$|人民币|[¥￥$€£])"
# unit -> exponent: put behind the digits, it gives the nearest number, which a multiplication would not
UNITS = {"%": "e-2", "‰": "e-3", "万": "e4", "万元": "e4", "亿": "e8", "亿元": "e8", "百万": "e6", "千": "e3", "元": ""}
GROUPED = {
    ".": r"^-?[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d+)?$",
    ",": r"^-?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?$",
}
COUNTED = (
    "个月", "月", "年", "天", "日", "岁", "周岁", "次", "笔", "户", "人", "件", "头", "只", "棵", "株", "亩", "公顷",
    "平方米", "平米", "㎡", "吨", "公斤", "千克", "months?", "years?", "days?", "times", "persons?",
)  # fmt: skip
_COUNTED = rf"(?i)\d\s*({'|'.join(COUNTED)})\s*$"
PLAIN = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
TRUTH = {"true": 1.0, "false": 0.0}
MAX_VOTES = 1_000  # values of a column by which its decimal sign is told
MAX_EXACT_DIGITS = 15  # of a number that a float64, and Excel, still holds digit by digit


class NumberFormat(BaseModel):
    """How a column's numbers are written as text, beyond what a machine writes.

    decimal: the sign before the decimals. grouped: whether the other sign divides the digits into groups. suffix: what
    is counted, written behind the digits of some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: Literal[".", ","] = "."
    grouped: bool = False
    suffix: str = ""


PLAIN_FORMAT = NumberFormat()


@dataclass(frozen=True)
class NumberForms:
    """What was found in a column of texts. remarks: the forms by name, with an example each."""

    format: NumberFormat
    remarks: tuple[str, ...] = ()


def parse_plain(text: pl.Series) -> pl.Series:
    """Numbers as machines write them, as Float64; null for every other text, infinity included."""
    values = text.cast(pl.Float64, strict=False)
    if values.null_count() > text.null_count():
        retry = strip_blanks(text)
        values = retry.set(~retry.str.contains(PLAIN).fill_null(False), None).cast(pl.Float64, strict=False)
    return values.set(~values.is_finite().fill_null(True), None) if values.len() else values


def parse_numbers(text: pl.Series, format: NumberFormat | None = None) -> pl.Series:
    """Numbers as Float64; null for a text that is none. format: None takes numbers as machines write them alone."""
    values = text.cast(pl.Float64, strict=False)
    is_grouped_plain = format is not None and format.decimal == "," and format.grouped
    if is_grouped_plain or values.null_count() > text.null_count() or not values.is_finite().all():
        values = parse_plain(text)
    if format is None or (values.null_count() == text.null_count() and not is_grouped_plain):
        return values
    open_rows = (text.is_not_null() & values.is_null()) | (
        text.str.contains(r"^\s*-?[1-9]\d{0,2}(?:\.\d{3})+\s*$").fill_null(False) if is_grouped_plain else False
    )
    parsed = _parse_written(_without_suffix(text.filter(open_rows), format.suffix), format)
    return values.scatter(open_rows.arg_true(), parsed) if open_rows.any() else values


def _without_suffix(text: pl.Series, suffix: str) -> pl.Series:
    return text.str.replace(rf"(\d)\s*{re.escape(suffix)}\s*$", "${1}") if suffix else text


def _find_suffix(odd: pl.Series) -> str:
    """What the texts count, where all that count anything count the same: "3次", "12 months"."""
    suffixes = odd.str.extract(_COUNTED, 1).drop_nulls()
    distinct = suffixes.unique()
    return str(distinct[0]) if distinct.len() == 1 and suffixes.len() * 2 >= odd.len() else ""


def _parse_written(text: pl.Series, format: NumberFormat) -> pl.Series:
    number, exponent, sign = _strip_form(text)
    if format.grouped:
        is_grouped = number.str.contains(GROUPED[format.decimal]).fill_null(False)
        ungrouped = number.str.replace_all("," if format.decimal == "." else ".", "", literal=True)
        number = ungrouped.zip_with(is_grouped, number)
    if format.decimal == ",":
        has_comma = number.str.contains(r"^[+-]?\d*,\d+$").fill_null(False)
        number = number.str.replace(",", ".", literal=True).zip_with(has_comma, number)
    is_plain = number.str.contains(PLAIN).fill_null(False)
    scaled = number.set(~is_plain, None) + exponent
    values = scaled.cast(pl.Float64, strict=False) * sign
    return values.set(values.is_infinite().fill_null(False), None)


def _strip_form(text: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """(digits with their signs, exponent of the unit, -1 where brackets or a minus at the end say so)."""
    number = text.str.normalize("NFKC").str.replace_all(r"[\s\u200b\ufeff'’]", "").str.replace_all("[−–]", "-")
    number = number.str.replace(r"^(?:约|大约|[~≈])", "").str.replace(r"^\(-(.+)\)$", "(${1})")
    number = number.str.replace(rf"^([(+-]?){CURRENCIES}", "${1}").str.replace(rf"{CURRENCIES}(\)?)$", "${1}")
    is_negative = number.str.contains(r"^\(.+\)$|^[^-].*\d-$").fill_null(False)
    number = number.str.replace(r"^\((.+)\)$", "${1}").str.replace(r"^([^-].*\d)-$", "${1}")
    number = number.str.replace(rf"^{CURRENCIES}", "")
    unit = number.str.extract(r"(%|‰|万元|亿元|万|亿|百万|千|元)$")
    number = number.str.replace(r"(%|‰|万元|亿元|万|亿|百万|千|元)$", "")
    exponent = unit.replace_strict(UNITS, default="", return_dtype=pl.String).fill_null("")
    sign = is_negative.cast(pl.Float64) * -2.0 + 1.0
    return number, exponent, sign


def infer_decimal(columns: list[pl.Series]) -> Literal[".", ","] | None:
    """The decimal sign that the numbers of a file as a whole prove; None where nothing does."""
    votes = {".": 0, ",": 0}
    for text in columns:
        sample = text.head(MAX_VOTES)
        if not sample.str.contains(r"\d,\d").any():
            votes["."] += bool(sample.str.contains(r"^\s*[+-]?(?:\d{4,}\.\d+|\d+\.(?:\d{1,2}|\d{4,}))\s*$").any())
            continue
        column_votes = _decimal_votes(sample)
        votes["."] += column_votes["."] > column_votes[","]
        votes[","] += column_votes[","] > column_votes["."]
    return None if votes["."] == votes[","] else "." if votes["."] > votes[","] else ","


def _decimal_votes(text: pl.Series) -> dict[str, int]:
    number = _strip_form(text.filter(text.str.contains(r"\d[.,]\d").fill_null(False)).head(5_000))[0]
    return {
        ".": int(number.str.contains(r"^[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)\.(?:\d{1,2}|\d{4,})$").sum())
        + int(number.str.contains(r"^[+-]?(?:0|\d{4,})\.\d+$|^\d{1,3}(?:,\d{3}){2,}$").sum()),
        ",": int(number.str.contains(r"^[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),(?:\d{1,2}|\d{4,})$").sum())
        + int(number.str.contains(r"^[+-]?(?:0|\d{4,}),\d+$|^\d{1,3}(?:\.\d{3}){2,}$").sum()),
    }


def infer_format(text: pl.Series, file_decimal: Literal[".", ","] | None = None) -> NumberForms:
    """How the numbers among some texts are written. file_decimal: of the other columns, where this one proves none."""
    odd = text.filter(text.is_not_null() & parse_plain(text).is_null())
    if not odd.len() and file_decimal != ",":
        return NumberForms(PLAIN_FORMAT)  # as machines write them: the common case
    if suffix := _find_suffix(odd):
        forms = infer_format(_without_suffix(text, suffix), file_decimal)
        example = odd.filter(odd.str.contains(_COUNTED))[0]
        format = forms.format.model_copy(update={"suffix": suffix})
        return NumberForms(format, (f"written with the unit {suffix!r} ({example!r})", *forms.remarks))
    dotted = text.filter(text.str.contains(r"^\s*-?[1-9]\d{0,2}(?:\.\d{3})+\s*$").fill_null(False))
    votes = _decimal_votes(text)
    proven: Literal[".", ","] | None = "." if votes["."] > votes[","] else "," if votes[","] > votes["."] else None
    decimal = proven or file_decimal or "."
    number = _strip_form(odd)[0]
    grouped = number.str.contains(GROUPED[decimal]).fill_null(False)
    is_grouped = bool(grouped.any()) or (decimal == "," and dotted.len() > 0)
    remarks = []
    if is_grouped:
        example = odd.filter(grouped).head(1).to_list() or dotted.head(1).to_list()
        remarks.append(f"written with thousands signs ({example[0]!r})")
        if proven is None and file_decimal is None:
            remarks.append(f"{example[0]!r} may also be a number with decimals; it is read as thousands")
    if decimal == "," and (commas := odd.filter(number.str.contains(r"\d,\d+$").fill_null(False))).len():
        remarks.append(f"written with decimal commas ({commas[0]!r})")
    for label, pattern in _FORMS:
        if (matches := odd.filter(odd.str.contains(pattern).fill_null(False))).len():
            remarks.append(f"{label} ({matches[0]!r})")
    if (percent := odd.filter(odd.str.contains("[%％‰]").fill_null(False))).len() < text.drop_nulls().len():
        bare = text.filter(parse_plain(text).is_not_null())
        if percent.len() and bare.len():
            remarks.append(f"{bare.len():,} without the percent sign of the others, read as they stand ({bare[0]!r})")
    return NumberForms(NumberFormat(decimal=decimal, grouped=is_grouped), tuple(remarks))


_FORMS = (
    ("written with percent signs and read as shares", "[%％]"),
    ("written in per mille and read as shares", "‰"),
    ("written in 万 and read in units", "万"),
    ("written in 亿 and read in units", "亿"),
    ("written with a currency", CURRENCIES),
    ("written in full-width digits", "[０-９]"),
    ("written with brackets for negative numbers", r"^\s*[(（].*[)）]\s*$"),
    ("said to be approximate and read as they stand", "^\\s*(?:约|大约|[~≈])"),
)


def has_long_digits(text: pl.Series) -> bool:
    """Whether some whole numbers have more digits than a float64 holds."""
    return bool(text.str.contains(rf"^\s*[+-]?\d{{{MAX_EXACT_DIGITS + 1},}}\s*$").any())


def has_leading_zeros(text: pl.Series) -> bool:
    return bool(text.str.contains(r"^\s*0\d+\s*$").any())


def number_as_text(value: float) -> str:
    """1.0 -> "1": the name of a level that a program wrote as a number."""
    return str(int(value)) if value == int(value) else repr(value)


def canonical_level(value: object) -> str:
    """A value of a category as the text of a level: True -> "true", 1.0 -> "1", " a " -> "a"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_as_text(float(value)) if abs(value) < 2**53 else str(value)
    text = str(value).strip()
    return text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text.lower() if text.lower() in TRUTH else text
