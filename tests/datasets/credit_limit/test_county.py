"""The simulated county: the story that it tells holds in its rows, and it never hides that it is made up."""

import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from datasets import leakage, validation
from datasets.credit_limit.county import reader
from datasets.credit_limit.county import schema as contract
from datasets.credit_limit.county.causal_model import CountyCausalParameters
from datasets.credit_limit.county.schema import TABLE
from datasets.credit_limit.county.simulator import simulate_county, simulate_towns, write
from datasets.errors import DataError
from datasets.simulation import SIMULATED_KEY
from tests.paths import ROOT

APPRAISAL = sum(pl.col(name) for name in contract.ITEM_POINTS)


@pytest.fixture(scope="module")
def people() -> pl.DataFrame:
    return simulate_county(60_000, seed=11)


def test_the_same_seed_gives_the_same_county_and_another_seed_another():
    assert simulate_county(800, 3).equals(simulate_county(800, 3))
    assert not simulate_county(800, 3).equals(simulate_county(800, 4))


def test_towns_one_below_the_other_are_the_county():
    parts = list(simulate_towns(20_000, 5))
    assert len(parts) > 1
    assert pl.concat(parts).equals(simulate_county(20_000, 5))


@pytest.mark.parametrize("households", [1, 2, 9, 50, 1_000])
def test_a_county_of_any_size_conforms_to_its_own_contract(households):
    frame = simulate_county(households, seed=1)
    typed, _, faults = validation.validate(frame, TABLE)
    assert (frame.height, faults) == (households, 0)
    assert typed.equals(frame)


def test_each_household_stands_once_and_quarters_can_be_split(people):
    assert people["household_id"].n_unique() == people.height
    assert people["as_of"].n_unique() == 8
    assert people["as_of"].str.to_date("%Y-%m-%d").null_count() == 0


def test_default_is_rare_and_the_truth_separates_it_as_told(people):
    y = people["default_12m"].to_numpy() > 0
    assert 0.04 <= y.mean() <= 0.06
    assert 0.82 <= leakage._auc(people["true_pd"].to_numpy(), y) <= 0.87


def test_the_more_reliable_default_less(people):
    fifths = np.array_split(people.sort("true_reliability")["default_12m"].to_numpy(), 5)
    assert (np.diff([fifth.mean() for fifth in fifths]) < 0).all()


def test_a_lenient_village_gives_more_points_at_equal_reliability(people):
    seen = people.select(APPRAISAL.alias("points"), "true_reliability", "true_leniency").drop_nulls().to_numpy()
    design = np.column_stack([np.ones(len(seen)), seen[:, 1:]])
    _, per_reliability, per_leniency = np.linalg.lstsq(design, seen[:, 0], rcond=None)[0]
    assert per_leniency == pytest.approx(1.0, abs=0.2)
    assert per_reliability == pytest.approx(CountyCausalParameters().points_per_sd, abs=1.5)


def test_the_programme_estimates_leniency_well_but_not_perfectly(people):
    villages = people.group_by("village_id", "as_of").agg(pl.col("village_leniency", "true_leniency").mean())
    related = villages.drop_nulls().select(pl.corr("village_leniency", "true_leniency")).item()
    assert 0.8 <= related <= 0.99


def test_leniency_drives_appraisals_and_not_default(people):
    y, pd = people["default_12m"].to_numpy(), people["true_pd"].to_numpy()
    lenient = people["true_leniency"].to_numpy() > 0
    error = np.sqrt((pd * (1 - pd))[lenient].sum()) / lenient.sum()
    assert abs((y - pd)[lenient].mean()) < 4 * error


@pytest.mark.parametrize("column", ["sex", "ethnicity", "religion", "health"])
def test_who_one_is_has_no_effect_on_default_given_the_true_pd(people, column):
    y, pd = people["default_12m"].to_numpy(), people["true_pd"].to_numpy()
    for level in TABLE[column].levels:
        rows = (people[column] == level).to_numpy()
        error = np.sqrt((pd * (1 - pd))[rows].sum()) / rows.sum()
        assert abs((y - pd)[rows].mean()) < 4 * error, level


