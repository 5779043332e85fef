"""Ratios between groups, compared with cases that can be computed by hand."""

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
    ratio = mean_ratio(approved, member, ~member, BootstrapSamples(200, 200))
    assert ratio.value == pytest.approx(0.5 / 0.8)
    assert ratio.low < ratio.value < ratio.high < 0.8


def test_limits_that_depend_on_risk_alone_are_equal_at_equal_risk_although_their_means_differ():
    rng = np.random.default_rng(0)
    member = np.arange(4_000) < 2_000
    pd = np.where(member, rng.uniform(0, 0.6, 4_000), rng.uniform(0, 0.3, 4_000))
    limit = 100_000 * np.round(1 - pd, 1)
    samples, bands = BootstrapSamples(4_000, 50), assign_bands(pd, np.isfinite(limit))
    assert mean_ratio(limit, member, ~member, samples).value < 0.9
    assert mean_ratio(limit, member, ~member, samples, bands).value == pytest.approx(1, abs=0.02)
    reduced = np.where(member, 0.7, 1.0) * limit
    assert mean_ratio(reduced, member, ~member, samples, bands).high < 0.8


def test_groups_that_are_too_small_or_too_many_are_reported_and_not_compared():
    rows = 300
    frame = pl.DataFrame({"sex": ["male"] * 290 + ["female"] * 10, "village": [str(i) for i in range(rows)]})
    audit = (SEX, ColumnSchema(name="village", kind="text", role="audit"))
    y, pd = np.arange(rows) % 4 == 0, np.linspace(0.01, 0.5, rows)
    remarks = list(
        evaluate_groups(frame, audit, y, pd, pd < 0.3, np.full(rows, 1e5), BootstrapSamples(rows, 20), min_rows=50)
    )
    assert all(isinstance(line, str) for line in remarks)
    assert "two groups" in remarks[0]
    assert "300 values" in remarks[1]


def test_a_number_is_compared_by_quartile_and_a_missing_value_belongs_to_no_group():
    series = pl.Series("age", [*range(18, 98), None], dtype=pl.Float64)
    values = attribute_values(series, AGE)
    assert values.drop_nulls().n_unique() == 4
    assert values[-1] is None
    assert values[0].startswith("up to")


def test_profit_adds_the_interest_of_good_rows_and_subtracts_the_losses_of_bad_ones():
    y, pd = np.array([0, 0, 0, 1]), np.array([0.01, 0.02, 0.1, 0.5])
    limit = np.array([100_000.0, 50_000, np.nan, 20_000])
    terms, samples = LoanTerms("CNY", margin=0.02, lgd=0.5, ccf=0.5, cutoff=0.05), BootstrapSamples(4, 50)
    profit = estimate_profit(y, pd, limit, np.ones(4, bool), terms, samples)
    assert profit.at_cutoff.value == pytest.approx(0.02 * 0.5 * 150_000 / 4)
    assert profit.approve_all.value == pytest.approx((0.02 * 0.5 * (150_000 + 50_000) - 0.5 * 0.5 * 20_000) / 4)
    assert profit.best_cutoff.value == 0.1
    assert 0 <= profit.best_cutoff.low <= 0.1 <= profit.best_cutoff.high <= 0.5
    assert profit.curve[0] == 0
    assert (profit.band[0] <= profit.band[1]).all()
    assert profit.band.shape == (2, len(profit.curve))


def test_rows_that_a_person_decides_whatever_the_line_earn_nothing():
    y, pd, limit = np.array([0, 0, 1]), np.array([0.01, 0.02, 0.03]), np.full(3, 100_000.0)
    terms, samples = LoanTerms("CNY", margin=0.02, lgd=0.5, ccf=0.5, cutoff=0.05), BootstrapSamples(3, 50)
    on_line = np.array([True, False, True])
    profit = estimate_profit(y, pd, limit, on_line, terms, samples)
    assert profit.approve_all.value == pytest.approx((0.02 * 50_000 - 0.5 * 50_000) / 3)
    assert profit.best_cutoff.value == 0.01
