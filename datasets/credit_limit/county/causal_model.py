"""Draw the causes in a simulated county: villages, households, default. simulator.py describes the causal model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from datasets.simulation import Rng, sigmoid


@dataclass(frozen=True)
class CountyCausalParameters:
    """The strengths of the arrows. Coefficients act on the log-odds of default unless a comment says otherwise."""

    households_per_village: int = 250
    first_year: int = 2023
    quarters: int = 8
    base_log_odds: float = -3.8  # gives a default rate near 5 %
    reliability: float = -1.0  # per standard deviation
    burden: float = 0.65  # per standard deviation of log debt service / income
    buffer: float = -0.50  # per standard deviation of log deposits
    insured: float = -0.50  # from never to always insured
    shock: float = 1.3  # an illness or a crop failure in the year after
    shock_share: float = 0.08
    village_shock_sd: float = 0.20  # per village and quarter
    cycle: float = 0.12  # amplitude over the quarters
    culture_sd: float = 0.30  # spread of the villages' mean reliability, in standard deviations of households
    leniency_sd: float = 5.0  # points of 110
    colluding_villages: float = 0.08  # share
    collusion_bonus: float = 3.0  # points of 110
    relative_bonus: float = 5.0  # points of 110
    perception_sd: float = 0.55  # a village's error about a household, in standard deviations of reliability
    rater_sd: float = 7.0  # points of 110, of one honest rater
    points_per_sd: float = 8.5  # honest points of 110 per standard deviation of reliability
    mean_points: float = 82.0  # of 110; 80 qualifies


@dataclass(frozen=True)
class Villages:
    """Arrays (villages,)."""

    sizes: np.ndarray  # households
    culture: np.ndarray  # mean reliability
    wealth: np.ndarray  # log income relative to the county
    leniency: np.ndarray  # points of 110
    raters_collude: np.ndarray  # bool
    minority_share: np.ndarray
    devout_share: np.ndarray
    mean_age_offset: np.ndarray


@dataclass(frozen=True)
class Households:
    """Arrays (households,): attributes, means and outcome of each household."""

    village: np.ndarray  # position in Villages
    quarter: np.ndarray  # 0 to CountyCausalParameters.quarters - 1
    age: np.ndarray
    male: np.ndarray
    ethnicity: np.ndarray  # position in the contract's levels; likewise religion and health
    religion: np.ndarray
    health: np.ndarray
    reliability: np.ndarray  # standard normal over the county
    z_income: np.ndarray  # log(income / 95,000)
    income: np.ndarray  # RMB/year
    business: np.ndarray  # bool
    insured_share: np.ndarray  # of working life
    deposits: np.ndarray  # RMB
    indebted: np.ndarray  # bool
    debts: np.ndarray  # RMB
    monthly_debt_service: np.ndarray  # RMB/month
    burden: np.ndarray  # log debt service / income, standardised
    buffer: np.ndarray  # log deposits, standardised: living costs do not grow with income
    true_pd: np.ndarray
    default: np.ndarray  # bool


def draw_villages(rng: Rng, params: CountyCausalParameters, sizes: np.ndarray) -> Villages:
    """Draw villages. Ethnicity, religion and age depend on the village, and mildly on its wealth; conduct and
    leniency on
    neither.
    """
    village_count = len(sizes)
    wealth = 0.25 * rng.standard_normal(village_count)
    return Villages(
        sizes=sizes,
        culture=params.culture_sd * rng.standard_normal(village_count),
        wealth=wealth,
        leniency=np.clip(params.leniency_sd * rng.standard_normal(village_count), -20, 20),
        raters_collude=rng.random(village_count) < params.colluding_villages,
        minority_share=np.clip(rng.beta(0.6, 6.0, village_count) - 0.10 * wealth, 0.0, 0.9),
        devout_share=np.clip(rng.beta(1.2, 5.0, village_count), 0.0, 0.9),
        mean_age_offset=3.0 * rng.standard_normal(village_count) - 4.0 * wealth,
    )


def draw_households(rng: Rng, params: CountyCausalParameters, villages: Villages) -> Households:
    village_count, n = len(villages.sizes), int(villages.sizes.sum())
    normal = rng.standard_normal
    village = np.repeat(np.arange(village_count), villages.sizes)
    quarter = rng.integers(0, params.quarters, n)

    age = np.clip(np.round(49 + villages.mean_age_offset[village] + 12 * normal(n)), 20, 85)
    minority = rng.random(n) < villages.minority_share[village]
    devout = rng.random(n) < villages.devout_share[village]
    poor_health = rng.random(n) < 0.04 + 0.002 * np.maximum(age - 40, 0)

    reliability = villages.culture[village] + math.sqrt(1 - params.culture_sd**2) * normal(n)
    z_income = villages.wealth[village] + 0.12 * reliability - 0.20 * poor_health + 0.5 * normal(n)
    income = 95_000 * np.exp(z_income)
    insured_share = rng.beta(1.6, 1.1, n)
    deposits = 45_000 * np.exp(0.8 * z_income + 0.30 * reliability + 0.8 * normal(n))
    indebted = rng.random(n) < 0.75
    debts = np.where(indebted, income * np.exp(-0.35 - 0.10 * reliability + 0.7 * normal(n)), 0.0)
    monthly_debt_service = debts * rng.uniform(0.010, 0.028, n)
    burden = (np.log(0.02 + 12 * monthly_debt_service / income) + 2.4) / 1.1
    buffer = np.log(deposits / 45_000) / 0.98

    # default: all its causes are here
    shock = rng.random(n) < params.shock_share
    village_shock = params.village_shock_sd * normal((village_count, params.quarters))
    cycle = params.cycle * np.sin(2 * math.pi * np.arange(params.quarters) / params.quarters)
    true_pd = sigmoid(
        params.base_log_odds
        + params.reliability * reliability
        + params.burden * burden
        + params.buffer * buffer
        + params.insured * insured_share
        + params.shock * shock
        + village_shock[village, quarter]
        + cycle[quarter]
    )
    return Households(
        village=village,
        quarter=quarter,
        age=age,
        male=rng.random(n) < 0.75,
        ethnicity=np.where(minority, rng.integers(1, 6, n), 0),
        religion=np.where(devout, 1 + rng.choice(5, n, p=[0.5, 0.2, 0.2, 0.05, 0.05]), 0),
        health=np.where(poor_health, 2, rng.random(n) < 0.25),
        reliability=reliability,
        z_income=z_income,
        income=income,
        business=rng.random(n) < sigmoid(-0.8 + 0.5 * z_income),
        insured_share=insured_share,
        deposits=deposits,
        indebted=indebted,
        debts=debts,
        monthly_debt_service=monthly_debt_service,
        burden=burden,
        buffer=buffer,
        true_pd=true_pd,
        default=rng.random(n) < true_pd,
    )
