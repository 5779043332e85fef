"""What the decisions would have earned on the held-out rows, had every offer been drawn as the policy assumes.

A good row earns (rate - funding) a year on the drawn part of its limit, a bad one loses lgd of it. One year, no fees,
no cost of capital: enough to compare cut-offs and models, not to budget with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.metrics import Draws, Interval, statistic


@dataclass(frozen=True)
class Terms:
    """What a policy says of a loan's economics. `line`: the greatest PD that is approved."""

    currency: str
    margin: float  # share of the drawn amount a year: rate - funding
    lgd: float
    ccf: float  # share of the limit that is drawn
    line: float

    @classmethod
    def of(cls, policy: Any) -> Terms:
        """As a product's policy has them."""
        return cls(
            currency=policy.currency,
            margin=policy.product.annual_rate - policy.product.funding_rate,
            lgd=policy.risk.lgd,
            ccf=policy.risk.ccf,
            line=policy.approval_pd,
        )


@dataclass(frozen=True)
class Profit:
    """Profit per applicant, in the policy's currency a year, refused ones counting 0."""

    currency: str
    exposure: str  # how the amounts were set
    at_line: Interval
    approve_all: Interval
    gain: Interval  # at_line less approve_all, on the same resamples
    best: float
    best_cut_off: float  # PD
    cut_offs: np.ndarray  # (points,) PD
    curve: np.ndarray  # (points,)


def profit(y: np.ndarray, pd: np.ndarray, limit: np.ndarray, terms: Terms, draws: Draws) -> Profit:
    """Profit at each cut-off. `limit` (rows,): rows without one are given the median of those with one."""
    known = np.isfinite(limit)
    flat = float(np.median(limit[known])) if known.any() else 10_000.0
    drawn = terms.ccf * np.where(known, limit, flat)
    each = np.where(y == 1, -terms.lgd * drawn, terms.margin * drawn)
    inside = each * (pd <= terms.line)
    order = np.argsort(pd, kind="stable")
    total = np.cumsum(each[order]) / len(y)
    last = np.r_[pd[order][1:] != pd[order][:-1], True]  # of equal PDs all are accepted or none
    cut_offs, curve = np.r_[0.0, pd[order][last]], np.r_[0.0, total[last]]
    best = int(np.argmax(curve))
    told = f"limits of the policy for {known.mean():.0%} of the rows" + (
        f", {flat:,.0f} for the rest" if not known.all() else ""
    )

    def mean(values: np.ndarray) -> Interval:
        return statistic(lambda weights: (weights @ values) / weights.sum(axis=1), draws)

    return Profit(
        currency=terms.currency,
        exposure=told,
        at_line=mean(inside),
        approve_all=mean(each),
        gain=mean(inside - each),
        best=float(curve[best]),
        best_cut_off=float(cut_offs[best]),
        cut_offs=cut_offs,
        curve=curve,
    )
