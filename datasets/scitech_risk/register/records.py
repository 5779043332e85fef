"""Draw the recorded columns of a simulated register at one month, as public offices and annual accounts show them."""

from __future__ import annotations

import numpy as np

from datasets.scitech_risk.register.causal_model import Companies, MonthlyPath, ZoneCausalParameters
from datasets.simulation import Rng, sigmoid

Values = dict[str, np.ndarray]  # each (companies,)
SOFTWARE, ELECTRONICS, PHARMA, RESEARCH = 0, 1, 2, 8  # positions in the contract's trades
LOG_RD_INTENSITY = np.array([0.15, 0.05, 0.45, 0.25, -0.2, 0.0, 0.05, 0.4, 0.3, -0.3])  # log R&D intensity by trade
CAPITAL_STEPS = np.array(
    [10, 30, 50, 100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000.0]
)  # 10k RMB


def observe_companies(
    rng: Rng, params: ZoneCausalParameters, firms: Companies, path: MonthlyPath, age: np.ndarray
) -> Values:
    """The columns of COMPANIES. rng draws the same numbers whatever the month, so accounts move only as the months
    do.
    """
    n, normal = len(firms.age), rng.standard_normal
    t, m, s = firms.technology, firms.management, firms.size
    innovation_factor = np.where(firms.shell, 0.3, 1.0)  # a shell buys a patent or two
    revenue, previous_revenue = _window_sum(path.revenue, 12), _window_sum(path.revenue, 12, skip=12)
    mean_strain = _window_mean(path.strain, 12)  # annual accounts show strain late
    log_revenue = np.log(np.maximum(revenue, 5.0))

    intensity = np.clip(
        np.exp(-2.0 + LOG_RD_INTENSITY[firms.trade] - 0.28 * (log_revenue - 6.0) + 0.25 * t + 0.35 * normal(n)), 0, 6
    )
    rd = np.maximum(revenue, 8.0) * intensity * np.where(firms.shell, 0.6, 1.0)
    rd_before = np.maximum(previous_revenue, 8.0) * intensity * np.exp(0.15 * normal(n))
    patents = rng.poisson(np.clip(innovation_factor * np.exp(-0.5 + 0.75 * t + 0.45 * s + 0.7 * normal(n)), 0, 400))
    pct_filings = rng.binomial(patents, sigmoid(-3.0 + 0.3 * t))
    sells_technology = rng.random(n) < sigmoid(-1.6 + 0.5 * t + 1.2 * np.isin(firms.trade, (SOFTWARE, RESEARCH)))
    high_tech = np.clip(0.68 + 0.10 * t + 0.12 * normal(n), 0.02, 1.0)

    assets = np.maximum(revenue, 20.0) ** 0.93 * np.exp(0.62 - 0.1 * m + 0.4 * normal(n) + 0.25 * firms.funded)
    # the latest accounts are half a year old
    closing_cash = np.where(age >= 6, _last_value(path.cash, skip=6), _last_value(path.cash))
    cash = np.minimum(closing_cash, 0.7 * assets)
    debt_ratio = np.clip(sigmoid(-0.35 + 0.75 * firms.leverage + 0.12 * mean_strain + 0.15 * normal(n)), 0.02, 1.3)
    # liabilities above assets
    is_over_indebted = rng.random(n) < sigmoid(-4.4 + 0.9 * firms.leverage + 0.5 * mean_strain)
    liabilities = assets * np.where(is_over_indebted, 1.02 + 0.25 * rng.random(n), debt_ratio)
    current_liabilities = liabilities * rng.uniform(0.6, 0.98, n)
    receivables = revenue * np.clip(np.exp(-1.5 + 0.15 * mean_strain - 0.12 * m + 0.4 * normal(n)), 0, 0.9)
    current_assets = np.minimum(cash + receivables + 0.22 * assets * np.exp(0.4 * normal(n)), 0.97 * assets)
    current_assets = np.maximum(current_assets, cash)
    debt = liabilities * firms.indebted * rng.uniform(0.25, 0.7, n)
    interest = debt * np.clip(0.044 - 0.004 * m + 0.006 * firms.leverage + 0.004 * normal(n), 0.02, 0.12)
    unfunded_research = 0.55 * np.maximum(intensity - 0.12, 0.0)  # research that sales do not cover
    margin = 0.085 + 0.035 * m - 0.045 * mean_strain - unfunded_research + 0.05 * normal(n)
    profit = np.maximum(revenue, 8.0) * margin - interest
    profit = np.where(firms.shell, revenue * (0.04 + 0.04 * normal(n)), profit)
    operating_cash_flow = profit + interest + 0.03 * assets + 0.05 * revenue * (normal(n) - 0.5 * mean_strain)
    net_assets = assets - liabilities

    log_capital = 5.6 + 1.3 * s + 0.8 * normal(n)
    registered_capital = CAPITAL_STEPS[np.abs(log_capital[:, None] - np.log(CAPITAL_STEPS)).argmin(axis=1)]
    paid_in_capital = registered_capital * np.clip(np.where(firms.shell, 0.08, 0.62) + 0.3 * normal(n), 0, 1)
    rank = np.digitize(-0.5 * m + 0.25 * mean_strain + normal(n), [-0.1, 1.2, 2.4])
    has_arrears = rng.random(n) < sigmoid(-3.9 - 0.4 * m + 0.6 * _last_value(path.strain))
    has_certificate = ~firms.shell & (rng.random(n) < sigmoid(-3.6 + 1.3 * (firms.trade == SOFTWARE) + 0.4 * t))
    return {
        "licence_age": age,
        "registered_capital": _round_money(registered_capital),
        "paid_in_capital": _round_money(paid_in_capital),
        "rd_expense": _round_money(rd),
        "rd_growth": np.where(age >= 24, np.clip(rd / rd_before - 1, -1, 50), np.nan),
        "rd_staff_share": np.round(
            np.clip(sigmoid(-0.9 + 0.35 * t + LOG_RD_INTENSITY[firms.trade] + 0.5 * normal(n)), 0, 1), 3
        ),
        "invention_patents": patents,
        "pct_filings": pct_filings,
        "technology_contracts": _round_money(sells_technology * revenue * rng.uniform(0.05, 0.6, n)),
        "patent_value": np.where(patents > 0, _round_money(patents * np.exp(3.6 + 0.4 * t + 0.6 * normal(n))), np.nan),
        "revenue": _round_money(revenue),
        "high_tech_revenue": _round_money(revenue * high_tech),
        "revenue_growth": np.where(
            (age >= 24) & (previous_revenue > 0), np.clip(revenue / np.maximum(previous_revenue, 1) - 1, -1, 50), np.nan
        ),
        "super_deduction": _round_money(rd * np.clip(0.85 + 0.1 * normal(n), 0.3, 1.0)),
        "return_on_net_assets": np.where(net_assets > 0, np.clip(profit / np.maximum(net_assets, 1), -5, 5), np.nan),
        "graduates_hired": _draw_counts(
            rng, np.clip(0.06 * np.nan_to_num(_last_value(path.staff)) * np.exp(0.2 * t), 0, 500)
        ),
        "provincial_platforms": rng.random(n) < innovation_factor * sigmoid(-4.3 + 0.7 * t + 0.9 * s),
        "awards": _draw_counts(rng, np.clip(innovation_factor * np.exp(-2.9 + 0.7 * t + 0.4 * s), 0, 20)),
        "projects": _draw_counts(rng, np.clip(innovation_factor * np.exp(-1.3 + 0.55 * t + 0.3 * s), 0, 30)),
        "venture_capital": _round_money(firms.funded * np.exp(6.2 + 0.45 * t + 0.5 * s + 0.6 * normal(n))),
        "total_assets": _round_money(assets),
        "total_liabilities": _round_money(liabilities),
        "current_assets": _round_money(current_assets),
        "current_liabilities": _round_money(current_liabilities),
        "cash": _round_money(cash),
        "receivables": _round_money(np.minimum(receivables, current_assets - cash)),
        "net_profit": _round_money(profit),
        "operating_cash_flow": _round_money(operating_cash_flow),
        "interest_expense": _round_money(interest),
        "debt_service": _round_money(interest + debt * rng.uniform(0.12, 0.4, n)),
        "insured_staff": _last_value(path.staff),
        "tax_grade": np.where(age < 12, 2, np.where(rank >= 2, rank + 1, rank)),
        "tax_arrears": _round_money(has_arrears * (0.5 + revenue * np.exp(-4.2 + normal(n)))),
        "court_cases": _draw_counts(rng, np.exp(-1.7 - 0.25 * m + 0.3 * mean_strain + 0.45 * s)),
        "enforcement_cases": _draw_counts(rng, np.exp(-3.6 - 0.35 * m + 0.6 * mean_strain)),
        "penalties_36m": _draw_counts(rng, np.exp(-2.3 - 0.3 * m + 0.2 * s)),
        "data_certificate": has_certificate,
        "data_asset_value": np.where(has_certificate, _round_money(np.exp(4.6 + 0.4 * s + 0.7 * normal(n))), np.nan),
        # ownership depends on size and has no arrow to default
        "ownership": np.where(rng.random(n) < 0.04 + 0.05 * sigmoid(s), 1, np.where(rng.random(n) < 0.05, 2, 0)),
    }


