"""The simulated zone: the story that it tells holds in its rows, and it never hides that it is made up."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from datasets import leakage
from datasets.errors import DataError
from datasets.scitech_risk.register import reader, schema
from datasets.scitech_risk.register.schema import TABLE, Register
from datasets.scitech_risk.register.simulator import BLOCK_SIZE, simulate_blocks, simulate_zone, write
from datasets.simulation import SIMULATED_KEY
from tests.paths import ROOT


@pytest.fixture(scope="module")
def made() -> Register:
    return reader.build_register(dict(simulate_zone(30_000, seed=11)), simulated=True)


@pytest.fixture(scope="module")
def honest(made: Register) -> pl.DataFrame:
    return made.frame.filter(is_shell=0)


@pytest.fixture(scope="module")
def shells(made: Register) -> pl.DataFrame:
    return made.frame.filter(is_shell=1)


def result(frame: pl.DataFrame, flag: pl.Expr) -> float:
    """Share of the rows that a flag marks; unknown is not marked."""
    return float(frame.select(flag.fill_null(False).mean()).item())


def test_the_same_seed_gives_the_same_zone_and_another_seed_another():
    first, same, other = simulate_zone(300, 3), simulate_zone(300, 3), simulate_zone(300, 4)
    assert all(first[name].equals(same[name]) for name in schema.FILES)
    assert not first["companies"].equals(other["companies"])


def test_blocks_one_below_the_other_are_the_zone():
    blocks = list(simulate_blocks(BLOCK_SIZE + 500, 5))
    assert [block["companies"].height for block in blocks] == [BLOCK_SIZE, 500]
    complete = simulate_zone(BLOCK_SIZE + 500, 5)
    assert all(pl.concat([block[name] for block in blocks]).equals(complete[name]) for name in schema.FILES)


@pytest.mark.parametrize("companies", [1, 2, 3, 9, 50, 400])
@pytest.mark.parametrize("hiding", [0.0, 1.0])
def test_a_zone_of_any_size_is_a_sound_register(companies, hiding):
    frame = reader.build_register(dict(simulate_zone(companies, 1, hiding)), simulated=True).frame
    assert frame.height == companies
    assert frame["company_id"].n_unique() == companies


def test_default_is_rare_and_the_truth_separates_it_as_told(made, honest):
    assert 0.04 <= made.frame["default_12m"].mean() <= 0.06
    y, pd = honest["default_12m"].to_numpy() > 0, honest["true_pd"].to_numpy()
    assert 0.86 <= leakage._auc(pd, y) <= 0.91
    assert abs(y.mean() - pd.mean()) < 4 * np.sqrt((pd * (1 - pd)).sum()) / len(pd)


def test_its_indicators_are_no_leaks(made):
    assert leakage.find_leaks(made.frame, TABLE, max_rows=20_000) == []


@pytest.mark.parametrize(
    ("column", "worse"),
    [
        ("cash_ratio", "lower"), ("debt_ratio", "higher"), ("current_ratio", "lower"), ("margin", "lower"),
        ("revenue_change_6m", "lower"), ("cash_change_6m", "lower"), ("staff_change_6m", "lower"),
        ("overdue_days_6m", "higher"), ("late_filings_6m", "higher"), ("revenue_drop_12m", "higher"),
        ("licence_age", "lower"), ("interest_burden", "higher"), ("enforcement_cases", "higher"),
    ],
)  # fmt: skip
def test_those_who_default_look_as_the_contract_says(honest, column, worse):
    sign = {"higher": 1, "lower": -1}[worse]
    assert TABLE[column].direction == sign
    known = honest.drop_nulls(column)
    assert leakage._auc(sign * known[column].to_numpy(), known["default_12m"].to_numpy() > 0) > 0.52


def test_ownership_has_no_effect_on_default_given_the_true_pd(honest):
    y, pd = honest["default_12m"].to_numpy(), honest["true_pd"].to_numpy()
    for level in TABLE["ownership"].levels:
        rows = (honest["ownership"] == level).to_numpy()
        assert abs((y - pd)[rows].mean()) < 4 * np.sqrt((pd * (1 - pd))[rows].sum()) / rows.sum(), level


def test_research_goes_with_the_stage(honest):
    stages = (0, 50, 500, 2_000, 10_000, float("inf"))  # 10k RMB/year of revenue
    medians = [
        honest.filter(pl.col("revenue").is_between(low, high, closed="left")).select(
            pl.col("rd_intensity", "insured_staff", "total_assets").median()
        ).row(0)
        for low, high in zip(stages, stages[1:], strict=False)
    ]  # fmt: skip
    intensity, staff, assets = zip(*medians, strict=True)
    assert list(intensity) == sorted(intensity, reverse=True)
    assert list(staff) == sorted(staff)
    assert list(assets) == sorted(assets)
    assert 0.04 < intensity[-1] < intensity[0] < 1


def test_the_books_hang_together(made):
    frame = made.frame.drop_nulls(["cash", "receivables", "current_assets", "total_assets", "total_liabilities"])
    assert result(frame, pl.col("cash") + pl.col("receivables") <= pl.col("current_assets") + 0.2) == 1
    assert result(frame, pl.col("current_assets") <= pl.col("total_assets") + 0.2) == 1
    assert result(frame, pl.col("current_liabilities") <= pl.col("total_liabilities") + 0.2) == 1
    assert result(made.frame, pl.col("paid_in_capital") <= pl.col("registered_capital") + 0.2) > 0.85
    assert result(made.frame, pl.col("pct_filings") <= pl.col("invention_patents")) == 1


def test_the_months_are_those_of_the_books(made):
    year = made.history.filter(pl.col("month") > "2025-06").group_by("company_id").agg(pl.col("revenue").sum())
    both = made.frame.join(year, on="company_id", suffix="_of_months")
    assert both.select((pl.col("revenue") - pl.col("revenue_of_months")).abs().max()).item() < 0.2
    assert made.history["month"].n_unique() == 36


def test_small_and_ill_managed_companies_report_less(honest):
    small, large = (honest.filter((pl.col("revenue") < 100) == side) for side in (True, False))
    assert small["net_profit"].null_count() / small.height > 1.2 * large["net_profit"].null_count() / large.height
    absent, there = (honest.filter(pl.col("net_profit").is_null() == side) for side in (True, False))
    assert absent["default_12m"].mean() > there["default_12m"].mean()


def test_shells_are_rare_and_nothing_foretells_their_default(made, shells):
    assert 0.02 <= shells.height / made.frame.height <= 0.03
    assert shells["true_pd"].n_unique() == 1


@pytest.mark.parametrize(
    "flag",
    [
        pl.col("insured_staff") == 0,
        pl.col("zero_filing_months") >= 6,
        pl.col("address_empty_share") >= 0.5,
        pl.col("officer_companies") >= 5,
        pl.col("invoice_loop_share") >= 0.3,
        pl.col("invoice_related_share") >= 0.5,
        pl.col("invoice_to_electricity") >= 100,
    ],
    ids=str,
)
def test_each_flag_marks_shells_more_often_and_some_honest_companies_too(honest, shells, flag):
    assert result(shells, flag) > 0.2
    assert 0.0003 < result(honest, flag) < 0.15 * result(shells, flag)


def test_a_crowded_address_condemns_nobody(made):
    crowded = made.frame.filter(pl.col("address_companies") >= 30)
    assert crowded.height > 0.1 * made.frame.height
    assert crowded["is_shell"].mean() < 0.1


def test_the_better_shells_hide_the_fewer_marks_they_bear():
    marks = {"insured_staff": 0, "officer_companies": 4, "invoice_loop_share": 0.5, "address_empty_share": 0.5}
    rates = []
    for hiding in (0.0, 0.5, 1.0):
        frame = reader.build_register(dict(simulate_zone(8_000, 2, hiding)), simulated=True).frame.filter(is_shell=1)
        flags = {
            name: pl.col(name) == 0 if name == "insured_staff" else pl.col(name) >= threshold
            for name, threshold in marks.items()
        }
        rates.append([result(frame, flag) for flag in flags.values()])
    for open_, half, hidden in zip(*rates, strict=True):
        assert open_ > half > hidden


def test_loops_are_spelled_by_their_names(shells):
    paths = shells.drop_nulls("loop_path")
    for company, path in paths.select("company_id", "loop_path").iter_rows():
        names = path.split(" > ")
        assert names[0] == names[-1] == company
        assert len(names) == len(set(names)) + 1 <= 7


def test_a_month_later_the_same_companies_have_one_month_more(tmp_path):
    now, later = simulate_zone(2_000, 5), simulate_zone(2_000, 5, month=1)
    before, after = set(now["companies"]["company_id"]), set(later["companies"]["company_id"])
    assert 0 < len(after - before) < 60
    assert 0 < len(before - after) < 60
    assert later["companies"]["as_of"].unique().to_list() == ["2026-07"]
    stayed = list(before & after)
    past, more = (zone["history"].filter(pl.col("company_id").is_in(stayed)) for zone in (now, later))
    assert more.filter(pl.col("month") < "2026-07").equals(past)
    assert more.height == past.height + len(stayed)
    gone = now["companies"].filter(pl.col("company_id").is_in(list(before - after)))
    assert gone["default_12m"].min() == 1
    frame = reader.build_register(dict(later), simulated=True).frame
    both = now["companies"].join(frame, on="company_id", suffix="_later").drop_nulls(["debt_ratio"])
    now_ratio = both["total_liabilities"] / both["total_assets"]
    assert (both["debt_ratio"] - now_ratio).abs().median() < 0.02  # it moves, and not far
    assert both["ownership"].equals(both["ownership_later"].alias("ownership"))


def test_no_id_tells_a_shell(made):
    number = made.frame["company_id"].str.slice(1).cast(pl.Int64).to_numpy()
    assert abs(leakage._auc(number.astype(float), made.frame["is_shell"].to_numpy() > 0) - 0.5) < 0.03


def test_the_files_say_that_they_are_simulated_and_come_back_the_same(tmp_path):
    done = write(tmp_path / "zone", 300, seed=2)
    files = sorted(path.name for path in (tmp_path / "zone").iterdir())
    assert files == sorted(f"{name}.parquet" for name in schema.FILES)
    for name in files:
        assert pl.read_parquet_metadata(tmp_path / "zone" / name)[SIMULATED_KEY] == "true"
    read = reader.read(tmp_path / "zone")
    assert read.simulated
    assert read.frame.height == done["companies"] == 300
    assert read.frame.equals(reader.build_register(dict(simulate_zone(300, 2)), simulated=True).frame)


def test_wrong_numbers_are_refused_together_and_leave_nothing_behind(tmp_path):
    with pytest.raises(DataError, match=r"companies is 0.*seed is -1.*hiding is 2.*month is 13"):
        write(tmp_path / "zone", 0, seed=-1, hiding=2, month=13)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_simulated(tmp_path):
    command = [
        sys.executable,
        "-m",
        "datasets",
        "simulate",
        "register",
        "--companies",
        "200",
        "--out",
        str(tmp_path / "zone"),
    ]
    message = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert message.startswith("SIMULATED")
    assert "200 companies" in message
