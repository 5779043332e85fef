"""The schema of a user's own table is inferred, or the table is refused in a sentence."""

from __future__ import annotations

import csv
import io
import random
import tomllib
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.errors import DataError, InvalidTableError
from training.config import ConfigError, parse
from training.tabular.config_draft import draft_config
from training.tabular.profile.summary import summarise
from training.tabular.user_table import UserTableConfig, read, read_user_table

ROWS = 200


@pytest.fixture
def odd(tmp_path):
    """A text target, an id, a constant, free text, dates, three spellings of a missing value, a category."""
    rows = range(ROWS)
    frame = pl.DataFrame(
        {
            "loan no": [10_000 + i for i in rows],
            "status": ["bad" if i % 4 == 0 else "good" for i in rows],
            "income": [("?", "NA", "")[i % 3] if i % 20 == 0 else str(900 + 37 * i % 8_000) for i in rows],
            "purpose": [("car", "house", "none", "school")[i % 4] for i in rows],
            "branch": ["HQ"] * ROWS,
            "note": [f"client {i} called" for i in rows],
            "signed": [str(date(2024, 1 + i % 12, 1 + i % 28)) for i in rows],
            "balance": [i * 13.5 - 900 for i in rows],
            "老客户": [str(i % 2 == 0).lower() for i in rows],
        }
    )
    path = tmp_path / "loans.csv"
    frame.write_csv(path)
    return path


def test_kinds_levels_and_uninformative_columns_are_inferred_from_the_values(odd):
    table, frame, remarks = read(UserTableConfig(file=odd, target="status", positive_labels="bad"))
    assert table["income"].kind == "number"
    assert table["income"].low == 0
    assert table["balance"].low is None
    assert table["purpose"].levels == ("car", "house", "none", "school")
    assert table["老客户"].levels == ("false", "true")
    assert {c.name for c in table.columns if c.role == "id"} == {"loan no", "branch", "note", "signed"}
    assert len(remarks) == 5
    assert any(remark.startswith("income: 7 rows have a mark of a missing value: '") for remark in remarks)
    assert frame["income"].null_count() == ROWS // 20
    assert frame["status"].sum() == ROWS / 4


def test_what_the_owner_declares_is_kept(odd):
    columns = {
        "purpose": {"role": "audit"},
        "income": {"direction": -1, "high": 10_000, "zh": "收入"},
        "branch": {"role": "indicator"},
    }
    table, _, _ = read(UserTableConfig(file=odd, target="status", positive_labels="bad", columns=columns))
    assert table["purpose"].role == "audit"
    assert table["purpose"].levels
    assert (table["income"].direction, table["income"].high, table["income"].low) == (-1, 10_000, 0)
    assert table["branch"].role == "indicator"


def test_a_value_outside_its_declared_range_is_reported_with_its_row(odd):
    with pytest.raises(InvalidTableError, match=r"loans.csv, row 2: income is '937'; .* 0 to 920"):
        read(UserTableConfig(file=odd, target="status", positive_labels="bad", columns={"income": {"high": 920}}))


def test_a_text_target_without_positive_labels_says_what_to_declare(odd):
    with pytest.raises(DataError, match="positive_labels = 'bad'"):
        read(UserTableConfig(file=odd, target="status"))


def test_the_rarer_outcome_is_proposed_as_the_default(tmp_path):
    path = tmp_path / "loans.csv"
    pl.DataFrame({"结果": ["正常", "正常", "违约"] * 40, "x": range(120), "z": [1.5, 2, 3] * 40}).write_csv(path)
    with pytest.raises(DataError, match="positive_labels = '违约' in the config, --bad 违约 to init-config"):
        read(UserTableConfig(file=path, target="结果"))


def test_none_is_an_outcome_where_there_is_one_other(tmp_path):
    path = tmp_path / "loans.csv"
    pl.DataFrame({"逾期": ["有", "无", "无"] * 40, "x": range(120), "z": [1.5, 2, 3] * 40}).write_csv(path)
    table, frame, _ = read(UserTableConfig(file=path, target="逾期", positive_labels="有"))
    assert frame[table.target.name].value_counts(sort=True).rows() == [(0.0, 80), (1.0, 40)]


def test_rows_with_another_outcome_are_left_out_with_a_remark(tmp_path):
    path = tmp_path / "loans.csv"
    pl.DataFrame({"end": ["paid", "lost", "open"] * 40, "x": list(range(120)), "z": [1.5, 2, 3] * 40}).write_csv(path)
    with pytest.raises(DataError, match="3 values"):
        read(UserTableConfig(file=path, target="end", positive_labels="lost"))
    _, frame, remarks = read(UserTableConfig(file=path, target="end", positive_labels="lost", negative_labels="paid"))
    assert frame.height == 80
    assert any("40 rows have no known outcome" in remark for remark in remarks)


