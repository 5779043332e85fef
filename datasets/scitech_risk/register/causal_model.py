"""Draw the causes in a simulated zone: companies, their months, default. simulator.py describes the causal model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from datasets.simulation import Rng, sigmoid

HISTORY_MONTHS = 36  # months before the first register
MAX_SHIFT = 12  # months by which a register may be later


@dataclass(frozen=True)
class ZoneCausalParameters:
    """The strengths of the arrows. Coefficients act on the log-odds of default unless a comment says otherwise."""

    first_month: str = "2026-06"  # the month of the register whose shift is 0
    base_log_odds: float = -4.5  # gives a default rate near 5 %
    management: float = -0.50  # per standard deviation, like the next five
    technology: float = -0.25
    leverage: float = 0.70
    liquidity: float = -0.68
    size: float = -0.30
    strain: float = 1.15
    young_company: float = 0.35  # under three years
    trade_shock: float = 1.0  # per 10 % that the trade's demand lies below its trend
    shock: float = 1.3  # a lost customer or founder in the following year, never observed
    shock_share: float = 0.07
    strain_memory: float = 0.93  # share of a month's strain that remains in the next
    shell_share: float = 0.025  # share of companies
    shell_default: float = 0.06  # flat: nothing in a shell's accounts predicts when it stops paying
    newcomer_share: float = 0.005  # share of companies that enter in a month
    median_revenue: float = 400.0  # 10k RMB/year
    revenue_sd: float = 1.6  # of its logarithm


@dataclass(frozen=True)
class Companies:
    """Arrays (companies,); newcomers of later months come last, with a negative age.

    Management, technology, leverage and liquidity are never observed; they are standard normal.
    """

    trade: np.ndarray  # position in the contract's levels
    age: np.ndarray  # months, at the register whose shift is 0
    size: np.ndarray  # log revenue, standardised
    management: np.ndarray
    technology: np.ndarray
    leverage: np.ndarray
    liquidity: np.ndarray
    funded: np.ndarray  # bool, has raised venture capital
    indebted: np.ndarray  # bool, has loans
    shell: np.ndarray  # bool
    dormant: np.ndarray  # bool, a shell kept for later


@dataclass(frozen=True)
class MonthlyPath:
    """Arrays (months, companies); NaN before a company's first month. `strain` is never observed."""

    strain: np.ndarray
    demand: np.ndarray  # of its trade, log
    revenue: np.ndarray  # 10k RMB
    staff: np.ndarray
    cash: np.ndarray  # 10k RMB
    electricity: np.ndarray  # MWh
    late: np.ndarray  # 0/1
    zero: np.ndarray  # 0/1
    overdue: np.ndarray  # days


# By trade: share of companies, MWh a year per 10k RMB of revenue, swing of demand.
TRADES = np.array(
    [
        (0.26, 0.03, 0.8), (0.16, 0.12, 1.2), (0.06, 0.15, 0.5), (0.07, 0.10, 0.6), (0.14, 0.22, 1.1),
        (0.08, 0.45, 1.2), (0.06, 0.30, 1.8), (0.02, 0.18, 0.6), (0.09, 0.03, 0.7), (0.06, 0.10, 1.0),
    ]
)  # fmt: skip


def draw_companies(rng: Rng, params: ZoneCausalParameters, count: int) -> Companies:
    """Draw `count` companies that exist at shift 0, and the newcomers of each later month."""
    entry_month = np.repeat(np.arange(1, MAX_SHIFT + 1), max(1, round(params.newcomer_share * count)))
    n, normal = count + len(entry_month), rng.standard_normal
    size = normal(n)
    age = np.floor(6 + rng.gamma(1.6, 42.0, n) * np.exp(0.25 * size))
    age[count:] = -entry_month
    size[count:] = -0.9 + 0.5 * size[count:]  # newcomers are small
    technology = normal(n)
    funded = rng.random(n) < sigmoid(-2.2 + 0.7 * technology - 0.2 * size)
    management = normal(n)
    shell = np.zeros(n, dtype=bool)
    shell[rng.permutation(count)[: round(params.shell_share * count)]] = True
    return Companies(
        trade=rng.choice(len(TRADES), n, p=TRADES[:, 0] / TRADES[:, 0].sum()),
        age=np.where(shell, 8 + rng.integers(0, 60, n), age),
        size=np.where(shell, 0.35 * size - 0.1, size),
        management=management,
        technology=technology,
        leverage=0.95 * normal(n) + 0.25 * size - 0.3 * funded,
        liquidity=0.9 * normal(n) + 0.25 * management + 0.6 * funded,
        funded=funded & ~shell,
        indebted=(rng.random(n) < sigmoid(0.3 + 0.5 * size)) & ~shell,
        shell=shell,
        dormant=shell & (rng.random(n) < 0.25),
    )


def draw_demand(rng: Rng, months: int) -> np.ndarray:
    """Log deviation of demand from each trade's trend, (months, trades); shared by all blocks of a zone."""
    level = np.zeros((months, len(TRADES)))
    current = 0.06 * TRADES[:, 2] * rng.standard_normal(len(TRADES))
    for month in range(months):
        current = 0.94 * current + 0.022 * TRADES[:, 2] * rng.standard_normal(len(TRADES))
        level[month] = current
    return level


