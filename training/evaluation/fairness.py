"""Whether people of different sex, age or faith are approved alike, and given alike limits at an alike risk.

The audit columns never reach a model; they are read here alone. A ratio compares a group with the largest group of the
same attribute: 1 is alike, and below 0.8 or above 1.25 is looked into (the four-fifths rule, 29 CFR 1607.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.schema import Column
from training.evaluation.metrics import Draws, Interval, measures, statistic

MOST_VALUES = 12  # of an attribute; one with more is too thin to compare group by group
BANDS = 5  # of equal PD
UNDEFINED = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Group:
    """One value of one audit attribute, on the held-out rows."""

    attribute: str
    value: str
    rows: int
    bad_rate: float
    mean_pd: float
    figures: dict[str, Interval]  # as training.evaluation.metrics.MEASURES
    approval: float  # share that is approved
    approval_ratio: Interval  # adverse impact ratio
    mean_limit: float  # of those with a limit
    limit_ratio: Interval  # of mean limits
    limit_ratio_at_equal_pd: Interval  # of mean limits within bands of PD, weighted by this group's rows

    @property
    def name(self) -> str:
        return f"{self.attribute} = {self.value}"


def groups(
    frame: pl.DataFrame,
    audit: tuple[Column, ...],
    y: np.ndarray,
    pd: np.ndarray,
    approved: np.ndarray,
    limit: np.ndarray,
    draws: Draws,
    smallest: int,
) -> Iterator[Group | str]:
    """Every group of at least `smallest` rows, or a sentence on why an attribute has none.

    approved (rows,) bool; limit (rows,) RMB, NaN where there is none. The largest group of an attribute comes first.
    """
    for column in audit:
        values = parts(frame[column.name], column)
        counts = values.drop_nulls().value_counts(sort=True).rows()
        if len(counts) > MOST_VALUES:
            yield f"{column.name}: {len(counts):,} values are too many to compare group by group."
            continue
        large = [value for value, rows in counts if rows >= smallest]
        if len(large) < 2:
            yield f"{column.name}: fewer than two groups have {smallest} rows."
            continue
        reference = (values == large[0]).fill_null(False).to_numpy()
        for value in large:
            member = (values == value).fill_null(False).to_numpy()
            rows = np.flatnonzero(member)
            given = member & np.isfinite(limit)
            yield Group(
                attribute=column.name,
                value=value,
                rows=len(rows),
                bad_rate=float(y[rows].mean()),
                mean_pd=float(pd[rows].mean()),
                figures=measures(y[rows], pd[rows], draws.take(rows)),
                approval=float(approved[rows].mean()),
                approval_ratio=ratio(approved.astype(np.float64), member, reference, draws),
                mean_limit=float(limit[given].mean()) if given.any() else np.nan,
                limit_ratio=ratio(limit, member, reference, draws),
                limit_ratio_at_equal_pd=ratio(limit, member, reference, draws, bands(pd, np.isfinite(limit))),
            )


def parts(series: pl.Series, column: Column) -> pl.Series:
    """An attribute as a few named values: a number in quarters of its rows, unless it takes few values anyway."""
    if column.kind != "number" or series.n_unique() <= MOST_VALUES:
        return (
            series.cast(pl.Int64).cast(pl.String)
            if column.kind == "number" and column.integer
            else series.cast(pl.String)
        )
    known = series.drop_nulls().to_numpy()
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="lower"))
    names = [
        f"up to {edges[0]:g}",
        *(f"over {a:g} to {b:g}" for a, b in zip(edges, edges[1:], strict=False)),
        f"over {edges[-1]:g}",
    ]
    at = np.searchsorted(edges, series.fill_null(np.nan).to_numpy(), side="left")
    return pl.Series(series.name, [names[i] for i in at]).set(series.is_null(), None)


def bands(pd: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The band of PD, 0 to BANDS - 1, of each row: quantiles of the counted rows."""
    if not counted.any():
        return np.zeros(len(pd), int)
    edges = np.quantile(pd[counted], np.linspace(0, 1, BANDS + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, pd, side="left"))


def ratio(
    value: np.ndarray, member: np.ndarray, reference: np.ndarray, draws: Draws, band: np.ndarray | None = None
) -> Interval:
    """Mean of `value` in a group over its mean in the reference group, rows with NaN left out.

    With bands, the means are taken within each band and weighted by the group's rows in it (direct standardisation); a
    band in which either group has no row does not count.
    """
    known = np.isfinite(value)
    band = np.zeros(len(value), int) if band is None else band
    in_band = (band[:, None] == np.arange(band.max(initial=0) + 1)).astype(np.float64)  # (rows, bands)
    ours, theirs = in_band * (member & known)[:, None], in_band * (reference & known)[:, None]
    amount = np.where(known, value, 0.0)[:, None]

    def values(weights: np.ndarray) -> np.ndarray:
        rows, other = weights @ ours, weights @ theirs  # (resamples, bands)
        both = (rows > 0) & (other > 0)
        mean = (weights @ (ours * amount)) / np.where(both, rows, 1)
        base = (weights @ (theirs * amount)) / np.where(both, other, 1)
        top, bottom = (np.where(both, rows * part, 0).sum(axis=1) for part in (mean, base))
        return np.asarray(np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan))

    if (member & known).sum() == 0 or (reference & known).sum() == 0:
        return UNDEFINED
    return statistic(values, draws)
