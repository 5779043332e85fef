import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import DataError
from tests.training.portfolio.portfolio_fixtures import BELOW, GRADES, answers, portfolio_data
from training.portfolio import aggregates
from training.portfolio.migration import migration_figures, read_previous
from training.portfolio.summary import compute_figures, flatten_metrics


@pytest.fixture(scope="module")
def current():
    return answers(300, seed=2, month="2026-10", first=40, shift=0.2)


@pytest.fixture(scope="module")
def previous():
    return answers(300, seed=1)


def test_the_totals_by_grade_and_by_trade_are_those_of_the_answers(current):
    figures = compute_figures(portfolio_data(current))
    for rows in (figures["grades"], figures["trades"]):
        assert sum(row["companies"] for row in rows) == current.height
        assert sum(row["limit"] for row in rows) == current["limit"].sum() == figures["headline"]["limit"]
        assert sum(row["expected_loss"] for row in rows) == pytest.approx(current["expected_loss"].sum())


def test_every_grade_is_reported_even_one_without_a_company(current):
    single_grade = current.filter(pl.col("grade") == "BB")
    assert [row["grade"] for row in compute_figures(portfolio_data(single_grade))["grades"]] == [*GRADES, "unrated"]


def test_companies_below_the_floor_are_counted(current):
    assert compute_figures(portfolio_data(current))["headline"]["below_floor"] == current["grade"].is_in(BELOW).sum()


def test_equal_trades_have_the_herfindahl_index_of_their_number():
    equal_trades = answers(40).with_columns(trade=pl.Series(["a", "b", "c", "d"] * 10), limit=pl.lit(1_000))
    concentration = aggregates.concentration_figures(equal_trades)
    assert concentration["hhi_trades"] == pytest.approx(1 / 4)
    assert concentration["hhi_companies"] == pytest.approx(1 / 40)
    assert concentration["top_share"] == pytest.approx(20 / 40)


def test_a_register_without_any_limit_has_figures(current):
    figures = compute_figures(portfolio_data(current.with_columns(limit=pl.lit(0), expected_loss=pl.lit(0.0))))
    assert figures["concentration"]["hhi_trades"] == figures["concentration"]["largest_share"] == 0
    assert figures["concentration"]["top"] == []


def test_a_loop_reported_by_three_members_is_listed_once(current):
    loops = compute_figures(portfolio_data(current))["gate"]["loops"]
    assert len(loops) == 1
    assert (loops[0]["size"], loops[0]["told_by"]) == (3, 3)


def test_figures_are_plain_json_and_metrics_plain_numbers(current, previous):
    figures = compute_figures(portfolio_data(current, previous))
    assert json.loads(json.dumps(figures, allow_nan=False)) == json.loads(json.dumps(figures))
    assert all(isinstance(value, float) for value in flatten_metrics(figures).values())


def test_migration_rows_sum_to_the_companies_of_each_grade(current, previous):
    migration = migration_figures(previous, current, GRADES)
    both = previous.join(current.select("company_id"), on="company_id")
    for grade, row in zip(migration["grades"], migration["matrix"], strict=True):
        assert sum(row) == aggregates.fill_unrated(both).filter(pl.col("grade") == grade).height
    assert migration["both"] == 260
    assert migration["new"] == migration["gone"] == 40


def test_no_company_moves_between_a_run_and_itself(current):
    migration = migration_figures(current, current, GRADES)
    assert (
        migration["up"] == migration["down"] == migration["new"] == migration["gone"] == migration["newly_blocked"] == 0
    )


@settings(max_examples=30)
@given(st.integers(0, 80), st.integers(1, 120), st.integers(0, 5))
def test_new_gone_and_changed_companies_add_up_to_the_difference(first, rows, seed):
    previous, current = answers(60, seed=1), answers(rows, seed=seed, month="2026-10", first=first)
    migration = migration_figures(previous, current, GRADES)
    assert migration["both"] + migration["new"] == current.height
    assert migration["both"] + migration["gone"] == previous.height
    for bridge in migration["bridge"].values():
        assert bridge["before"] + bridge["gone"] + bridge["stayed"] + bridge["new"] == pytest.approx(
            bridge["now"], abs=0.01
        )


def test_a_worse_grade_counts_as_a_downgrade():
    previous = answers(2).with_columns(grade=pl.Series(["A", "B"]))
    current = previous.with_columns(grade=pl.Series(["BB", "AA"]), month=pl.lit("2026-10"))
    migration = migration_figures(previous, current, GRADES)
    assert (migration["up"], migration["down"], migration["share_up"]) == (1, 1, 0.5)


def test_newly_blocked_companies_were_not_blocked_before():
    previous = answers(3).with_columns(gate=pl.Series(["pass", "block", "block"]))
    current = previous.with_columns(gate=pl.Series(["block", "block", "review"]))
    migration = migration_figures(previous, current, GRADES)
    assert (migration["newly_blocked"], migration["released"]) == (1, 1)


def read(frame, tmp_path, **changes):
    path = tmp_path / "before.parquet"
    frame.write_parquet(path)
    expected = {"model": "scitech_risk", "month": "2026-10", "simulated": True, "grades": GRADES}
    return read_previous(path, answers(1).schema, **expected | changes)


def test_a_previous_run_is_read_as_it_was_written(previous, tmp_path):
    assert read(previous, tmp_path).equals(previous)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"month": pl.lit("2026-10")}, "a month before the register's, 2026-10, is expected"),
        ({"model": pl.lit("another")}, "is a run of the model 'another'; 'scitech_risk' is expected"),
        ({"simulated": pl.lit(False)}, "has real companies, and the register simulated ones"),
        ({"company_id": pl.lit("C1")}, "names 1 companies more than once ('C1')"),
        ({"more": pl.lit(1)}, "has the further columns more"),
        ({"month": pl.Series(["2026-08"] * 100 + ["2026-09"] * 200)}, "has 2 values of month"),
        ({"pd": pl.lit("a good deal")}, "other types of values"),
        ({"grade": pl.lit("ZZZ")}, "has grades that the policy does not have: ZZZ"),
        ({"expected_loss": pl.lit(float("nan"))}, "not finite numbers"),
    ],
)
def test_a_file_that_is_no_earlier_run_is_refused_with_what_to_do(previous, tmp_path, change, message):
    with pytest.raises(DataError, match="(?s).*--previous") as error:
        read(previous.with_columns(**change), tmp_path)
    assert message in str(error.value)


def test_a_file_without_rows_or_columns_is_refused(previous, tmp_path):
    with pytest.raises(DataError, match="has no rows"):
        read(previous.clear(), tmp_path)
    with pytest.raises(DataError, match="does not have pd, grade"):
        read(previous.drop("pd", "grade"), tmp_path)
