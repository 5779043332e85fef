"""Each indicator of a company is what its definition says, and a million real invoices take seconds."""

import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.scitech_risk.invoices.features import COLUMNS, compute_features
from datasets.scitech_risk.invoices.reader import FRAME

NAMES = [column.name for column in COLUMNS]


def invoices(*rows):
    """(company, date, counterparty, amount, void, sale)"""
    return pl.DataFrame(
        [
            (company, None, day, party, amount, amount * 0.13, void, sale)
            for company, day, party, amount, void, sale in rows
        ],
        schema=FRAME,
        orient="row",
    )


EXAMPLE = invoices(
    ("E1", date(2018, 1, 10), "B1", 300.0, False, True),
    ("E1", date(2019, 6, 10), "B1", 500.0, False, True),
    ("E1", date(2019, 6, 20), "B2", 300.0, False, True),
    ("E1", date(2019, 7, 1), "B1", -100.0, False, True),
    ("E1", date(2019, 7, 2), "B9", 9_999.0, True, True),
    ("E1", date(2019, 7, 3), "B1", 250.0, False, False),
    ("E2", date(2019, 12, 31), "B2", 10.0, False, True),
    ("E3", date(2019, 12, 1), "A1", 10.0, False, False),
)


def test_indicators_are_those_of_their_definitions():
    row = compute_features(EXAMPLE).filter(pl.col("company") == "E1").row(0, named=True)
    assert row["sales"] == 1000.0
    assert row["purchases"] == 250.0
    assert row["sales_invoices"] == 4
    assert row["sales_void_share"] == pytest.approx(1 / 5)
    assert row["sales_return_share"] == pytest.approx(100 / 1100)
    assert row["buyers"] == 2
    assert row["top_buyer_share"] == pytest.approx(0.7)
    assert row["buyer_concentration"] == pytest.approx(0.7**2 + 0.3**2)
    assert row["shared_buyer_share"] == pytest.approx(0.3)  # B2 buys from E2 too
    assert row["two_way_share"] == pytest.approx(0.7)  # B1 sells to E1 too
    assert row["margin"] == pytest.approx(0.75)
    assert row["tax_rate"] == pytest.approx(0.13)
    assert row["months_without_sales"] == pytest.approx(21 / 24)
    assert row["longest_gap"] == (date(2019, 6, 10) - date(2018, 1, 10)).days
    assert row["days_since_sale"] == (date(2019, 12, 31) - date(2019, 7, 1)).days


def test_growth_compares_two_whole_years_only():
    earlier = EXAMPLE.with_columns(
        pl.when(pl.col("date") == date(2018, 1, 10)).then(date(2017, 12, 31)).otherwise("date").alias("date")
    )
    assert compute_features(EXAMPLE)["sales_growth"].to_list()[0] is None
    base = pl.concat([earlier, invoices(("E1", date(2018, 5, 5), "B1", 350.0, False, True))])
    assert compute_features(base)["sales_growth"].to_list()[0] == pytest.approx(700 / 350 - 1)


def test_a_company_without_a_sale_has_gaps_and_stays_in_the_table():
    row = compute_features(EXAMPLE).filter(pl.col("company") == "E3").row(0, named=True)
    assert row["purchases"] == 10.0
    assert row["sales"] is None
    assert row["margin"] is None


def test_nothing_after_the_day_is_used():
    before = EXAMPLE.filter(pl.col("date") <= date(2019, 6, 30))
    after = compute_features(EXAMPLE, date(2019, 6, 30)).filter(pl.col("company") == "E1")
    assert after.equals(compute_features(before, date(2019, 6, 30)))


ROWS = st.tuples(
    st.sampled_from(["E1", "E2"]), st.dates(date(2016, 1, 1), date(2020, 1, 1)), st.sampled_from(["P1", "P2", "P3"]),
    st.floats(-1e9, 1e9), st.booleans(), st.booleans(),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=20), st.randoms())
def test_shares_are_shares_and_the_order_of_rows_is_without_effect(rows, random):
    features = compute_features(invoices(*rows))
    assert features["company"].to_list() == sorted({row[0] for row in rows})
    shares = [column.name for column in COLUMNS if column.name.endswith(("_share", "_concentration"))]
    for name in (*shares, "months_without_sales"):
        if "return" not in name:
            assert features[name].drop_nulls().is_between(0, 1 + 1e-9).all(), name
    assert not features.select((pl.col(NAMES).is_nan() | pl.col(NAMES).is_infinite()).any()).sum_horizontal()[0]
    random.shuffle(rows)
    assert (
        compute_features(invoices(*rows))
        .select("company", "buyers", "sales_invoices", "longest_gap")
        .equals(features.select("company", "buyers", "sales_invoices", "longest_gap"))
    )


PRINT_PEAK = """
import atexit, pathlib, runpy
atexit.register(lambda: print(pathlib.Path("/proc/self/status").read_text()))  # ru_maxrss may be that of the parent
runpy.run_module("datasets", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the file is not shipped")
def test_a_million_real_invoices_take_seconds_and_less_than_a_gigabyte(tmp_path):
    file = Path(os.environ["YUHENG_DATA"]) / "company/cumcm2020c_invoices/invoices.parquet"
    out = tmp_path / "companies.parquet"
    command = [sys.executable, "-c", PRINT_PEAK, "invoices", str(file), "--out", str(out)]
    environ = os.environ | {"POLARS_MAX_THREADS": "2"}  # more threads hold more at a time
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode == 0, done.stderr
    assert "of 425 companies" in done.stdout
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1])
    assert peak < 1 << 20  # kB
    assert pl.read_parquet(out).columns == ["company", *NAMES]