def observe_standing(rng: Rng, firms: Companies) -> Values:
    """Whether a company is being struck off, and whether its auditor had reservations; few of either."""
    n = len(firms.age)
    return {
        "deregistered": rng.random(n) < np.where(firms.shell, 0.03, 0.003),
        "qualified_audit": rng.random(n) < sigmoid(-4.0 - 0.6 * firms.management),
    }


def draw_missing_masks(rng: Rng, firms: Companies) -> Values:
    """Column -> mask of its missing values, (companies,) bool: small and badly managed companies report less."""
    n = len(firms.age)

    def draw_missing(share: float, log_odds_shift: np.ndarray | float = 0.0) -> np.ndarray:
        mask: np.ndarray = rng.random(n) < sigmoid(np.log(share / (1 - share)) + np.asarray(log_odds_shift))
        return mask

    reporting_shift = -0.35 * firms.management - 0.35 * firms.size
    accounts, research, public_records = (
        draw_missing(0.06, reporting_shift),
        draw_missing(0.07, reporting_shift - 0.3 * firms.technology),
        draw_missing(0.03),
    )
    masks = {
        "total_assets total_liabilities current_assets current_liabilities receivables net_profit "
        "return_on_net_assets operating_cash_flow interest_expense debt_service cash qualified_audit": accounts,
        "rd_expense rd_growth rd_staff_share super_deduction": research,
        "technology_contracts high_tech_revenue": draw_missing(0.10, reporting_shift),
        "insured_staff": draw_missing(0.02),
        "tax_grade tax_arrears": draw_missing(0.03, -0.3 * firms.management),
        "court_cases enforcement_cases penalties_36m": public_records,
        "awards projects provincial_platforms graduates_hired": draw_missing(0.08, reporting_shift),
        "paid_in_capital": draw_missing(0.10, reporting_shift),
        "patent_value": draw_missing(0.35),  # few have had an appraisal
    }
    return {name: mask for names, mask in masks.items() for name in names.split()}


