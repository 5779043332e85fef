"""What the offices of a simulated zone know of its companies at one month: the stated columns of the register."""

from __future__ import annotations

import numpy as np

from datasets.credit_limit.county.causal_model import Rng, sigmoid
from datasets.scitech_risk.register.causal_model import Companies, Path, Story

Values = dict[str, np.ndarray]  # each (companies,)
SOFTWARE, ELECTRONICS, PHARMA, RESEARCH = 0, 1, 2, 8  # positions in the contract's trades
KEEN = np.array([0.15, 0.05, 0.45, 0.25, -0.2, 0.0, 0.05, 0.4, 0.3, -0.3])  # log R&D intensity by trade
ROUND = np.array([10, 30, 50, 100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000.0])  # 10k RMB


def books(rng: Rng, story: Story, firms: Companies, months: Path, age: np.ndarray) -> Values:
    """rng draws the same whatever the month, so that a company's books move only as its months do."""
    n, normal = len(firms.age), rng.standard_normal
    t, m, s = firms.technology, firms.management, firms.size
    tried = np.where(firms.shell, 0.3, 1.0)  # a shell buys a patent or two, and no more
    revenue, before = _sum(months.revenue, 12), _sum(months.revenue, 12, skip=12)
    strained = _mean(months.strain, 12)  # the books of a year know strain late
    log_revenue = np.log(np.maximum(revenue, 5.0))

    intensity = np.clip(
        np.exp(-2.0 + KEEN[firms.trade] - 0.28 * (log_revenue - 6.0) + 0.25 * t + 0.35 * normal(n)), 0, 6
    )
    rd = np.maximum(revenue, 8.0) * intensity * np.where(firms.shell, 0.6, 1.0)
    rd_before = np.maximum(before, 8.0) * intensity * np.exp(0.15 * normal(n))
    patents = rng.poisson(np.clip(tried * np.exp(-0.5 + 0.75 * t + 0.45 * s + 0.7 * normal(n)), 0, 400))
    pct = rng.binomial(patents, sigmoid(-3.0 + 0.3 * t))
    sells_technology = rng.random(n) < sigmoid(-1.6 + 0.5 * t + 1.2 * np.isin(firms.trade, (SOFTWARE, RESEARCH)))
    high_tech = np.clip(0.68 + 0.10 * t + 0.12 * normal(n), 0.02, 1.0)

    assets = np.maximum(revenue, 20.0) ** 0.93 * np.exp(0.62 - 0.1 * m + 0.4 * normal(n) + 0.25 * firms.funded)
    closed = np.where(age >= 6, _last(months.cash, skip=6), _last(months.cash))  # the last books are half a year old
    cash = np.minimum(closed, 0.7 * assets)
    debt_ratio = np.clip(sigmoid(-0.35 + 0.75 * firms.leverage + 0.12 * strained + 0.15 * normal(n)), 0.02, 1.3)
    over = rng.random(n) < sigmoid(-4.4 + 0.9 * firms.leverage + 0.5 * strained)  # liabilities above assets
    liabilities = assets * np.where(over, 1.02 + 0.25 * rng.random(n), debt_ratio)
    current_liabilities = liabilities * rng.uniform(0.6, 0.98, n)
    receivables = revenue * np.clip(np.exp(-1.5 + 0.15 * strained - 0.12 * m + 0.4 * normal(n)), 0, 0.9)
    current_assets = np.minimum(cash + receivables + 0.22 * assets * np.exp(0.4 * normal(n)), 0.97 * assets)
    current_assets = np.maximum(current_assets, cash)
    debt = liabilities * firms.indebted * rng.uniform(0.25, 0.7, n)
    interest = debt * np.clip(0.044 - 0.004 * m + 0.006 * firms.leverage + 0.004 * normal(n), 0.02, 0.12)
    burn = 0.55 * np.maximum(intensity - 0.12, 0.0)  # research that sales do not pay for
    margin = 0.085 + 0.035 * m - 0.045 * strained - burn + 0.05 * normal(n)
    profit = np.maximum(revenue, 8.0) * margin - interest
    profit = np.where(firms.shell, revenue * (0.04 + 0.04 * normal(n)), profit)
    operating = profit + interest + 0.03 * assets + 0.05 * revenue * (normal(n) - 0.5 * strained)
    net_assets = assets - liabilities

    wanted = 5.6 + 1.3 * s + 0.8 * normal(n)
    registered = ROUND[np.abs(wanted[:, None] - np.log(ROUND)).argmin(axis=1)]
    paid = registered * np.clip(np.where(firms.shell, 0.08, 0.62) + 0.3 * normal(n), 0, 1)
    rank = np.digitize(-0.5 * m + 0.25 * strained + normal(n), [-0.1, 1.2, 2.4])
    owes = rng.random(n) < sigmoid(-3.9 - 0.4 * m + 0.6 * _last(months.strain))
    certified = ~firms.shell & (rng.random(n) < sigmoid(-3.6 + 1.3 * (firms.trade == SOFTWARE) + 0.4 * t))
    return {
        "licence_age": age,
        "registered_capital": _money(registered),
        "paid_in_capital": _money(paid),
        "rd_expense": _money(rd),
        "rd_growth": np.where(age >= 24, np.clip(rd / rd_before - 1, -1, 50), np.nan),
        "rd_staff_share": np.round(np.clip(sigmoid(-0.9 + 0.35 * t + KEEN[firms.trade] + 0.5 * normal(n)), 0, 1), 3),
        "invention_patents": patents,
        "pct_filings": pct,
        "technology_contracts": _money(sells_technology * revenue * rng.uniform(0.05, 0.6, n)),
        "patent_value": np.where(patents > 0, _money(patents * np.exp(3.6 + 0.4 * t + 0.6 * normal(n))), np.nan),
        "revenue": _money(revenue),
        "high_tech_revenue": _money(revenue * high_tech),
        "revenue_growth": np.where(
            (age >= 24) & (before > 0), np.clip(revenue / np.maximum(before, 1) - 1, -1, 50), np.nan
        ),
        "super_deduction": _money(rd * np.clip(0.85 + 0.1 * normal(n), 0.3, 1.0)),
        "return_on_net_assets": np.where(net_assets > 0, np.clip(profit / np.maximum(net_assets, 1), -5, 5), np.nan),
        "graduates_hired": _counts(rng, np.clip(0.06 * np.nan_to_num(_last(months.staff)) * np.exp(0.2 * t), 0, 500)),
        "provincial_platforms": rng.random(n) < tried * sigmoid(-4.3 + 0.7 * t + 0.9 * s),
        "awards": _counts(rng, np.clip(tried * np.exp(-2.9 + 0.7 * t + 0.4 * s), 0, 20)),
        "projects": _counts(rng, np.clip(tried * np.exp(-1.3 + 0.55 * t + 0.3 * s), 0, 30)),
        "venture_capital": _money(firms.funded * np.exp(6.2 + 0.45 * t + 0.5 * s + 0.6 * normal(n))),
        "total_assets": _money(assets),
        "total_liabilities": _money(liabilities),
        "current_assets": _money(current_assets),
        "current_liabilities": _money(current_liabilities),
        "cash": _money(cash),
        "receivables": _money(np.minimum(receivables, current_assets - cash)),
        "net_profit": _money(profit),
        "operating_cash_flow": _money(operating),
        "interest_expense": _money(interest),
        "debt_service": _money(interest + debt * rng.uniform(0.12, 0.4, n)),
        "insured_staff": _last(months.staff),
        "tax_grade": np.where(age < 12, 2, np.where(rank >= 2, rank + 1, rank)),
        "tax_arrears": _money(owes * (0.5 + revenue * np.exp(-4.2 + normal(n)))),
        "court_cases": _counts(rng, np.exp(-1.7 - 0.25 * m + 0.3 * strained + 0.45 * s)),
        "enforcement_cases": _counts(rng, np.exp(-3.6 - 0.35 * m + 0.6 * strained)),
        "penalties_36m": _counts(rng, np.exp(-2.3 - 0.3 * m + 0.2 * s)),
        "data_certificate": certified,
        "data_asset_value": np.where(certified, _money(np.exp(4.6 + 0.4 * s + 0.7 * normal(n))), np.nan),
        # ownership goes with size and has no arrow to default
        "ownership": np.where(rng.random(n) < 0.04 + 0.05 * sigmoid(s), 1, np.where(rng.random(n) < 0.05, 2, 0)),
    }