def test_a_target_may_be_numeric_or_boolean(tmp_path):
    for name, values, positive_labels in (
        ("a", [0, 1], ()),
        ("b", [True, False], ()),
        ("c", [1.0, 2.0], 2),
        ("d", ["1", "2"], [2]),
    ):
        path = tmp_path / f"{name}.parquet"
        pl.DataFrame({"y": values * 50, "x": [i * 0.5 for i in range(100)]}).write_parquet(path)
        assert read(UserTableConfig(file=path, target="y", positive_labels=positive_labels))[1]["y"].sum() == 50


def test_a_category_stored_as_a_float_is_named_without_decimals(tmp_path):
    path = tmp_path / "codes.parquet"
    pl.DataFrame({"y": [0, 1] * 50, "code": [1.0, 2.0, 10.0, None] * 25}).write_parquet(path)
    table, frame, _ = read(UserTableConfig(file=path, target="y", columns={"code": {"kind": "category"}}))
    assert table["code"].levels == ("1", "2", "10")
    assert frame["code"][2] == "10"


def test_an_unknown_name_is_refused_with_the_nearest_known_one(odd):
    with pytest.raises(DataError, match="did you mean 'status'"):
        read(UserTableConfig(file=odd, target="Status", positive_labels="bad"))
    with pytest.raises(ConfigError, match="did you mean 'direction'"):
        parse({"file": "x.csv", "target": "y", "columns": {"a": {"directon": 1}}}, UserTableConfig)
    with pytest.raises(ConfigError, match="did you mean 'target'"):
        parse({"file": "x.csv", "targt": "y"}, UserTableConfig)


def test_a_drafted_config_describes_each_column_and_is_valid(odd):
    data = UserTableConfig(file=odd, target="status", positive_labels="bad")
    text = draft_config(data, "credit_limit")
    assert '"income" = { kind = "number", low = 0, direction = 0 }  # 937 to' in text
    assert "# differs in every row" in text
    drafted = parse(tomllib.loads(text)["table"], UserTableConfig)
    before, after = read(data)[0], read(drafted)[0]
    assert [(c.name, c.kind, c.role, c.levels) for c in after.columns] == [
        (c.name, c.kind, c.role, c.levels) for c in before.columns
    ]


def test_long_numbers_of_one_length_that_never_repeat_are_identifiers(tmp_path):
    rng = random.Random(2)
    frame = pl.DataFrame(
        {
            "LoanNr_ChkDgt": [1_000_000_000 + rng.randrange(9_000_000_000) for _ in range(400)],
            "amount": [int(rng.lognormvariate(16, 1)) for _ in range(400)],
            "y": [int(rng.random() < 0.3) for _ in range(400)],
        }
    )
    frame.write_csv(tmp_path / "loans.csv")
    table, _, remarks = read(UserTableConfig(file=tmp_path / "loans.csv", target="y"))
    assert (table["LoanNr_ChkDgt"].role, table["amount"].role) == ("id", "indicator")
    assert any("differ in every row like an identifier" in remark for remark in remarks)


def test_rare_levels_are_joined_where_the_frequent_ones_are_most_of_the_rows(tmp_path):
    rng = random.Random(1)
    trades = [f"trade {rng.choice((1, 2, 3, 4))}" if i % 5 else f"rare {i}" for i in range(1_000)]
    frame = pl.DataFrame(
        {
            "trade": trades,
            "words": [f"{trade} {rng.random()}" for trade in trades],
            "x": [rng.random() for _ in trades],
            "y": [int(rng.random() < 0.3) for _ in trades],
        }
    )
    frame.write_csv(tmp_path / "loans.csv")
    config = UserTableConfig(file=tmp_path / "loans.csv", target="y")
    table, read_frame, remarks = read(config)
    assert table["trade"].levels == ("trade 1", "trade 2", "trade 3", "trade 4", "(other)")
    assert table["words"].role == "id"
    assert read_frame["trade"].value_counts().filter(pl.col("trade") == "(other)")["count"].item() == 200
    assert any("200 rows) are joined as '(other)'" in remark for remark in remarks)
    drafted = parse(tomllib.loads(draft_config(config, "credit_limit"))["table"], UserTableConfig)
    assert read(drafted)[0].columns == table.columns
    all_levels = config.model_copy(update={"columns": {"trade": {"kind": "category"}}})
    assert len(read(all_levels)[0]["trade"].levels) == 204


