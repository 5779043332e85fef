"""What a simulated county leaves on record: registers, appraisals, and the holes in them.

The story is told at the top of county.py."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from datasets.credit_limit.county.causal_model import Households, Rng, Story, Villages, sigmoid
from datasets.credit_limit.county.schema import ITEM_POINTS, TABLE

QUARTER_ENDS = ("03-31", "06-30", "09-30", "12-31")
VETOES = ("dishonest_debtor", "fraud_offence", "gambling_offence")  # codes of configs/policies/credit_limit.toml
Values = dict[str, np.ndarray]  # each (households,)


def registers(rng: Rng, story: Story, town: Villages, people: Households) -> Values:
    """Social security, tax, market regulation, public security, assets, credit."""
    p, n, normal = people, len(people.village), rng.standard_normal
    late = p.indebted & (rng.random(n) < sigmoid(-1.9 - 0.95 * p.reliability + 0.35 * p.burden))
    licence_age = np.minimum(np.floor(rng.exponential(80.0, n)), 480)
    arrears = rng.random(n) < sigmoid(-3.6 - 0.8 * p.reliability)
    gap_share = sigmoid(-2.4 - 0.6 * p.reliability - 1.2 * (p.insured_share - 0.6) + 0.6 * normal(n))
    worked = np.minimum(p.age, 65) - 18  # years
    return {
        "insured_months": np.minimum(np.floor(p.insured_share * 12 * worked), 600),
        "contribution_base": np.round(np.clip(p.income / 12 * rng.uniform(0.5, 1.0, n), 4_000, 24_000)),
        "gap_months": rng.binomial(24, gap_share),
        "declared_income": np.round(p.income * np.exp(-0.08 - 0.15 * np.abs(normal(n))), -1),
        "tax_arrears": np.round(arrears * np.exp(7.5 + normal(n))),
        "licence_age": licence_age,
        "abnormal_list": rng.random(n) < sigmoid(-3.6 - 0.8 * p.reliability),
        "penalties_36m": rng.poisson(np.exp(-2.4 - 0.6 * p.reliability)),
        "identity_match": rng.random(n) < 0.995,
        "housing": np.round(np.exp(12.75 + 0.7 * p.z_income + 0.5 * normal(n)) * (rng.random(n) > 0.03), -2),
        "land_use_rights": np.round(np.exp(10.9 + 0.7 * normal(n)) * (rng.random(n) > 0.15), -2),
        "equipment": np.round(p.business * np.exp(10.3 + 0.5 * p.z_income + normal(n)), -2),
        "deposits": np.round(p.deposits),
        "debts": np.round(p.debts),
        "days_past_due": late * np.minimum(np.ceil(np.exp(2.2 - 0.5 * p.reliability + normal(n))), 720),
        "monthly_debt_service": np.round(p.service),
        "utilisation": np.round(sigmoid(-0.4 - 0.35 * p.reliability + 0.45 * p.burden + 0.7 * normal(n)), 3),
    }


def appraisals(rng: Rng, story: Story, town: Villages, people: Households, late: np.ndarray) -> Values:
    """What a household says of itself, and what its village says of it. `late`: bool, any days past due."""
    p, n, normal = people, len(people.village), rng.standard_normal
    perceived = p.reliability + story.perception_sd * normal(n)
    raters = np.minimum(5 + rng.poisson(4.0, n), 20)
    colludes = town.colludes[p.village]
    related = rng.random(n) < np.where(colludes, 0.35, 0.06)
    favour = town.leniency[p.village] + story.relative_bonus * related + story.collusion_bonus * colludes
    honest = story.mean_points + story.points_per_sd * perceived + favour  # points of 110
    # four items share the raters; each adds its own error, so that their sum errs by about rater_sd / sqrt(raters)
    noise = 2.0 * story.rater_sd / np.sqrt(raters)
    items = {
        name: np.round(most * np.clip((honest + noise * normal(n)) / 110, 0, 1), 1)
        for name, most in ITEM_POINTS.items()
    }
    estimate = estimated_leniency(rng, story, town, people, honest, late)
    inflation = np.maximum(0.0, 5.0 - 3.0 * p.reliability + 4.0 * normal(n))  # the less reliable inflate more
    said = story.mean_points + 7.0 * p.reliability + inflation + 3.0 * normal(n)
    spread = story.rater_sd * np.where(colludes, 0.5, 1.0)
    return {
        "self_score": np.round(np.clip(said, 0, 110), 1),
        "self_evidence_items": np.minimum(rng.poisson(np.exp(0.8 + 0.25 * p.reliability)), 15),
        "self_filing_age": np.minimum(np.floor(rng.exponential(90.0, n)), 720),
        **items,
        "raters": raters,
        "raters_sd": np.round(np.minimum(spread * np.sqrt(rng.chisquare(raters - 1) / (raters - 1)), 55), 2),
        "related_rater": related,
        "village_leniency": np.round(np.clip(estimate[p.village, p.quarter], -55, 55), 2),
    }


def estimated_leniency(
    rng: Rng, story: Story, town: Villages, people: Households, honest: np.ndarray, late: np.ndarray
) -> np.ndarray:
    """The programme's estimate in points of 110, (villages, quarters): from the appraisals of the quarter before.

    y_v = mean appraisal of village v, regressed over the town's villages on its share of late payers; the residual e_v
    is shrunk by tau2 / (tau2 + s2 / n_v), tau2 by the method of moments (Morris 1983, empirical Bayes).
    """
    sizes, v = town.sizes, len(town.sizes)
    fresh_sd = story.rater_sd / 3.0  # a household's appraisal, from one quarter to the next: nine raters
    mean = np.bincount(people.village, honest, v) / sizes
    within = np.maximum(np.bincount(people.village, honest**2, v) / sizes - mean**2, 0.0).mean() + fresh_sd**2
    seen = mean[:, None] + fresh_sd / np.sqrt(sizes)[:, None] * rng.standard_normal((v, story.quarters))
    record = np.bincount(people.village, late, v) / sizes
    record -= record.mean()
    spread = float(record @ record)
    slope = (record @ seen / spread) if v > 2 and spread > 0 else np.zeros(story.quarters)
    residual = seen - seen.mean(axis=0) - record[:, None] * slope
    sampling = within / sizes[:, None]
    tau2 = np.maximum(0.0, (residual**2 - sampling).mean(axis=0))
    estimate: np.ndarray = residual * tau2 / (tau2 + sampling)
    return estimate


def absences(rng: Rng, people: Households) -> dict[str, np.ndarray]:
    """Column -> where it is missing (bool): mildly more often where the value would look worse."""
    p, n = people, len(people.village)

    def lost(share: float, more: np.ndarray | float = 0.0) -> np.ndarray:
        where: np.ndarray = rng.random(n) < sigmoid(math.log(share / (1 - share)) + np.asarray(more))
        return where

    filing, income, deposits = (
        lost(0.12, -0.35 * p.reliability),
        lost(0.10, -0.5 * p.z_income),
        lost(0.10, -0.25 * p.buffer),
    )
    appraisal, insurance, police = lost(0.08, 0.01 * (45 - p.age)), lost(0.06, -0.3 * p.insured_share), lost(0.02)
    assets, credit = lost(0.07), lost(0.04)
    without = {
        "self_score self_evidence_items self_filing_age": filing,
        " ".join(ITEM_POINTS) + " raters raters_sd related_rater village_leniency": appraisal,
        "insured_months contribution_base gap_months": insurance,
        "declared_income tax_arrears": income,
        "tax_grade licence_age abnormal_list penalties_36m": ~p.business,
        "identity_match": police,
        "veto_codes": rng.random(n) >= 0.004 * np.exp(-0.5 * p.reliability),
        "housing land_use_rights equipment debts": assets,
        "deposits": deposits,
        "days_past_due monthly_debt_service": credit,
        "utilisation": credit | (rng.random(n) < 0.2),  # no line to use
    }
    return {name: where for names, where in without.items() for name in names.split()}


def levels(name: str, codes: np.ndarray) -> pl.Series:
    return pl.Series(TABLE[name].levels).gather(codes.astype(np.int64))


def grades(rng: Rng, people: Households, licence_age: np.ndarray) -> np.ndarray:
    """Positions in A, B, M, C, D. M is for businesses in their first year."""
    rank = np.digitize(-0.7 * people.reliability + rng.standard_normal(len(licence_age)), [-0.3, 1.0, 2.2])
    codes: np.ndarray = np.where(licence_age < 12, 2, np.where(rank >= 2, rank + 1, rank))
    return codes


def texts(
    rng: Rng, story: Story, people: Households, first_village: int, first_household: int
) -> Mapping[str, pl.Series]:
    n = len(people.village)
    ends = pl.Series([f"{story.first_year + q // 4}-{QUARTER_ENDS[q % 4]}" for q in range(story.quarters)])
    return {
        "household_id": _numbered("H", np.arange(first_household, first_household + n), 8),
        "village_id": _numbered("V", people.village + first_village, 5),
        "as_of": ends.gather(people.quarter),
        "veto_codes": pl.Series(VETOES).gather(rng.integers(0, len(VETOES), n)),
        "sex": levels("sex", people.male),
        "ethnicity": levels("ethnicity", people.ethnicity),
        "religion": levels("religion", people.religion),
        "health": levels("health", people.health),
    }


def _numbered(letter: str, numbers: np.ndarray, width: int) -> pl.Series:
    return letter + pl.Series(numbers).cast(pl.String).str.zfill(width)
