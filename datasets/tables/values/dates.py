"""Read dates in the forms of tables: 2023-01-04, 2023/1/4, 20230104, 2023年1月4日, 04.01.2023, 45012 in Excel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

import polars as pl

from datasets.tables.values.marks import strip_blanks

FIRST_YEAR, LAST_YEAR = 1900, 2100
EXCEL_EPOCH = date(1899, 12, 30)
_TIME = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}|[A-Z]{2,5}))?)?"
# name -> pattern with groups for year, month and day, in that order of names
FORMS: dict[str, tuple[str, str]] = {
    "YYYY-MM-DD": (rf"^(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){_TIME}$", "ymd"),
    "YYYY-MM": (r"^(\d{4})[-/.](\d{1,2})$", "ym"),
    "YYYYMMDD": (r"^((?:19|20)\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?:\.0)?$", "ymd"),
    "YYYY年MM月DD日": (rf"^(\d{{4}})年(\d{{1,2}})月(\d{{1,2}})[日号]?{_TIME}$", "ymd"),
    "YYYY年MM月": (r"^(\d{4})年(\d{1,2})月$", "ym"),
    "DD.MM.YYYY": (rf"^(\d{{1,2}})\.(\d{{1,2}})\.(\d{{4}}){_TIME}$", "dmy"),
    "DD/MM/YYYY": (rf"^(\d{{1,2}})[/-](\d{{1,2}})[/-](\d{{4}}){_TIME}$", "dmy"),
    "MM/DD/YYYY": (rf"^(\d{{1,2}})[/-](\d{{1,2}})[/-](\d{{4}}){_TIME}$", "mdy"),
    "DD-Mon-YYYY": (r"^(\d{1,2})[- ]([A-Za-z]{3,9})\.?[- ,]+(\d{4})$", "dmy"),
    "Mon DD, YYYY": (r"^([A-Za-z]{3,9})\.? (\d{1,2}),? (\d{4})$", "mdy"),
    "Mon-YY": (r"^([A-Za-z]{3})-(\d{2})$", "my"),
}
EXCEL_SERIAL = "Excel serial"
DATE_FORMS = (*FORMS, EXCEL_SERIAL)
# Forms that no other is like: a column of dates may mix them, as Excel does where it knows some dates and not others.
UNAMBIGUOUS = ("YYYY-MM-DD", "YYYYMMDD", "YYYY年MM月DD日", "YYYY-MM", "YYYY年MM月", EXCEL_SERIAL)
_MONTHS = {name: number for number, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}  # fmt: skip
_DATE_NAMES = r"(?i)date|time|_dt$|_at$|day$|month$|日期|时间|年月|日$|month_|period|serial"
_MIN_REPEATED = 10_000  # values of a column of which each different one is parsed once
_SAMPLE = 50  # values by which a form is considered at all
_MIN_SHARE = 0.99  # of the values that must be dates for a column to be one of dates
_MIN_MAIN_SHARE = 0.05  # of the values that must have the main form where several are mixed


def parse_dates(text: pl.Series, form: str) -> pl.Series:
    """Dates; null for a text that is none in this form. A month is its first day."""
    if text.len() < _MIN_REPEATED:
        return _parse_each(text, form)
    distinct = text.drop_nulls().unique()  # a column of dates has few
    if distinct.len() * 2 > text.len():
        return _parse_each(text, form)
    return text.replace_strict(distinct, _parse_each(distinct, form), default=None, return_dtype=pl.Date)


def _parse_each(text: pl.Series, form: str) -> pl.Series:
    text = strip_blanks(text.str.normalize("NFKC"))
    if form == EXCEL_SERIAL:
        days = text.str.extract(r"^(\d{5})(?:\.\d+)?$").cast(pl.Int32, strict=False)
        return pl.select(pl.lit(EXCEL_EPOCH) + pl.duration(days=pl.lit(days))).to_series().rename(text.name)
    pattern, order = FORMS[form]
    groups = text.str.extract_groups(pattern).struct.unnest()
    parts = {name: groups.to_series(index) for index, name in enumerate(order)}
    month = parts["m"]
    if month.str.contains("[A-Za-z]").any():
        month = month.str.to_lowercase().str.slice(0, 3).replace_strict(_MONTHS, default=None, return_dtype=pl.Int64)
    year = parts["y"].cast(pl.Int32, strict=False)
    if form == "Mon-YY":
        year = year + pl.Series([2000 if two <= 68 else 1900 for two in year.fill_null(0)], dtype=pl.Int32)
    columns = pl.DataFrame({
        "y": year,
        "m": month.cast(pl.Int8, strict=False),
        "d": parts["d"].cast(pl.Int8, strict=False) if "d" in parts else pl.Series([1] * text.len(), dtype=pl.Int8),
    })  # fmt: skip
    texts = columns.select(pl.format("{}-{}-{}", *(pl.col(name) for name in "ymd"))).to_series()
    return texts.str.to_date("%Y-%m-%d", strict=False).rename(text.name)


@dataclass(frozen=True)
class DateForm:
    """form: in which the values of a column are dates; None where they are none.

    is_ambiguous: they are dates, but either of the first two numbers may be the month.
    """

    form: str | None
    is_ambiguous: bool = False


def infer_date_form(text: pl.Series, name: str = "") -> DateForm:
    """The form of a column's dates. Whole numbers count as dates only where all lie in a plausible span; 45012 also
    needs a heading about dates.
    """
    shares = _shares(text)
    form, share = max(shares.items(), key=lambda item: item[1], default=("", 0.0))
    is_ambiguous = 0 < shares.get("DD/MM/YYYY", 0.0) == shares.get("MM/DD/YYYY") == share
    if share >= _MIN_SHARE:
        return DateForm(None if is_ambiguous else form, is_ambiguous)
    if share >= _MIN_MAIN_SHARE and not is_ambiguous and _mixed_share(text, form) >= _MIN_SHARE:
        return DateForm(form)
    if not re.search(_DATE_NAMES, name):
        return DateForm(None)
    values = text.drop_nulls()
    is_serial = values.len() > 1 and bool(values.str.contains(r"^\s*[2-5][0-9]{4}(?:\.\d+)?\s*$").all())
    return DateForm(EXCEL_SERIAL if is_serial else None)


def _shares(text: pl.Series) -> dict[str, float]:
    """Form -> share of the values that are dates in it, for the forms that some of the first values have."""
    known = text.drop_nulls()
    sample = strip_blanks(known.head(_SAMPLE)).str.normalize("NFKC")
    forms = [form for form, (pattern, _) in FORMS.items() if sample.str.contains(pattern).any()]
    if not forms:
        return {}
    values = known.head(100_000).unique(maintain_order=True).head(20_000)
    return {form: _share(values, form) for form in forms}


def _mixed_share(text: pl.Series, form: str) -> float:
    values = text.drop_nulls().head(100_000).unique(maintain_order=True).head(20_000)
    return _span_share(parse_mixed(values, form))


def _share(values: pl.Series, form: str) -> float:
    return _span_share(parse_dates(values, form))


def _span_share(days: pl.Series) -> float:
    in_span = days.is_between(date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 1, 1)).fill_null(False)
    return float(in_span.mean())  # type: ignore[arg-type]


def parse_mixed(text: pl.Series, form: str) -> pl.Series:
    """Dates; a text that is none in `form` may have one of the forms that cannot be taken for another."""
    days = parse_dates(text, form)
    for other in UNAMBIGUOUS:
        odd = (days.is_null() & text.is_not_null()).arg_true()
        if not odd.len():
            break
        if other != form:
            days = days.scatter(odd, parse_dates(text.gather(odd), other))
    return days


def to_iso(text: pl.Series, form: str) -> pl.Series:
    """Dates as YYYY-MM-DD, which sort as they follow each other; null for a text that is none."""
    return parse_mixed(text, form).cast(pl.String)


def to_days(iso: pl.Series) -> pl.Series:
    """Days since 1970-01-01 as Float64, from dates as YYYY-MM-DD; null where there is none."""
    return iso.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Float64)