def test_villages_differ_in_who_lives_there(people):
    minority = people.group_by("village_id").agg((pl.col("ethnicity") != "han").mean().alias("share"))["share"]
    assert minority.std() > 0.05


def test_the_unreliable_inflate_their_own_score_more(people):
    output = people.select("self_score", "true_reliability").drop_nulls()
    honest = CountyCausalParameters().mean_points + 7.0 * output["true_reliability"]
    inflation = (output["self_score"] - honest).to_numpy()
    low = output["true_reliability"].to_numpy() < 0
    assert inflation[low].mean() > inflation[~low].mean() + 1


def test_relatives_among_the_raters_add_points(people):
    by = people.with_columns(APPRAISAL.alias("points")).group_by("related_rater").agg(pl.col("points").mean())
    points = dict(by.drop_nulls().rows())
    assert points[1.0] > points[0.0] + 2


def test_the_poor_declare_their_income_less_often(people):
    absent = people.drop_nulls("deposits").sort("deposits")["declared_income"].is_null().to_numpy()
    poor, rich = np.array_split(absent, 2)
    assert poor.mean() > rich.mean()


def test_business_fields_need_a_business(people):
    assert (people["licence_age"].is_null() == people["tax_grade"].is_null()).all()
    assert (people["licence_age"].is_null() == people["abnormal_list"].is_null()).all()


def test_its_own_truth_is_found_when_it_is_declared_an_indicator(people):
    columns = tuple(
        column.model_copy(update={"role": "indicator"}) if column.role == "leak" else column for column in TABLE.columns
    )
    result = {
        leak.column
        for leak in leakage.find_leaks(people, TABLE.model_copy(update={"columns": columns}), max_rows=20_000)
    }
    assert result == {"months_in_arrears_after", "true_pd"}


def test_its_indicators_are_no_leaks(people):
    assert leakage.find_leaks(people, TABLE, max_rows=20_000) == []


def test_the_file_says_that_it_is_simulated_and_comes_back_the_same(tmp_path):
    path = tmp_path / "county_simulated.parquet"
    done = write(path, 20_000, seed=2)
    assert done["rows"] == 20_000
    assert pl.read_parquet_metadata(path)[SIMULATED_KEY] == "true"
    assert reader.read(path).equals(simulate_county(20_000, 2))
    assert TABLE.origin.simulated
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_county_that_does_not_say_so_is_refused(tmp_path):
    simulate_county(20, 1).write_parquet(tmp_path / "real.parquet")
    simulate_county(20, 1).write_csv(tmp_path / "real.csv")
    for name in ("real.parquet", "real.csv"):
        with pytest.raises(DataError, match="does not say that it is simulated"):
            reader.read(tmp_path / name)


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    with pytest.raises(DataError, match="households is 0"):
        write(tmp_path / "county_simulated.parquet", 0, seed=1)
    with pytest.raises(DataError, match="seed is -1"):
        write(tmp_path / "county_simulated.parquet", 10, seed=-1)
    for _ in range(200):  # a thread of Polars that opened the file by its name could do so after it was taken away
        with pytest.raises(DataError, match="households is 0"):
            write(tmp_path / "county_simulated.parquet", 0, seed=1)
    time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_simulated(tmp_path):
    out = tmp_path / "county_simulated.parquet"
    command = [sys.executable, "-m", "datasets", "simulate", "county", "--households", "300", "--out", str(out)]
    message = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert message.startswith("SIMULATED")
    assert "300 households" in message


@pytest.mark.parametrize("column", TABLE.columns, ids=lambda column: column.name)
def test_every_column_is_named_in_english_and_in_chinese(column):
    assert column.en
    assert column.zh
    assert column.group or column.role not in ("indicator", "audit")
