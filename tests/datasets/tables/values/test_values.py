"""Numbers, dates and marks of missing values are read as people write them, and as nothing else."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.tables.values import dates, marks, numbers
from datasets.tables.values.dates import DateForm
from datasets.tables.values.numbers import NumberFormat

GROUPED, COMMA = NumberFormat(grouped=True), NumberFormat(decimal=",", grouped=True)


@pytest.mark.parametrize(
    ("text", "format", "value"),
    [
        ("1,234.50", GROUPED, 1_234.5),
        ("1,234,567", GROUPED, 1_234_567),
        ("12,34,567", GROUPED, 1_234_567),  # as in India
        ("1.234,50", COMMA, 1_234.5),
        ("12,5", COMMA, 12.5),
        ("1.234", COMMA, 1_234),
        ("1.234", NumberFormat(decimal=","), 1.234),  # as machines write it
        ("17.59%", NumberFormat(), 0.1759),
        ("3.2 ‰", NumberFormat(), 0.0032),
        ("8.87万", NumberFormat(), 88_700),
        ("2.5亿元", NumberFormat(), 250_000_000),
        ("￥1,200", GROUPED, 1_200),
        ("-¥5", NumberFormat(), -5),
        ("€ 3,000.00", GROUPED, 3_000),
        ("300 元", NumberFormat(), 300),
        ("（300）", NumberFormat(), -300),
        ("(1,200.5)", GROUPED, -1_200.5),
        ("300-", NumberFormat(), -300),
        ("(-300)", NumberFormat(), -300),
        ("rmb 1,200", GROUPED, 1_200),
        ("约1.2万元", NumberFormat(), 12_000),
        ("１２，３４５．５", GROUPED, 12_345.5),
        ("1'234'567.5", NumberFormat(), 1_234_567.5),
        ("\u00a01 234,5 ", COMMA, 1_234.5),
        ("−5", NumberFormat(), -5),
        ("1e5", NumberFormat(), 1e5),
    ],
)
def test_a_number_as_people_write_it_is_read(text, format, value):
    assert numbers.parse_numbers(pl.Series([text]), format).to_list() == [value]


@pytest.mark.parametrize(
    "text", ["", "-", "abc", "1,23", "1,2345", "12 days", "%", "万", "1.2.3", "inf", "nan", "1e999", "()"]
)
@pytest.mark.parametrize("format", [None, NumberFormat(), GROUPED])
def test_what_is_no_number_is_none(text, format):
    assert numbers.parse_numbers(pl.Series([text]), format).to_list() == [None]


@given(value=st.floats(-1e12, 1e12), form=st.sampled_from(["{:,.2f}", "{:.2f}", "{:.3f}%", " {:.1f} ", "￥{:,.2f}"]))
def test_a_number_keeps_its_decimals_in_every_form(value, form):
    text = form.format(value)
    digits = text.strip(" ￥%").replace(",", "")
    expected = float(f"{digits}e-2") if "%" in form else float(digits)
    assert numbers.parse_numbers(pl.Series([text]), GROUPED).to_list() == [expected]


@pytest.mark.parametrize(
    ("texts", "format"),
    [
        (["12,5", "3,75", "1.234,5"], COMMA),
        (["1,234", "5,678.5"], GROUPED),
        (["0,5", "12,25"], NumberFormat(decimal=",")),
        (["1.5", "2"], NumberFormat()),
        (["1,234", "5,678"], GROUPED),
    ],
)
def test_the_decimal_sign_is_proven_by_the_values(texts, format):
    assert numbers.infer_format(pl.Series(texts)).format == format


def test_the_rest_of_the_file_decides_where_a_column_proves_nothing():
    assert numbers.infer_format(pl.Series(["1,234", "5,678"]), ",").format == NumberFormat(decimal=",")
    assert numbers.infer_format(pl.Series(["1.234", "5.678"]), ",").format == COMMA


@pytest.mark.parametrize(
    ("texts", "form", "first"),
    [
        (["2023-01-04", "2023-11-30"], "YYYY-MM-DD", date(2023, 1, 4)),
        (["2023/1/4", "2023/10/2 08:30:00"], "YYYY-MM-DD", date(2023, 1, 4)),
        (["20230104", "20231130"], "YYYYMMDD", date(2023, 1, 4)),
        (["2023年1月4日", "2023年11月30日"], "YYYY年MM月DD日", date(2023, 1, 4)),
        (["04.01.2023", "30.11.2023"], "DD.MM.YYYY", date(2023, 1, 4)),
        (["04/01/2023", "30/11/2023"], "DD/MM/YYYY", date(2023, 1, 4)),
        (["01/04/2023", "11/30/2023"], "MM/DD/YYYY", date(2023, 1, 4)),
        (["4-Jan-2023", "30-Nov-2023"], "DD-Mon-YYYY", date(2023, 1, 4)),
        (["2023年1月", "2023年11月"], "YYYY年MM月", date(2023, 1, 1)),
        (["2023-01", "2023-11"], "YYYY-MM", date(2023, 1, 1)),
        (["Jan-23", "Nov-23"], "Mon-YY", date(2023, 1, 1)),
        (["45012", "45013"], "Excel serial", date(2023, 3, 27)),
    ],
)
def test_a_date_in_every_common_form_is_read(texts, form, first):
    assert dates.infer_date_form(pl.Series(texts), "apply_date").form == form
    assert dates.parse_dates(pl.Series(texts), form)[0] == first


def test_what_may_be_two_dates_or_none_is_not_guessed():
    assert dates.infer_date_form(pl.Series(["01/04/2023", "02/05/2023"])) == DateForm(None, is_ambiguous=True)
    assert dates.infer_date_form(pl.Series(["45012", "38000"]), "income") == DateForm(None)
    assert dates.infer_date_form(pl.Series(["20231345", "20230104"])) == DateForm(None)


def test_codes_apart_from_all_other_values_are_recognised_and_no_others():
    ages = [*range(20, 80)] * 2
    assert marks.find_sentinel_codes(pl.Series([*ages, *[-9999] * 5])) == {-9999.0: 5}
    assert marks.find_sentinel_codes(pl.Series([*ages, *[99999999] * 5, *[-99] * 4])) == {99999999.0: 5, -99.0: 4}
    assert marks.find_sentinel_codes(pl.Series([*range(100)] * 3)) == {}  # 99 is an age
    assert marks.find_sentinel_codes(pl.Series([*range(-9_990, 9_990, 90), *[-9999] * 5])) == {}


@pytest.mark.parametrize("text", ["", "NULL", "\\N", "None", "-", "无", "N/A", "0", " ; ", "无;"])
def test_a_word_for_none_is_no_code(text):
    assert marks.split_codes(text) == []
    assert marks.split_codes(f"wanted; {text}；fraud") == ["wanted", "fraud"]


def test_a_number_without_the_percent_sign_of_the_others_is_remarked():
    remarks = numbers.infer_format(pl.Series(["12%", "12", "3.5%", None])).remarks
    assert "1 without the percent sign of the others, read as they stand ('12')" in remarks


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["45012", "2023/3/27", "45014", "45015"], ["2023-03-27", "2023-03-27", "2023-03-29", "2023-03-30"]),
        (["20230401", "2023年4月2日", "2023-04-03 00:00:00"], ["2023-04-01", "2023-04-02", "2023-04-03"]),
        (["01/13/2023", "02/14/2023", "45012"], ["2023-01-13", "2023-02-14", "2023-03-27"]),
    ],
)
def test_serial_numbers_and_texts_of_dates_may_be_mixed(texts, days):
    series = pl.Series("放款日期", texts)
    form = dates.infer_date_form(series, "放款日期").form
    assert form is not None
    assert dates.to_iso(series, form).to_list() == days


def test_numbers_beside_a_few_dates_are_no_dates():
    assert dates.infer_date_form(pl.Series("amount", ["45012", "38000", "99000", "120000"] * 20), "amount").form is None
    assert dates.infer_date_form(pl.Series("amount", ["45012", "2023-01-04"] + ["12"] * 98), "amount").form is None


@pytest.mark.parametrize(
    ("texts", "suffix", "values"),
    [
        (["3次", "0次", "12 次", "5"], "次", [3, 0, 12, 5]),
        (["36个月", "１２个月", " 6个月 "], "个月", [36, 12, 6]),
        (["1,200.5亩", "30亩", "2亩"], "亩", [1200.5, 30, 2]),
        (["12 months", "6 months", "24 months"], "months", [12, 6, 24]),
        (["2次", "-3次", "1.2万次"], "次", [2, -3, None]),
    ],
)
def test_a_unit_behind_the_digits_is_learned_and_no_other_is_taken_for_it(texts, suffix, values):
    series = pl.Series(texts)
    format = numbers.infer_format(series).format
    assert format.suffix == suffix
    assert numbers.parse_numbers(series, format).to_list() == values
    assert numbers.parse_numbers(pl.Series(["3年", "3 weeks", "7"]), format).to_list() == [None, None, 7]


@pytest.mark.parametrize("texts", [["1年", "6个月", "2年"], ["1类", "2类", "3类"], ["3A", "4B"]])
def test_units_that_differ_and_words_that_are_no_units_make_no_numbers(texts):
    series = pl.Series(texts)
    assert numbers.parse_numbers(series, numbers.infer_format(series).format).null_count() == 3 - (len(texts) < 3)