def _draw_counts(rng: Rng, mean: np.ndarray) -> np.ndarray:
    """Poisson counts by inversion (normal above 30), so that the random stream does not depend on the mean."""
    u, z = rng.random(len(mean)), rng.standard_normal(len(mean))
    count, term = np.zeros(len(mean)), np.exp(-mean)
    cumulative = term.copy()
    for k in range(1, 80):
        count += u > cumulative
        term = term * mean / k
        cumulative += term
    return np.where(mean > 30, np.maximum(np.round(mean + np.sqrt(mean) * z), 0), count)


def _window(x: np.ndarray, months: int, skip: int) -> np.ndarray:
    last = len(x) - skip
    window: np.ndarray = x[max(0, last - months) : last]
    return window


def _window_sum(x: np.ndarray, months: int, skip: int = 0) -> np.ndarray:
    total: np.ndarray = np.nansum(_window(x, months, skip), axis=0)
    return total


def _window_mean(x: np.ndarray, months: int) -> np.ndarray:
    window = _window(x, months, 0)
    known_counts = np.maximum((~np.isnan(window)).sum(axis=0), 1)
    mean: np.ndarray = np.nansum(window, axis=0) / known_counts
    return mean


def _last_value(x: np.ndarray, skip: int = 0) -> np.ndarray:
    value: np.ndarray = np.nan_to_num(x[-1 - skip])
    return value


def _round_money(x: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.round(x, 1)
    return rounded
