"""The leak detector: it finds what knows the outcome, and leaves honest indicators alone."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets import leakage
from datasets.schema import ColumnSchema, TableSchema
from datasets.validation import validate_or_raise

ROWS = 4_000


@pytest.fixture(scope="module")
def loans():
    rng = np.random.default_rng(5)
    y = (rng.random(ROWS) < 0.2).astype(float)
    honest = rng.normal(size=ROWS) + 1.0 * y  # AUC .76
    return rng, y, honest


def result(frame, **roles):
    columns = tuple(
        ColumnSchema(name=name, role=roles.get(name, "indicator"), kind="number" if dtype.is_numeric() else "text")
        for name, dtype in frame.schema.items()
    )
    declared = TableSchema(name="loans", columns=columns)
    return {leak.column: leak for leak in leakage.find_leaks(validate_or_raise(frame, declared), declared)}


def test_an_honest_indicator_is_left_alone(loans):
    rng, y, honest = loans
    frame = pl.DataFrame({"y": y, "honest": honest, "noise": rng.normal(size=ROWS), "same": np.ones(ROWS)})
    assert result(frame, y="target") == {}


def test_a_near_copy_of_the_target_is_found(loans):
    rng, y, honest = loans
    copy = np.where(rng.random(ROWS) < 0.03, 1 - y, y)
    frame = pl.DataFrame({"y": y, "honest": honest, "copy": copy, "backwards": rng.normal(size=ROWS) - 4 * y})
    leak = result(frame, y="target")
    assert set(leak) == {"copy", "backwards"}
    assert leak["copy"].auc > 0.95


def test_a_column_that_no_line_could_find_is_found(loans):
    _, y, honest = loans
    both_ends = np.where(y > 0, np.sign(honest) * (3 + np.abs(honest)), honest * 0.5)
    assert set(result(pl.DataFrame({"y": y, "both_ends": both_ends}), y="target")) == {"both_ends"}


def test_a_date_that_only_the_bad_have_is_found(loans):
    rng, y, honest = loans
    date = [f"2020-01-{1 + i % 28:02d}" if bad and rng.random() < 0.3 else None for i, bad in enumerate(y)]
    leak = result(pl.DataFrame({"y": y, "honest": honest, "charged_off": date}), y="target")
    assert set(leak) == {"charged_off"}
    assert "present" in leak["charged_off"].reason


def test_an_amount_that_only_the_bad_have_is_found(loans):
    rng, y, honest = loans
    recovered = np.where((y > 0) & (rng.random(ROWS) < 0.2), rng.exponential(900, ROWS), 0.0)
    leak = result(pl.DataFrame({"y": y, "honest": honest, "recovered": recovered}), y="target")
    assert "other than 0.0" in leak["recovered"].reason


def test_a_term_that_the_outcome_cut_short_is_found_by_its_form(loans):
    rng, y, _ = loans
    agreed = rng.integers(1, 25, ROWS) * 12
    term = np.where((y > 0) & (rng.random(ROWS) < 0.7), np.maximum(agreed - rng.integers(1, 12, ROWS), 1), agreed)
    leak = result(pl.DataFrame({"y": y, "term": term.astype(float)}), y="target")
    assert "a multiple of 12" in leak["term"].reason


def test_the_form_of_a_column_is_told_once_by_the_multiple_that_tells_most(loans):
    rng, y, _ = loans
    agreed = np.where(rng.random(ROWS) < 0.8, 84, rng.integers(3, 13, ROWS) * 12)  # 84 is a multiple of 7, too
    term = np.where((y > 0) & (rng.random(ROWS) < 0.9), rng.integers(20, 84, ROWS), agreed)
    why = result(pl.DataFrame({"y": y, "term": term.astype(float)}), y="target")["term"].reason
    assert "a multiple of 12" in why
    assert why.count("a multiple of") == 1


def test_round_numbers_and_zeros_are_no_leak(loans):
    rng, y, honest = loans
    late = np.where(rng.random(ROWS) < 0.15 + 0.35 * y, rng.integers(1, 60, ROWS), 0).astype(float)
    amount = rng.integers(1, 50, ROWS) * 1000.0 + np.where(rng.random(ROWS) < 0.3, 37, 0)
    assert result(pl.DataFrame({"y": y, "days_late": late, "amount": amount}), y="target") == {}


def test_another_models_forecast_is_found(loans):
    rng, _, _ = loans
    forecast = 1 / (1 + np.exp(-(-1.8 + 1.2 * rng.normal(size=ROWS))))
    y = (rng.random(ROWS) < forecast).astype(float)
    assert "forecast" in result(pl.DataFrame({"y": y, "pd_before": forecast}), y="target")["pd_before"].reason


def test_ids_and_rows_in_the_order_of_the_outcome_are_found(loans):
    rng, y, honest = loans
    frame = pl.DataFrame({"y": y, "honest": honest}).sort("y").with_columns(id=pl.format("L{}", pl.int_range(ROWS)))
    assert set(result(frame, y="target", id="id")) == {"id", leakage.ROW_ORDER}
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    assert set(result(shuffled, y="target", id="id")) == {"id"}


def test_a_column_declared_a_leak_is_not_looked_at(loans):
    _, y, honest = loans
    assert result(pl.DataFrame({"y": y, "honest": honest, "copy": y}), y="target", copy="leak") == {}


def test_a_few_rows_accuse_nobody(loans):
    _, y, honest = loans
    rare = np.zeros(ROWS)
    rare[np.flatnonzero(y > 0)[:8]] = 1
    assert result(pl.DataFrame({"y": y, "honest": honest, "rare": rare}), y="target") == {}


def test_one_outcome_only_gives_no_answer_and_no_error():
    assert result(pl.DataFrame({"y": np.zeros(50), "x": np.arange(50.0)}), y="target") == {}


@pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the SBA records are not at hand")
def test_the_leaks_of_the_sba_records_are_found_unaided():
    file = Path(os.environ["YUHENG_DATA"]) / "company/sba_national/SBAnational.parquet"
    raw = pl.read_parquet(file).filter(pl.col("MIS_Status").is_not_null()).sample(30_000, seed=1)
    y = (pl.col("MIS_Status") == "CHGOFF").cast(pl.Float64).alias("y")
    leak = result(raw.select(y, pl.exclude("MIS_Status")), y="target", LoanNr_ChkDgt="id")
    assert set(leak) == {"Term", "ChgOffDate", "ChgOffPrinGr"}
    assert "a multiple of 12" in leak["Term"].reason
    assert "where missing" in leak["ChgOffDate"].reason
