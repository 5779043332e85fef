"""Estimate what the decisions would have earned on the held-out rows, if limits were drawn as the policy assumes.

A good row earns (rate - funding) a year on the drawn part of its limit, a bad one loses the LGD share of it. One year,
without fees or cost of capital: enough to compare cutoffs and models, not to make a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.metrics import Interval
from training.evaluation.metrics import BootstrapSamples, bootstrap_interval

MAX_BAND_POINTS = 400  # cutoffs at which the band of the curve is computed


@dataclass(frozen=True)
class LoanTerms:
    """A loan's economics under a policy. `cutoff`: the highest PD that is approved."""

    currency: str
    margin: float  # share of the drawn amount a year: rate - funding
    lgd: float
    ccf: float  # share of the limit that is drawn
    cutoff: float

    @classmethod
    def from_policy(cls, policy: Any) -> LoanTerms:
        """Take the terms from a product's policy."""
        return cls(
            currency=policy.currency,
            margin=policy.product.annual_rate - policy.product.funding_rate,
            lgd=policy.risk.lgd,
            ccf=policy.risk.ccf,
            cutoff=policy.approval_pd,
        )


@dataclass(frozen=True)
class ProfitEstimate:
    """Profit per applicant, in the policy's currency a year; a refused applicant counts 0."""

    currency: str
    exposure_basis: str  # how the exposures were set
    at_cutoff: Interval
    approve_all: Interval
    gain: Interval  # at_cutoff minus approve_all, on the same resamples
    cutoff: float  # PD, the policy's
    best_profit: float
    best_cutoff: Interval  # PD; the interval is that of the best cutoff over the resamples
    cutoffs: np.ndarray  # (points,) PD
    curve: np.ndarray  # (points,)
    band: np.ndarray  # (2, points), the 95 % interval of the curve


def estimate_profit(
    y: np.ndarray,
    pd: np.ndarray,
    limit: np.ndarray,
    on_line: np.ndarray,
    terms: LoanTerms,
    samples: BootstrapSamples,
) -> ProfitEstimate:
    """Estimate the profit at each cutoff. y, pd, limit: (rows,); a row without a limit gets the median limit.

    on_line: (rows,) whether the line alone decides; rows that a person decides whatever the line earn nothing here. If
    that is all rows, all count.
    """
    has_limit = np.isfinite(limit)
    default_limit = float(np.median(limit[has_limit])) if has_limit.any() else 10_000.0
    drawn_amount = terms.ccf * np.where(has_limit, limit, default_limit)
    row_profit = np.where(y == 1, -terms.lgd * drawn_amount, terms.margin * drawn_amount)
    if on_line.any():
        row_profit = row_profit * on_line
    accepted_profit = row_profit * (pd <= terms.cutoff)
    order = np.argsort(pd, kind="stable")
    total = np.cumsum(row_profit[order]) / len(y)
    is_last_of_ties = np.r_[pd[order][1:] != pd[order][:-1], True]  # rows of equal PD are accepted together
    cutoffs, curve = np.r_[0.0, pd[order][is_last_of_ties]], np.r_[0.0, total[is_last_of_ties]]
    best_index = int(np.argmax(curve))
    best_cutoffs, band = _resample_curve(row_profit[order], is_last_of_ties, cutoffs, samples, order)
    exposure_basis = f"limits of the policy for {has_limit.mean():.0%} of the rows" + (
        f", {default_limit:,.0f} for the rest" if not has_limit.all() else ""
    )

    def mean(values: np.ndarray) -> Interval:
        return bootstrap_interval(lambda weights: (weights @ values) / weights.sum(axis=1), samples)

    return ProfitEstimate(
        currency=terms.currency,
        exposure_basis=exposure_basis,
        at_cutoff=mean(accepted_profit),
        approve_all=mean(row_profit),
        gain=mean(accepted_profit - row_profit),
        best_profit=float(curve[best_index]),
        cutoff=terms.cutoff,
        best_cutoff=Interval(float(cutoffs[best_index]), *np.quantile(best_cutoffs, (0.025, 0.975)).tolist()),
        cutoffs=cutoffs,
        curve=curve,
        band=band,
    )


def _resample_curve(
    ordered_profit: np.ndarray, is_last: np.ndarray, cutoffs: np.ndarray, samples: BootstrapSamples, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(best cutoff of each resample, 95 % band of the curve); ordered_profit: of the rows by ascending PD."""
    points = np.unique(np.linspace(0, len(cutoffs) - 1, MAX_BAND_POINTS).astype(int))
    best, values = [], []
    for weights in samples.iter_weights():
        total = np.cumsum(weights[:, order] * ordered_profit, axis=1)[:, is_last] / weights.sum(axis=1)[:, None]
        curves = np.concatenate([np.zeros((len(total), 1)), total], axis=1)
        best.append(cutoffs[curves.argmax(axis=1)])
        values.append(curves[:, points])
    low, high = np.quantile(np.concatenate(values), (0.025, 0.975), axis=0)
    positions = np.arange(len(cutoffs))
    return np.concatenate(best), np.stack([np.interp(positions, points, edge) for edge in (low, high)])
