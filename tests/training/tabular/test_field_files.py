"""Tables as banks send them, reported to other projects: each is read right, or refused in a sentence."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from datasets.errors import DataError
from datasets.tables.reader import read_raw
from tests.paths import FIELD_CASES
from training import pipeline
from training.config import ConfigError
from training.credit_limit import RECIPE
from training.progress import ProgressReporter
from training.tabular.config_draft import draft_config
from training.tabular.pipeline import TabularPipeline
from training.tabular.user_table import UserTable, UserTableConfig, read_user_table

pytestmark = pytest.mark.skipif(not FIELD_CASES.is_dir(), reason="no folder of reported files")

SMALL = """
[estimator]
trees = 20
folds = 2
[judge]
resamples = 20
scorecard = false
unconstrained = false
plots = {plots}
"""
NUMBERS = {"income", "debts", "months", "late"}
LOANS = {
    "A15_LOANS.CSV": "UTF-8, ','",
    "a15_loans.csv.gz": "gzip",
    "a15_loans.parquet.gzip": "Parquet",
    "a15_loans.pq": "Parquet",
    "a15_loans.tsv": "a tab",
    "a15_loans.txt": "UTF-8, ','",
    "a16_cr_only.csv": "carriage returns",
    "a16_gb18030.csv": "GB18030",
    "a16_gbk_values_ascii_heading.csv": "GB18030",
    "a16_semicolons.csv": "';'",
    "a16_semicolons_whole_numbers.csv": "';'",
    "a16_sep_line.csv": "1 line(s) above the header",
    "a16_utf16.csv": "UTF-16",
    "a16_utf8_bom.csv": "byte order mark",
    "a23_spark.parquet": "Parquet in 3 parts",
}


def config(name: str, target: str = "outcome", bad: str = "unpaid", **fields) -> UserTableConfig:
    return UserTableConfig(file=FIELD_CASES / name, target=target, positive_labels=(bad,), simulated=True, **fields)


def read(name: str, **fields) -> UserTable:
    return read_user_table(config(name, **fields))


def left_out(table: UserTable) -> set[str]:
    return {column.name for column in table.table.columns if column.role == "id"}


def train(source: Path, var: Path):
    with ProgressReporter(quiet=True) as reporter:
        return pipeline.train(RECIPE, TabularPipeline, RECIPE.load(source), var, reporter)


def train_draft(name: str, folder: Path, plots: bool = False):
    path = folder / "loans.toml"
    text = draft_config(config(name), "credit_limit") + SMALL.format(plots=str(plots).lower())
    path.write_text(text, encoding="utf-8")
    return train(path, folder / "var")


@pytest.mark.parametrize("name", LOANS)
def test_a_file_of_any_encoding_delimiter_and_name_is_the_same_table(name):
    table = read(name)
    assert LOANS[name] in table.format
    assert {column.name for column in table.table.indicators if column.kind == "number"} == NUMBERS
    rows = 1_200 if "spark" in name else 300
    assert table.frame.height == rows
    assert table.frame.select(pl.sum("income")).item() > 1e6 / 300 * rows
    if name == "a16_gbk_values_ascii_heading.csv":
        assert table.table["crop"].levels == ("对虾", "杨梅", "水稻", "茶叶")


def test_bytes_nan_booleans_durations_and_decimals_of_parquet_are_read():
    assert read("a06_text_as_bytes.parquet").table["crop"].levels == ("bayberry", "prawns", "rice", "tea")
    gaps = read("a07_nan_not_null.parquet")
    assert {gaps.table[name].kind for name in ("income", "late")} == {"number"}
    assert gaps.frame["income"].null_count() > 0
    assert not gaps.frame["income"].is_nan().any()
    assert read("a18_boolean.parquet").table["has_guarantor"].levels == ("false", "true")
    types = read("a28_parquet_types.parquet", bad="true")
    assert types.table["took"].kind == types.table["amount"].kind == "number"
    assert types.frame["took"].max() == pytest.approx(37.4583, abs=1e-3)
    assert left_out(types) == {"when", "day", "nothing"}


def test_one_infinity_is_missing_and_reported():
    table = read("a08_one_inf.csv")
    assert table.table["debt_to_income"].kind == "number"
    assert table.frame["debt_to_income"].null_count() == 1
    assert "'inf' in 1" in table.column_remarks["debt_to_income"]


def test_marks_of_missing_values_are_gaps_and_counted():
    table = read("a09_marks_of_missing.csv")
    names = [column.name for column in table.table.indicators if column.kind == "number"]
    assert {*names} == NUMBERS | {"ratio", "score", "assets", "rent", "tax"}
    assert all(table.frame[name].null_count() >= 3 for name in ("ratio", "score", "assets", "rent", "tax"))
    assert "'#DIV/0!' in 3" in table.column_remarks["ratio"]


def test_numbers_as_people_write_them_are_numbers():
    table = read("a10_numbers_as_people_write_them.csv")
    first = table.frame.row(0, named=True) | {"brackets": table.frame["brackets"][1]}
    assert first["thousands"] == first["yuan"] == first["padded"] == first["full_width"] == 65_435
    assert (first["percent"], first["wan"], first["comma"]) == (0.1759, 65_400, 9_347.86)
    assert first["brackets"] == -64_870
    assert "thousands signs" in table.column_remarks["thousands"]


def test_numbers_that_name_people_and_dates_are_left_out():
    people = left_out(read("a11_numbers_that_name_people.csv"))
    assert people == {"身份证号", "手机号", "合同编号", "cust_no", "loan_no"}
    table = read("a13_dates.csv")
    dates = {"yyyymmdd", "excel_serial", "slashes", "chinese", "german", "american"}
    assert left_out(table) == dates | {"loan_no"}
    assert all(table.frame[name][0] == "2022-02-18" for name in dates)


def test_a_split_by_slash_dates_tests_the_last_quarter(tmp_path):
    model = train(FIELD_CASES / "a14_split_by_slash_dates.toml", tmp_path / "var")
    card = (model.bundle_dir / "card.json").read_text(encoding="utf-8")
    days = pl.read_csv(FIELD_CASES / "a14_split_by_slash_dates.csv")["apply_date"].str.to_date("%Y/%m/%d").sort()
    start = re.search(r"test from (\S+?)[\",]", card)[1]
    assert abs((days < date.fromisoformat(start)).mean() - 0.75) < 0.02


def test_a_float_target_takes_1():
    assert read("a17_float_target.csv", target="y", bad="1").frame["y"].sum() > 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a22_one_empty_column.csv", "1 column has no name and no value; it is left out."),
        ("a22_two_empty_columns.csv", "2 columns have no name and no value; they are left out."),
    ],
)
def test_columns_without_a_name_and_values_are_left_out(name, sentence):
    assert sentence in read(name).remarks


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a22_heading_twice.csv", "names 'income' twice"),
        ("a24_no_bytes.csv", "is empty"),
        ("a24_no_rows.csv", "0 row"),
        ("a24_no_rows.parquet", "0 row"),
    ],
)
def test_a_file_without_rows_or_with_a_heading_twice_is_refused(name, sentence):
    with pytest.raises(DataError, match=sentence):
        read(name)


@pytest.mark.parametrize(
    "name", ["a25_200_rows_1_bad.csv", "a25_200_rows_20_bad.csv", "a25_6000_rows_30_bad.csv", "a25_no_signal.csv"]
)
def test_few_rows_few_bad_ones_and_no_signal_end_in_a_model_or_a_sentence(name, tmp_path):
    try:
        sentence = str(train_draft(name, tmp_path).verdict and "trained.")
    except DataError as error:
        sentence = str(error)
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "name",
    [
        "a01_names_differ_in_a_sign.csv",
        "a02_long_heading.csv",
        "a29_line_break_in_heading.csv",
        "a33_two_dollars.csv",
        "a37_chinese_headings.csv",
    ],
)
@pytest.mark.filterwarnings("error:Glyph")
def test_any_heading_trains_and_is_drawn(name, tmp_path):
    model = train_draft(name, tmp_path, plots=True)
    assert len(list(model.card_path.parent.glob("plots/*.png"))) >= 8
    recorded = (model.card_path.parent / "config.json").read_text(encoding="utf-8")
    for heading in ("逾期>30天次数", "逾期<30天次数") if name.startswith("a01") else ():
        assert heading in recorded


def test_a_drafted_config_is_toml_whatever_the_table_holds():
    for name in ("a03_constant_with_line_break.csv", "a04_colon_in_heading.csv", "a02_long_heading.csv"):
        drafted = tomllib.loads(draft_config(config(name), "credit_limit"))
        assert drafted["table"]["columns"]
    assert left_out(read("a03_constant_with_line_break.csv")) == {"loan_no", "remark"}
    assert left_out(read("a04_colon_in_heading.csv")) == {"loan_no", "备注: 客户经理"}


def test_a_copy_of_the_outcome_is_pointed_out_before_training():
    [line] = [
        line
        for line in draft_config(config("a27_copy_of_the_outcome.csv"), "credit_limit").splitlines()
        if line.startswith('"written_off"')
    ]
    assert "WARNING, possible leak" in line


def test_one_inch_mark_leaves_out_one_row():
    raw = read_raw(FIELD_CASES / "a32_one_inch_mark.csv")
    assert (raw.frame.height, [fault.row for fault in raw.faults]) == (49_999, [5])


def test_a_trade_of_many_levels_is_kept_and_a_remark_says_how_to_keep_more():
    table = read("a34_many_levels.csv")
    assert len(table.table["trade"].levels) == 97
    assert 'declare kind = "category"' in table.column_remarks["village"]


@pytest.mark.parametrize(("stem", "name"), [("2024贷款", "model_2024"), ("贷款", None), ("Loans 2024", "loans_2024")])
def test_a_config_of_any_name_trains_or_says_how_to_name_the_model(stem, name, tmp_path):
    path = tmp_path / f"{stem}.toml"
    path.write_text(draft_config(config("a25_6000_rows_30_bad.csv"), "credit_limit"), encoding="utf-8")
    if name is None:
        with pytest.raises(ConfigError, match='Write name = "..."'):
            RECIPE.load(path)
    else:
        assert RECIPE.load(path).name == name


def test_a_special_code_is_reported_with_its_share_and_can_be_corrected():
    table = read("a40_special_codes.csv", columns={"days_overdue": {"direction": 1}})
    assert table.table["days_overdue"].missing_codes == (-9999,)
    assert "-9999 stands in 15.0% of the rows" in table.column_remarks["days_overdue"]
    corrected = read("a40_special_codes.csv", columns={"days_overdue": {"missing_codes": []}})
    assert corrected.frame["days_overdue"].min() == -9999
