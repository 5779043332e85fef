"""A row that training took is answered the same by the service, whatever format it comes in."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import bundle
from serving.decisions.batch.files.formats import MEDIA_TYPES, BatchFile
from serving.decisions.batch.scoring import score
from serving.decisions.products.base import products
from tests.serving.conftest import fitted
from training.tabular.user_table import UserTableConfig, read_user_table

ROWS = 400
MISSING = ("", "-", "NULL", "N/A", "无", "--", "None", " ")
WAYS = {  # how people write a number
    "plain": lambda x: f"{x:.2f}",
    "grouped": lambda x: f"{x:,.2f}",
    "percent": lambda x: f"{x:.2f}%",
    "ten_thousands": lambda x: f"{x / 1e4:.4f}万",
    "yuan": lambda x: f"￥{x:,.2f}",
    "padded": lambda x: f"  {x:.1f} ",
    "brackets": lambda x: f"({x:.2f})",
    "counted": lambda x: f"{x:.0f}次",
    "full_width": lambda x: f"{x:.0f}".translate(str.maketrans("0123456789", "０１２３４５６７８９")),
}
COMMA = {"decimal_comma": lambda x: f"{x:.2f}".replace(".", ",")}


def messy_table() -> pl.DataFrame:
    """A column of each way to write a number, with marks of missing values, truth values and levels."""
    rng = np.random.default_rng(5)
    values = rng.lognormal(9, 1, ROWS)
    columns: dict[str, list[str]] = {}
    for name, write in (WAYS | COMMA).items():
        marks = rng.choice(MISSING, ROWS)
        columns[name] = [
            str(mark) if gap else write(value)
            for mark, gap, value in zip(marks, rng.random(ROWS) < 0.06, values, strict=True)
        ]
    columns["flag"] = [("1", "0", "1.0", "0.0")[i] for i in rng.integers(0, 4, ROWS)]
    columns["guarantor"] = [("true", "False", "TRUE", "-")[i] for i in rng.integers(0, 4, ROWS)]
    columns["crop\n(main)"] = [("rice", "茶", "none", "N/A")[i] for i in rng.integers(0, 4, ROWS)]
    columns["trade"] = [("tea", "rice", "prawns")[i % 3] if i % 5 else f"trade {i}" for i in range(ROWS)]
    columns["days"] = [("-9999" if gap else str(int(day))) for gap, day in
                       zip(rng.random(ROWS) < 0.1, rng.integers(0, 90, ROWS), strict=True)]  # fmt: skip
    outcome = rng.random(ROWS) < 1 / (1 + np.exp(np.log(values) - 8.5))
    return pl.DataFrame(columns | {"outcome": ["unpaid" if bad else "paid" for bad in outcome]})


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """(a model of a messy table, its raw rows, the rows as training read them)."""
    folder = tmp_path_factory.mktemp("bank")
    raw = messy_table()
    raw.write_csv(folder / "loans.csv")
    read = read_user_table(UserTableConfig(file=folder / "loans.csv", target="outcome", positive_labels=("unpaid",)))
    assert {column.name for column in read.table.indicators} == {*raw.columns} - {"outcome"}, read.all_remarks()
    keys = bundle.create_signing_keys(folder / "keys")
    made = fitted("credit_limit", read.frame, "outcome", list(read.table.indicators), (), keys)
    made = replace(made, card=made.card.model_copy(update={"missing": read.table.missing}))
    made.publish(folder / "bundles", "1")
    loaded = bundle.load_bundle(folder / "bundles" / "credit_limit" / "1", made.public)
    return products()["credit_limit"].deploy(loaded), raw.drop("outcome"), read.frame


def upload(frame: pl.DataFrame, format: str, path: Path) -> BatchFile:
    out = io.BytesIO()
    writers = {"csv": frame.write_csv, "ndjson": frame.write_ndjson, "parquet": frame.write_parquet}
    (writers | {"xlsx": frame.write_excel})[format](out)
    path.write_bytes(out.getvalue())
    return BatchFile(path, format, frame.columns)


def answers(model, file: BatchFile) -> pl.DataFrame:
    chunks = file.chunks(model.fields, (), 10_000, model.card.missing)
    frames = [score(chunk, model, "b", (), True, 1_000).frame for chunk in chunks]
    return pl.concat(frames).select("pd", "indicative_limit", "score", "decision", "error", "reasons")


def test_every_format_gives_the_pd_and_the_yuan_of_training(bank, tmp_path):
    model, raw, typed = bank
    expected = model.predict_batch(typed, True).select("pd", "indicative_limit", "score", "decision")
    typed_rows = typed.select(raw.columns)
    for frame in (raw, typed_rows):
        for format in MEDIA_TYPES:
            result = answers(model, upload(frame, format, tmp_path / "batch"))
            assert result["error"].null_count() == ROWS, (format, result["error"].drop_nulls()[0])
            assert result.select(expected.columns).equals(expected), format


def test_a_row_in_json_gives_the_pd_and_the_yuan_of_training(bank):
    model, raw, typed = bank
    expected = model.predict_batch(typed, True)
    options = {"moral_data_consent": True, "person": False, "raises": False}
    for frame in (raw, typed.select(raw.columns)):
        for i, values in enumerate(frame.head(120).iter_rows(named=True)):
            row, faults = model.validate(values)
            assert not faults, (values, faults)
            answer = model.decide(values, row, options)
            assert (answer["pd"], answer["indicative_limit"]) == (expected["pd"][i], expected["indicative_limit"][i])


@pytest.mark.parametrize("flag", [True, 1, 1.0, "1", "1.0", "true", "TRUE", " 1 "])
@pytest.mark.parametrize("guarantor", [True, 1, "true", "True", "1", 1.0])
def test_true_and_1_are_one_value(bank, flag, guarantor):
    model = bank[0]
    row, faults = model.validate({"flag": flag, "guarantor": guarantor})
    expected, _ = model.validate({"flag": 1, "guarantor": "true"})
    assert not faults
    assert np.array_equal(row, expected, equal_nan=True)


def test_what_training_never_saw_is_refused_by_name(bank):
    model = bank[0]
    _, faults = model.validate({"plain": "a lot", "crop\n(main)": "wheat", "flag": "maybe", "days": "12 days"})
    assert {fault.field for fault in faults} == {"plain", "crop\n(main)", "flag", "days"}


def test_a_trade_that_training_never_saw_is_answered_as_a_rare_one_and_a_long_text_is_refused(bank):
    model = bank[0]
    rows = [model.validate({"trade": trade}) for trade in ("new trade", "trade 5", "茶叶种植")]
    assert not any(faults for _, faults in rows)
    assert all(np.array_equal(row, rows[0][0], equal_nan=True) for row, _ in rows)
    assert [fault.field for fault in model.validate({"trade": "x" * 5_000})[1]] == ["trade"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_a_generated_row_is_answered_alike_by_json_and_csv(bank, tmp_path, data):
    model, raw, _ = bank
    amounts = st.floats(1, 1e7).map(lambda x: round(x, 2))
    values = {name: data.draw(st.sampled_from(MISSING) | amounts.map(write)) for name, write in (WAYS | COMMA).items()}
    values |= {name: raw[name][data.draw(st.integers(0, ROWS - 1))] for name in raw.columns if name not in values}
    row, faults = model.validate(values)
    assert not faults, faults
    frame = pl.DataFrame({name: [value] for name, value in values.items()})
    result = answers(model, upload(frame, "csv", tmp_path / "one.csv"))
    assert result["error"][0] is None
    options = {"moral_data_consent": True, "person": False, "raises": False}
    answer = model.decide(json.loads(json.dumps(values)), row, options)
    assert (answer["pd"], answer["indicative_limit"]) == (result["pd"][0], result["indicative_limit"][0])


@pytest.mark.parametrize("format", ["csv", "xlsx"])
def test_totals_and_a_repeated_header_are_refused_by_name_and_no_other_row(bank, tmp_path, format):
    model, raw, _ = bank
    rows = raw.head(20).cast(pl.String)
    header = pl.DataFrame({name: [name] for name in rows.columns})
    totals = pl.DataFrame({name: ["合计" if i == 0 else None] for i, name in enumerate(rows.columns)}, rows.schema)
    result = answers(model, upload(pl.concat([rows, header, rows, totals]), format, tmp_path / "batch"))
    errors = result["error"].to_list()
    assert [i for i, error in enumerate(errors) if error] == [20, 41]
    assert "the header again" in errors[20]
    assert "a row of totals" in errors[41]


DAYS = ("2023/1/5", "2023-01-05", "20230105", "2023年1月5日", "44931")  # one day


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    """A model that counts the months from one date to another."""
    folder = tmp_path_factory.mktemp("dated")
    rng = np.random.default_rng(6)
    days = pl.Series(rng.integers(0, 700, ROWS)).cast(pl.Int32).cast(pl.Date) + timedelta(19_000)
    ages = rng.integers(1, 3_000, ROWS)
    licence = days - pl.Series(ages * 86_400_000_000).cast(pl.Duration("us"))
    outcome = np.where(rng.random(ROWS) < 1 / (1 + np.exp(ages / 400 - 3)), "unpaid", "paid")
    raw = pl.DataFrame({"apply_date": days.dt.strftime("%Y/%m/%d"), "licence_date": licence.dt.strftime("%Y年%m月%d日"),
                        "income": rng.gamma(2, 4e4, ROWS).round(2), "outcome": outcome})  # fmt: skip
    raw.write_csv(folder / "loans.csv")
    read = read_user_table(UserTableConfig(file=folder / "loans.csv", target="outcome", positive_labels=("unpaid",)))
    keys = bundle.create_signing_keys(folder / "keys")
    dates = [column for column in read.table.columns if column.date_format]
    made = fitted("credit_limit", read.frame, "outcome", list(read.table.indicators), dates, keys)
    made = replace(made, card=made.card.model_copy(update={"missing": read.table.missing}))
    made.publish(folder / "bundles", "1")
    loaded = bundle.load_bundle(folder / "bundles" / "credit_limit" / "1", made.public)
    return products()["credit_limit"].deploy(loaded), raw.drop("outcome"), read.frame


def test_dates_give_the_pd_of_training_in_every_format(dated, tmp_path):
    model, raw, typed = dated
    expected = model.predict_batch(typed, True).select("pd", "indicative_limit", "score", "decision")
    as_dates = raw.with_columns(
        pl.col("apply_date").str.to_date("%Y/%m/%d"), pl.col("licence_date").str.to_date("%Y年%m月%d日")
    )
    for frame in (raw, as_dates):
        for format in MEDIA_TYPES:
            result = answers(model, upload(frame, format, tmp_path / "batch"))
            assert result["error"].null_count() == ROWS, (format, result["error"].drop_nulls()[0])
            assert result.select(expected.columns).equals(expected), format


@pytest.mark.parametrize("licence", ["2015年3月1日", None, "-"])
def test_a_day_in_any_form_is_one_value_in_json(dated, licence):
    model = dated[0]
    options = {"moral_data_consent": True, "person": False, "raises": True}
    results = []
    for day in DAYS:
        values = {"income": 30_000, "apply_date": day, "licence_date": licence}
        row, faults = model.validate(values)
        assert not faults, faults
        results.append(model.decide(values, row, options))
    assert all(result == results[0] for result in results)
    assert 0 < results[0]["pd"] < 1


def test_what_is_no_date_is_refused_by_name(dated):
    _, faults = dated[0].validate({"income": 1, "apply_date": "soon", "licence_date": 3.5})
    assert [fault.field for fault in faults] == ["apply_date", "licence_date"]