def absences(rng: Rng, firms: Companies) -> Values:
    """Column -> where it is missing (bool): small and ill-managed companies report less."""
    n = len(firms.age)

    def lost(share: float, more: np.ndarray | float = 0.0) -> np.ndarray:
        where: np.ndarray = rng.random(n) < sigmoid(np.log(share / (1 - share)) + np.asarray(more))
        return where

    worse = -0.35 * firms.management - 0.35 * firms.size
    books_, research, records = lost(0.06, worse), lost(0.07, worse - 0.3 * firms.technology), lost(0.03)
    without = {
        "total_assets total_liabilities current_assets current_liabilities receivables net_profit "
        "return_on_net_assets operating_cash_flow interest_expense debt_service cash": books_,
        "rd_expense rd_growth rd_staff_share super_deduction": research,
        "technology_contracts high_tech_revenue": lost(0.10, worse),
        "insured_staff": lost(0.02),
        "tax_grade tax_arrears": lost(0.03, -0.3 * firms.management),
        "court_cases enforcement_cases penalties_36m": records,
        "awards projects provincial_platforms graduates_hired": lost(0.08, worse),
        "paid_in_capital": lost(0.10, worse),
        "patent_value": lost(0.35),  # few have had theirs appraised
    }
    return {name: where for names, where in without.items() for name in names.split()}


def _counts(rng: Rng, mean: np.ndarray) -> np.ndarray:
    """Poisson counts by inversion (normal above 30): however the mean moves, the stream of numbers stays in step."""
    u, z = rng.random(len(mean)), rng.standard_normal(len(mean))
    count, term = np.zeros(len(mean)), np.exp(-mean)
    below = term.copy()
    for k in range(1, 80):
        count += u > below
        term = term * mean / k
        below += term
    return np.where(mean > 30, np.maximum(np.round(mean + np.sqrt(mean) * z), 0), count)


def _window(x: np.ndarray, months: int, skip: int) -> np.ndarray:
    last = len(x) - skip
    window: np.ndarray = x[max(0, last - months) : last]
    return window


def _sum(x: np.ndarray, months: int, skip: int = 0) -> np.ndarray:
    total: np.ndarray = np.nansum(_window(x, months, skip), axis=0)
    return total


def _mean(x: np.ndarray, months: int) -> np.ndarray:
    window = _window(x, months, 0)
    known = np.maximum((~np.isnan(window)).sum(axis=0), 1)
    mean: np.ndarray = np.nansum(window, axis=0) / known
    return mean


def _last(x: np.ndarray, skip: int = 0) -> np.ndarray:
    value: np.ndarray = np.nan_to_num(x[-1 - skip])
    return value


def _money(x: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.round(x, 1)
    return rounded