@pytest.mark.slow
def test_a_million_rows_are_read_and_summarised(tmp_path):
    rows, rng = 1_000_000, np.random.default_rng(4)
    income = rng.gamma(2, 3e4, rows)
    frame = pl.DataFrame(
        {
            "合同编号": pl.int_range(rows, eager=True).cast(pl.String),
            "申请日期": pl.Series(rng.integers(18_000, 19_500, rows))
            .cast(pl.Int32)
            .cast(pl.Date)
            .dt.strftime("%Y/%m/%d"),
            "收入": pl.Series(income.round(2)).cast(pl.String),
            "行业": pl.Series(rng.zipf(1.5, rows).clip(1, 5_000)).cast(pl.String) + "类",
            "性别": rng.choice(["男", "女"], rows),
            "结果": np.where(rng.random(rows) < 0.02, "违约", "正常"),
        }
    ).with_columns(
        pl.when(pl.int_range(rows) % 50_000 == 7).then(pl.lit("#DIV/0!")).otherwise(pl.col("收入")).alias("收入")
    )
    path = tmp_path / "loans.csv"
    path.write_bytes(frame.write_csv().encode("gb18030"))
    user_table = read_user_table(UserTableConfig(file=path, target="结果", positive_labels="违约"))
    table = user_table.table
    assert user_table.frame.height == rows
    assert {column.name: column.role for column in table.columns} == {
        "合同编号": "id", "申请日期": "time", "收入": "indicator", "行业": "indicator", "性别": "audit",
        "结果": "target",
    }  # fmt: skip
    assert user_table.frame["收入"].null_count() == 20
    assert table["行业"].other_level == "(other)"
    summary = summarise(user_table)
    assert summary.bad_rate == pytest.approx(0.02, abs=0.001)
    assert sum(bin.rows for bin in summary.times) == rows


CELL_WRITERS = (
    lambda x: f"{x:.2f}",
    lambda x: f"{x:,.2f}",
    lambda x: f"{x:.1f}%",
    lambda x: f"{x:.2f}".replace(".", ","),
    lambda x: f"￥{x:,.0f}",
    lambda x: f"{x / 1e4:.3f}万",
    lambda x: str(int(x)),
    lambda x: f"({x:.2f})",
    lambda x: f"20{int(x) % 20 + 10}-0{int(x) % 9 + 1}-1{int(x) % 9}",
    lambda x: "ABCDEFGH"[int(x) % 8],
    lambda x: str(int(x) % 2),
    lambda x: "same",
    lambda x: f"客户 {x}",
)
HEADINGS = st.one_of(
    st.text(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffd"), min_size=1, max_size=12
    ).filter(lambda text: text.strip(" \u00a0\u3000\ufeff") == text),
    st.sampled_from(["$", "a: b", "x\ny", "长" * 300, "=1+1", '"q"', "a.b", "# of", "收入（元）"]),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headings=st.lists(HEADINGS, min_size=1, max_size=8, unique=True),
    seed=st.integers(0, 10_000),
    rows=st.sampled_from([2, 30, 400]),
    bad_rate=st.sampled_from([0.0, 0.01, 0.3]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    data=st.data(),
)
def test_any_table_is_profiled_or_refused_in_a_sentence(
    tmp_path, headings, seed, rows, bad_rate, encoding, delimiter, data
):
    rng = random.Random(seed)
    writers = [data.draw(st.sampled_from(CELL_WRITERS)) for _ in headings]
    marks = ("", "-", "NULL", "#DIV/0!", "无", "inf", " ")
    out = io.StringIO()
    table = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    table.writerow([*headings, "outcome"])
    for _ in range(rows):
        cells = [rng.choice(marks) if rng.random() < 0.05 else write(rng.lognormvariate(8, 1)) for write in writers]
        table.writerow([*cells, "bad" if rng.random() < bad_rate else "good"])
    path = tmp_path / "loans.txt"
    path.write_bytes(out.getvalue().encode(encoding, "surrogatepass"))
    config = UserTableConfig(file=path, target="outcome", positive_labels="bad", negative_labels="good")
    try:
        drafted = tomllib.loads(draft_config(config, "credit_limit"))
    except DataError as error:
        drafted = None
        sentence = str(error)
    if drafted is None:
        assert sentence.endswith((".", "?"))
        return
    again = parse(drafted["table"], UserTableConfig)
    before, after = read(config), read(again)
    assert before[1].equals(after[1])
    assert before[0].columns == after[0].columns
