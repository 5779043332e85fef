import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import DataError
from tests.training.portfolio.portfolio_fixtures import BELOW, GRADES, answers, books
from training.portfolio import aggregates
from training.portfolio.migration import migration_figures, read_previous
from training.portfolio.summary import compute_figures, flatten_metrics


@pytest.fixture(scope="module")
def now():
    return answers(300, seed=2, month="2026-10", first=40, shift=0.2)


@pytest.fixture(scope="module")
def before():
    return answers(300, seed=1)


def test_the_totals_by_grade_and_by_trade_are_those_of_the_answers(now):
    found = compute_figures(books(now))
    for rows in (found["grades"], found["trades"]):
        assert sum(row["companies"] for row in rows) == now.height
        assert sum(row["limit"] for row in rows) == now["limit"].sum() == found["headline"]["limit"]
        assert sum(row["expected_loss"] for row in rows) == pytest.approx(now["expected_loss"].sum())


def test_every_grade_is_told_even_one_that_no_company_has(now):
    only = now.filter(pl.col("grade") == "BB")
    assert [row["grade"] for row in compute_figures(books(only))["grades"]] == [*GRADES, "unrated"]


def test_those_below_the_floor_are_counted_by_grade(now):
    assert compute_figures(books(now))["headline"]["below_floor"] == now["grade"].is_in(BELOW).sum()


def test_equal_trades_have_the_herfindahl_index_of_their_number():
    even = answers(40).with_columns(trade=pl.Series(["a", "b", "c", "d"] * 10), limit=pl.lit(1_000))
    held = aggregates.concentration_figures(even)
    assert held["hhi_trades"] == pytest.approx(1 / 4)
    assert held["hhi_companies"] == pytest.approx(1 / 40)
    assert held["top_share"] == pytest.approx(20 / 40)


def test_a_register_without_any_limit_has_figures_too(now):
    found = compute_figures(books(now.with_columns(limit=pl.lit(0), expected_loss=pl.lit(0.0))))
    assert found["concentration"]["hhi_trades"] == found["concentration"]["largest_share"] == 0
    assert found["concentration"]["top"] == []


def test_a_loop_that_three_members_tell_is_one_loop(now):
    loops = compute_figures(books(now))["gate"]["loops"]
    assert len(loops) == 1
    assert (loops[0]["size"], loops[0]["told_by"]) == (3, 3)


def test_figures_are_plain_json_and_metrics_plain_numbers(now, before):
    found = compute_figures(books(now, before))
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))
    assert all(isinstance(value, float) for value in flatten_metrics(found).values())


def test_migration_rows_sum_to_the_companies_of_each_grade(now, before):
    moved = migration_figures(before, now, GRADES)
    both = before.join(now.select("company_id"), on="company_id")
    for grade, row in zip(moved["grades"], moved["matrix"], strict=True):
        assert sum(row) == aggregates.fill_unrated(both).filter(pl.col("grade") == grade).height
    assert moved["both"] == 260
    assert moved["new"] == moved["gone"] == 40


def test_nobody_moves_between_a_run_and_itself(now):
    moved = migration_figures(now, now, GRADES)
    assert moved["up"] == moved["down"] == moved["new"] == moved["gone"] == moved["newly_blocked"] == 0


@settings(max_examples=30)
@given(st.integers(0, 80), st.integers(1, 120), st.integers(0, 5))
def test_what_came_went_and_changed_makes_up_the_difference(first, rows, seed):
    was, now = answers(60, seed=1), answers(rows, seed=seed, month="2026-10", first=first)
    moved = migration_figures(was, now, GRADES)
    assert moved["both"] + moved["new"] == now.height
    assert moved["both"] + moved["gone"] == was.height
    for bridge in moved["bridge"].values():
        assert bridge["before"] + bridge["gone"] + bridge["stayed"] + bridge["new"] == pytest.approx(
            bridge["now"], abs=0.01
        )


def test_a_worse_grade_counts_as_down():
    was = answers(2).with_columns(grade=pl.Series(["A", "B"]))
    now = was.with_columns(grade=pl.Series(["BB", "AA"]), month=pl.lit("2026-10"))
    moved = migration_figures(was, now, GRADES)
    assert (moved["up"], moved["down"], moved["share_up"]) == (1, 1, 0.5)


def test_the_newly_blocked_are_those_that_the_gate_let_pass_before():
    was = answers(3).with_columns(gate=pl.Series(["pass", "block", "block"]))
    now = was.with_columns(gate=pl.Series(["block", "block", "review"]))
    moved = migration_figures(was, now, GRADES)
    assert (moved["newly_blocked"], moved["released"]) == (1, 1)


def previous(frame, tmp_path, like=None, **asked):
    path = tmp_path / "before.parquet"
    frame.write_parquet(path)
    like = answers(1).schema if like is None else like
    return read_previous(
        path, like, **{"model": "scitech_risk", "month": "2026-10", "simulated": True, "grades": GRADES} | asked
    )


def test_a_previous_run_is_read_as_it_was_written(before, tmp_path):
    assert previous(before, tmp_path).equals(before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"month": pl.lit("2026-10")}, "an earlier month is needed"),
        ({"model": pl.lit("another")}, "is of the model 'another'; 'scitech_risk' is needed"),
        ({"simulated": pl.lit(False)}, "is of real companies, the register of simulated ones"),
        ({"company_id": pl.lit("C1")}, "names 1 companies twice ('C1')"),
        ({"more": pl.lit(1)}, "has more besides"),
        ({"month": pl.Series(["2026-08"] * 100 + ["2026-09"] * 200)}, "holds 2 values of month"),
        ({"pd": pl.lit("a good deal")}, "other kinds of values"),
        ({"grade": pl.lit("ZZZ")}, "holds grades that the policy does not have: ZZZ"),
        ({"expected_loss": pl.lit(float("nan"))}, "is not a finite number"),
    ],
)
def test_a_file_that_is_no_previous_run_is_refused_with_what_to_do(before, tmp_path, change, said):
    with pytest.raises(DataError, match="(?s).*--previous") as refused:
        previous(before.with_columns(**change), tmp_path)
    assert said in str(refused.value)


def test_a_previous_file_without_rows_or_columns_is_refused(before, tmp_path):
    with pytest.raises(DataError, match="has no rows"):
        previous(before.clear(), tmp_path)
    with pytest.raises(DataError, match="lacks pd, grade"):
        previous(before.drop("pd", "grade"), tmp_path)