def simulate_path(
    rng: Rng,
    params: ZoneCausalParameters,
    firms: Companies,
    trend: np.ndarray,
    is_staffless_vehicle: np.ndarray,
    hiding: float,
    seed: int,
) -> MonthlyPath:
    """Simulate month by month, so that a later register has the same past; rng draws once per month for all companies.

    trend: (months, trades). is_staffless_vehicle: (companies,) bool, an honest company without staff.
    """
    n, months = len(firms.age), len(trend)
    static_rng = np.random.default_rng([seed, 77])
    normal = static_rng.standard_normal
    memory = params.strain_memory
    noise = math.sqrt(1 - memory**2)
    strain = normal(n)
    log_yearly_revenue = np.log(params.median_revenue) + params.revenue_sd * firms.size
    growth = 0.26 + 0.05 * firms.technology + 0.05 * firms.management + 0.08 * normal(n) - 0.04 * firms.size
    cumulative_growth = np.zeros(n)
    volatility = 0.07 + 0.15 * sigmoid(-1.2 * firms.size)
    log_staff = np.log(3 + (np.exp(log_yearly_revenue) / 45) ** 0.85) + 0.25 * normal(n)
    log_electricity_intensity = np.log(TRADES[firms.trade, 1]) + 0.5 * normal(n)
    # vehicles, and founders who have not insured anybody yet
    has_no_staff = is_staffless_vehicle | ~firms.shell & (firms.size < -0.8) & (static_rng.random(n) < 0.10)
    overdue = np.zeros(n)
    hides = static_rng.random((4, n)) < hiding  # staff, electricity, filing, (spare)
    feigned_staff = 1 + static_rng.integers(0, 3, n)
    season = 0.08 * np.sin(2 * math.pi * (np.arange(months) + 3) / 12)
    series: dict[str, list[np.ndarray]] = {name: [] for name in MonthlyPath.__dataclass_fields__}
    for month in range(months):
        z, u = rng.standard_normal((6, n)), rng.random((5, n))
        age = firms.age - (HISTORY_MONTHS - 1) + month
        is_present = age >= 0
        strain = memory * strain + noise * (z[0] - 0.10 * firms.management)
        excess_strain = np.maximum(strain - 0.3, 0.0)
        cumulative_growth = cumulative_growth + (growth - 0.75 * excess_strain) / 12 + 0.02 * z[1]
        ramp = np.log1p(-np.exp(-(np.maximum(age, 0) + 2) / 14))
        level = log_yearly_revenue - 0.35 + cumulative_growth + ramp + trend[month, firms.trade]
        revenue = np.exp(level + season[month] + volatility * z[2]) / 12
        revenue = np.where(u[0] < 0.30 * sigmoid(-2.5 - 2.0 * (firms.size + 0.6)), 0.0, revenue)
        staff = np.exp(log_staff + 0.6 * (cumulative_growth + ramp) - 0.12 * excess_strain) * np.where(
            has_no_staff, 0, 1
        )
        cash = np.exp(level - 1.75 + 0.75 * firms.liquidity - 0.42 * strain + 0.16 * z[3] - 0.15 * firms.size)
        electricity = np.exp(
            level - 2.5 - 1.5 * is_staffless_vehicle + log_electricity_intensity + 0.15 * z[4] + 0.06 * season[month]
        )
        late = u[1] < sigmoid(-3.9 - 0.4 * firms.management + 0.9 * strain)
        becomes_overdue = u[2] < sigmoid(-5.3 - 0.4 * firms.management + 1.2 * strain + 0.5 * firms.leverage)
        stays_overdue = (overdue > 0) & (u[3] < 0.42) & (overdue < 60)
        overdue = np.where(stays_overdue, overdue + 30, np.where(becomes_overdue, 3 + np.floor(27 * u[4]), 0.0))
        zero = (revenue == 0) & (u[3] < 0.8)
        # A shell reports steady sales, but has no insured staff and hardly any electricity.
        files_zero = firms.dormant | (~hides[2] & (u[0] < 0.35))
        revenue = np.where(firms.shell, np.where(files_zero, 0.0, np.exp(level + 0.1 * z[2]) / 12), revenue)
        staff = np.where(firms.shell, np.where(hides[0], feigned_staff, 0), np.round(staff))
        idle_electricity = np.exp(-4.2 + 0.4 * z[4])
        electricity = np.where(firms.shell & ~(hides[1] & ~firms.dormant), idle_electricity, electricity)
        zero = np.where(firms.shell, files_zero, zero)
        cash = np.where(firms.shell, 0.3 * cash, cash)
        month_values = dict(strain=strain, demand=trend[month, firms.trade], revenue=revenue, staff=staff, cash=cash,
                   electricity=electricity, late=late & is_present, zero=zero, overdue=overdue)  # fmt: skip
        for name, values in month_values.items():
            series[name].append(np.where(is_present, values, np.nan))
    return MonthlyPath(**{name: np.stack(values) for name, values in series.items()})


def compute_true_pd(
    params: ZoneCausalParameters, firms: Companies, path: MonthlyPath, has_shock: np.ndarray, shift: int
) -> np.ndarray:
    """The probability of default of each company, (companies,): all causes of default are here.

    has_shock: (companies,) bool, a shock in the following year. shift: months after the first register.
    """
    index = HISTORY_MONTHS - 1 + shift
    demand_shortfall = -10 * path.demand[index]  # in steps of 10 %
    log_odds = (
        params.base_log_odds
        + params.management * firms.management
        + params.technology * firms.technology
        + params.leverage * firms.leverage
        + params.liquidity * firms.liquidity
        + params.size * firms.size
        + params.strain * np.nan_to_num(path.strain[index])
        + params.young_company * (firms.age + shift < 36)
        + params.trade_shock * demand_shortfall * 0.5
        + params.shock * has_shock
    )
    return np.where(firms.shell, params.shell_default, sigmoid(log_odds))
