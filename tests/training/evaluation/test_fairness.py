"""Ratios between groups, against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datasets.schema import ColumnSchema
from training.evaluation.fairness import assign_bands, attribute_values, evaluate_groups, mean_ratio
from training.evaluation.metrics import BootstrapSamples
from training.evaluation.profit import LoanTerms, estimate_profit

SEX = ColumnSchema(name="sex", kind="category", levels=("female", "male"), role="audit")
AGE = ColumnSchema(name="age", role="audit", integer=True)


def test_an_adverse_impact_ratio_is_the_ratio_of_approval_rates():
    approved = np.r_[np.ones(50), np.zeros(50), np.ones(80), np.zeros(20)]
    member = np.arange(200) < 100
    found = mean_ratio(approved, member, ~member, BootstrapSamples(200, 200))
    assert found.value == pytest.approx(0.5 / 0.8)
    assert found.low < found.value < found.high < 0.8


def test_limits_that_follow_risk_alone_are_alike_at_equal_risk_though_their_means_differ():
    rng = np.random.default_rng(0)
    member = np.arange(4_000) < 2_000
    pd = np.where(member, rng.uniform(0, 0.6, 4_000), rng.uniform(0, 0.3, 4_000))
    limit = 100_000 * np.round(1 - pd, 1)
    draws = BootstrapSamples(4_000, 50)
    assert mean_ratio(limit, member, ~member, draws).value < 0.9
    assert mean_ratio(limit, member, ~member, draws, assign_bands(pd, np.isfinite(limit))).value == pytest.approx(
        1, abs=0.02
    )
    cut = np.where(member, 0.7, 1.0) * limit
    assert mean_ratio(cut, member, ~member, draws, assign_bands(pd, np.isfinite(cut))).high < 0.8


def test_groups_too_small_or_too_many_are_told_and_not_compared():
    rows = 300
    frame = pl.DataFrame({"sex": ["male"] * 290 + ["female"] * 10, "village": [str(i) for i in range(rows)]})
    audit = (SEX, ColumnSchema(name="village", kind="text", role="audit"))
    y, pd = np.arange(rows) % 4 == 0, np.linspace(0.01, 0.5, rows)
    told = list(
        evaluate_groups(frame, audit, y, pd, pd < 0.3, np.full(rows, 1e5), BootstrapSamples(rows, 20), min_rows=50)
    )
    assert all(isinstance(line, str) for line in told)
    assert "two groups" in told[0]
    assert "300 values" in told[1]


def test_a_number_is_compared_in_quarters_and_a_gap_belongs_to_none():
    series = pl.Series("age", [*range(18, 98), None], dtype=pl.Float64)
    found = attribute_values(series, AGE)
    assert found.drop_nulls().n_unique() == 4
    assert found[-1] is None
    assert found[0].startswith("up to")


def test_profit_counts_interest_of_the_good_and_losses_of_the_bad():
    y, pd = np.array([0, 0, 0, 1]), np.array([0.01, 0.02, 0.1, 0.5])
    limit = np.array([100_000.0, 50_000, np.nan, 20_000])
    found = estimate_profit(
        y, pd, limit, LoanTerms("CNY", margin=0.02, lgd=0.5, ccf=0.5, cutoff=0.05), BootstrapSamples(4, 50)
    )
    assert found.at_cutoff.value == pytest.approx(0.02 * 0.5 * 150_000 / 4)
    assert found.approve_all.value == pytest.approx((0.02 * 0.5 * (150_000 + 50_000) - 0.5 * 0.5 * 20_000) / 4)
    assert found.best_cutoff == 0.1
    assert found.curve[0] == 0
