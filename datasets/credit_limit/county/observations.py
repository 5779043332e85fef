"""Draw the records of a simulated county: registers, appraisals and missing values.

simulator.py describes the causal model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from datasets.credit_limit.county.causal_model import CountyCausalParameters, Households, Villages
from datasets.credit_limit.county.schema import ITEM_POINTS, TABLE
from datasets.simulation import Rng, sigmoid

QUARTER_ENDS = ("03-31", "06-30", "09-30", "12-31")
NO_VETO = "none"
VETO_CODES = ("dishonest_debtor", "fraud_offence", "gambling_offence")  # codes of configs/policies/credit_limit.toml
Values = dict[str, np.ndarray]  # each (households,)


def observe_registers(rng: Rng, params: CountyCausalParameters, villages: Villages, households: Households) -> Values:
    """Draw the columns of social security, tax, market regulation, public security, assets and credit."""
    p, n, normal = households, len(households.village), rng.standard_normal
    is_late = p.indebted & (rng.random(n) < sigmoid(-1.9 - 0.95 * p.reliability + 0.35 * p.burden))
    licence_age = np.minimum(np.floor(rng.exponential(80.0, n)), 480)
    has_arrears = rng.random(n) < sigmoid(-3.6 - 0.8 * p.reliability)
    gap_share = sigmoid(-2.4 - 0.6 * p.reliability - 1.2 * (p.insured_share - 0.6) + 0.6 * normal(n))
    working_years = np.minimum(p.age, 65) - 18  # years
    return {
        "insured_months": np.minimum(np.floor(p.insured_share * 12 * working_years), 600),
        "contribution_base": np.round(np.clip(p.income / 12 * rng.uniform(0.5, 1.0, n), 4_000, 24_000)),
        "gap_months": rng.binomial(24, gap_share),
        "declared_income": np.round(p.income * np.exp(-0.08 - 0.15 * np.abs(normal(n))), -1),
        "tax_arrears": np.round(has_arrears * np.exp(7.5 + normal(n))),
        "licence_age": licence_age,
        "abnormal_list": rng.random(n) < sigmoid(-3.6 - 0.8 * p.reliability),
        "penalties_36m": rng.poisson(np.exp(-2.4 - 0.6 * p.reliability)),
        "identity_match": rng.random(n) < 0.995,
        "housing": np.round(np.exp(12.75 + 0.7 * p.z_income + 0.5 * normal(n)) * (rng.random(n) > 0.03), -2),
        "land_use_rights": np.round(np.exp(10.9 + 0.7 * normal(n)) * (rng.random(n) > 0.15), -2),
        "equipment": np.round(p.business * np.exp(10.3 + 0.5 * p.z_income + normal(n)), -2),
        "deposits": np.round(p.deposits),
        "debts": np.round(p.debts),
        "days_past_due": is_late * np.minimum(np.ceil(np.exp(2.2 - 0.5 * p.reliability + normal(n))), 720),
        "monthly_debt_service": np.round(p.monthly_debt_service),
        "utilisation": np.round(sigmoid(-0.4 - 0.35 * p.reliability + 0.45 * p.burden + 0.7 * normal(n)), 3),
    }


def observe_appraisals(
    rng: Rng, params: CountyCausalParameters, villages: Villages, households: Households, is_late: np.ndarray
) -> Values:
    """Draw self-assessments and village appraisals. is_late: (households,) bool, any days past due."""
    p, n, normal = households, len(households.village), rng.standard_normal
    perceived_reliability = p.reliability + params.perception_sd * normal(n)
    raters = np.minimum(5 + rng.poisson(4.0, n), 20)
    colludes = villages.raters_collude[p.village]
    has_related_rater = rng.random(n) < np.where(colludes, 0.35, 0.06)
    leniency_bias = (
        villages.leniency[p.village] + params.relative_bonus * has_related_rater + params.collusion_bonus * colludes
    )
    honest_points = params.mean_points + params.points_per_sd * perceived_reliability + leniency_bias  # points of 110
    # The four items share the raters. Each has an error of its own, so the sum errs by about rater_sd / sqrt(raters).
    noise = 2.0 * params.rater_sd / np.sqrt(raters)
    items = {
        name: np.round(max_points * np.clip((honest_points + noise * normal(n)) / 110, 0, 1), 1)
        for name, max_points in ITEM_POINTS.items()
    }
    estimate = estimate_leniency(rng, params, villages, households, honest_points, is_late)
    inflation = np.maximum(0.0, 5.0 - 3.0 * p.reliability + 4.0 * normal(n))  # less reliable households inflate more
    self_score = params.mean_points + 7.0 * p.reliability + inflation + 3.0 * normal(n)
    spread = params.rater_sd * np.where(colludes, 0.5, 1.0)
    return {
        "self_score": np.round(np.clip(self_score, 0, 110), 1),
        "self_evidence_items": np.minimum(rng.poisson(np.exp(0.8 + 0.25 * p.reliability)), 15),
        "self_filing_age": np.minimum(np.floor(rng.exponential(90.0, n)), 720),
        **items,
        "raters": raters,
        "raters_sd": np.round(np.minimum(spread * np.sqrt(rng.chisquare(raters - 1) / (raters - 1)), 55), 2),
        "related_rater": has_related_rater,
        "village_leniency": np.round(np.clip(estimate[p.village, p.quarter], -55, 55), 2),
    }


def estimate_leniency(
    rng: Rng,
    params: CountyCausalParameters,
    villages: Villages,
    households: Households,
    honest_points: np.ndarray,
    is_late: np.ndarray,
) -> np.ndarray:
    """The programme's estimate in points of 110, (villages, quarters), from the appraisals of the previous quarter.

    The mean appraisal of each village is regressed, over the town's villages, on its share of late payers; the residual
    is shrunk by tau2 / (tau2 + s2 / n_v), with tau2 by the method of moments (Morris 1983, empirical Bayes).
    """
    sizes, village_count = villages.sizes, len(villages.sizes)
    quarterly_sd = params.rater_sd / 3.0  # of a household's appraisal by nine raters, from quarter to quarter
    mean = np.bincount(households.village, honest_points, village_count) / sizes
    within_variance = (
        np.maximum(np.bincount(households.village, honest_points**2, village_count) / sizes - mean**2, 0.0).mean()
        + quarterly_sd**2
    )
    observed_means = mean[:, None] + quarterly_sd / np.sqrt(sizes)[:, None] * rng.standard_normal(
        (village_count, params.quarters)
    )
    late_rate = np.bincount(households.village, is_late, village_count) / sizes
    late_rate -= late_rate.mean()
    late_rate_variation = float(late_rate @ late_rate)
    slope = (
        (late_rate @ observed_means / late_rate_variation)
        if village_count > 2 and late_rate_variation > 0
        else np.zeros(params.quarters)
    )
    residual = observed_means - observed_means.mean(axis=0) - late_rate[:, None] * slope
    sampling = within_variance / sizes[:, None]
    tau2 = np.maximum(0.0, (residual**2 - sampling).mean(axis=0))
    estimate: np.ndarray = residual * tau2 / (tau2 + sampling)
    return estimate


def draw_missing_masks(rng: Rng, households: Households) -> dict[str, np.ndarray]:
    """Column -> mask of its missing values, (households,) bool: mildly more often where the value would look worse."""
    p, n = households, len(households.village)

    def draw_missing(share: float, log_odds_shift: np.ndarray | float = 0.0) -> np.ndarray:
        mask: np.ndarray = rng.random(n) < sigmoid(math.log(share / (1 - share)) + np.asarray(log_odds_shift))
        return mask

    filing, income, deposits = (
        draw_missing(0.12, -0.35 * p.reliability),
        draw_missing(0.10, -0.5 * p.z_income),
        draw_missing(0.10, -0.25 * p.buffer),
    )
    appraisal, insurance, police = (
        draw_missing(0.08, 0.01 * (45 - p.age)),
        draw_missing(0.06, -0.3 * p.insured_share),
        draw_missing(0.02),
    )
    assets, credit = draw_missing(0.07), draw_missing(0.04)
    masks = {
        "self_score self_evidence_items self_filing_age": filing,
        " ".join(ITEM_POINTS) + " raters raters_sd related_rater village_leniency": appraisal,
        "insured_months contribution_base gap_months": insurance,
        "declared_income tax_arrears": income,
        "identity_match veto_codes enforcement_cases": police,
        "housing land_use_rights equipment debts": assets,
        "deposits": deposits,
        "days_past_due monthly_debt_service": credit,
        "utilisation": credit,
    }
    return {name: mask for names, mask in masks.items() for name in names.split()}


def observe_public_records(rng: Rng, households: Households, values: Values) -> Values:
    """The columns of courts and market regulation as they read for households without a case, a business or a line."""
    p, n = households, len(households.village)
    has_line = rng.random(n) < 0.8
    in_trouble = sigmoid(-5.6 - 0.9 * p.reliability)  # a court enforces against few
    return {
        "enforcement_cases": (rng.random(n) < in_trouble) * (1 + rng.poisson(0.3, n)),
        "licence_age": p.business * values["licence_age"],
        "abnormal_list": p.business & values["abnormal_list"],
        "penalties_36m": p.business * values["penalties_36m"],
        "utilisation": has_line * values["utilisation"],
    }


def draw_veto_codes(rng: Rng, households: Households) -> pl.Series:
    """The statutory codes reported; 'none' for nearly all."""
    n = len(households.village)
    is_reported = rng.random(n) < 0.004 * np.exp(-0.5 * households.reliability)
    codes = np.where(is_reported, rng.integers(0, len(VETO_CODES), n), len(VETO_CODES))
    return pl.Series((*VETO_CODES, NO_VETO)).gather(codes)


def level_series(name: str, positions: np.ndarray) -> pl.Series:
    return pl.Series(TABLE[name].levels).gather(positions.astype(np.int64))


def draw_tax_grades(rng: Rng, households: Households, licence_age: np.ndarray) -> np.ndarray:
    """Positions in the levels A, B, M, none, C, D. M is for businesses in their first year, none for no business."""
    rank = np.digitize(-0.7 * households.reliability + rng.standard_normal(len(licence_age)), [-0.3, 1.0, 2.2])
    graded = np.where(licence_age < 12, 2, np.where(rank >= 2, rank + 2, rank))
    codes: np.ndarray = np.where(households.business, graded, 3)
    return codes


def text_columns(
    rng: Rng, params: CountyCausalParameters, households: Households, first_village: int, first_household: int
) -> Mapping[str, pl.Series]:
    n = len(households.village)
    quarter_ends = pl.Series([f"{params.first_year + q // 4}-{QUARTER_ENDS[q % 4]}" for q in range(params.quarters)])
    return {
        "household_id": _format_ids("H", np.arange(first_household, first_household + n), 8),
        "village_id": _format_ids("V", households.village + first_village, 5),
        "as_of": quarter_ends.gather(households.quarter),
        "sex": level_series("sex", households.male),
        "ethnicity": level_series("ethnicity", households.ethnicity),
        "religion": level_series("religion", households.religion),
        "health": level_series("health", households.health),
    }


def _format_ids(prefix: str, numbers: np.ndarray, width: int) -> pl.Series:
    return prefix + pl.Series(numbers).cast(pl.String).str.zfill(width)
