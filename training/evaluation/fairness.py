"""Compare approvals and limits between groups of different sex, age or religion.

No model reads the audit columns; only this module does. A ratio compares a group with the largest group of the same
attribute: 1 is equal, and a ratio below 0.8 or above 1.25 is investigated (the four-fifths rule, 29 CFR 1607.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.schema import ColumnSchema
from models.metrics import Interval
from training.evaluation.metrics import BootstrapSamples, bootstrap_interval, compute_intervals

MAX_VALUES = 12  # of an attribute; with more values its groups are too small to compare
PD_BANDS = 5  # within which limits are compared at equal PD
UNDEFINED = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class AuditGroup:
    """One value of one audit attribute, on the held-out rows."""

    attribute: str
    value: str
    rows: int
    bad_rate: float
    mean_pd: float
    metrics: dict[str, Interval]  # by the names of training.evaluation.metrics.METRICS
    approval_rate: float
    approval_ratio: Interval  # adverse impact ratio
    mean_limit: float  # of the rows with a limit
    limit_ratio: Interval  # of mean limits
    limit_ratio_at_equal_pd: Interval  # of mean limits within bands of PD, weighted by this group's rows

    @property
    def name(self) -> str:
        return f"{self.attribute} = {self.value}"


def evaluate_groups(
    frame: pl.DataFrame,
    audit_columns: tuple[ColumnSchema, ...],
    y: np.ndarray,
    pd: np.ndarray,
    approved: np.ndarray,
    limit: np.ndarray,
    samples: BootstrapSamples,
    min_rows: int,
) -> Iterator[AuditGroup | str]:
    """Yield every group of at least `min_rows` rows, or a sentence that says why an attribute has none.

    y, pd, approved (rows,); limit (rows,) RMB, NaN where there is none. The largest group of an attribute comes first.
    """
    for column in audit_columns:
        values = attribute_values(frame[column.name], column)
        counts = values.drop_nulls().value_counts(sort=True).rows()
        if len(counts) > MAX_VALUES:
            yield f"{column.name}: {len(counts):,} values are too many to compare group by group."
            continue
        large_values = [value for value, rows in counts if rows >= min_rows]
        if len(large_values) < 2:
            yield f"{column.name}: fewer than two groups have at least {min_rows} rows."
            continue
        reference = (values == large_values[0]).fill_null(False).to_numpy()
        for value in large_values:
            member = (values == value).fill_null(False).to_numpy()
            rows = np.flatnonzero(member)
            has_limit = member & np.isfinite(limit)
            yield AuditGroup(
                attribute=column.name,
                value=value,
                rows=len(rows),
                bad_rate=float(y[rows].mean()),
                mean_pd=float(pd[rows].mean()),
                metrics=compute_intervals(y[rows], pd[rows], samples.subset(rows)),
                approval_rate=float(approved[rows].mean()),
                approval_ratio=mean_ratio(approved.astype(np.float64), member, reference, samples),
                mean_limit=float(limit[has_limit].mean()) if has_limit.any() else np.nan,
                limit_ratio=mean_ratio(limit, member, reference, samples),
                limit_ratio_at_equal_pd=mean_ratio(
                    limit, member, reference, samples, assign_bands(pd, np.isfinite(limit))
                ),
            )


def attribute_values(series: pl.Series, column: ColumnSchema) -> pl.Series:
    """Turn an attribute into a few named values; a number with many values is cut at its quartiles."""
    if column.kind != "number" or series.n_unique() <= MAX_VALUES:
        is_whole = column.kind == "number" and (series.round(0) == series).all()
        return series.cast(pl.Int64).cast(pl.String) if is_whole else series.cast(pl.String)
    known_values = series.drop_nulls().to_numpy()
    edges = np.unique(np.quantile(known_values, [0.25, 0.5, 0.75], method="lower"))
    names = [
        f"up to {edges[0]:g}",
        *(f"over {a:g} to {b:g}" for a, b in zip(edges, edges[1:], strict=False)),
        f"over {edges[-1]:g}",
    ]
    interval_index = np.searchsorted(edges, series.fill_null(np.nan).to_numpy(), side="left")
    return pl.Series(series.name, [names[i] for i in interval_index]).set(series.is_null(), None)


def assign_bands(pd: np.ndarray, included: np.ndarray) -> np.ndarray:
    """(rows,) the PD band of each row, 0 to PD_BANDS - 1, cut at the quantiles of the included rows."""
    if not included.any():
        return np.zeros(len(pd), int)
    edges = np.quantile(pd[included], np.linspace(0, 1, PD_BANDS + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, pd, side="left"))


def mean_ratio(
    value: np.ndarray,
    member: np.ndarray,
    reference: np.ndarray,
    samples: BootstrapSamples,
    band: np.ndarray | None = None,
) -> Interval:
    """Mean of `value` in a group divided by its mean in the reference group; rows with NaN are left out.

    member, reference: (rows,) bool. With `band` (rows,), means are taken within each band and weighted by the group's
    rows in it (direct standardisation); a band in which either group has no row does not count.
    """
    is_known = np.isfinite(value)
    band = np.zeros(len(value), int) if band is None else band
    in_band = (band[:, None] == np.arange(band.max(initial=0) + 1)).astype(np.float64)  # (rows, bands)
    group_weights, reference_weights = in_band * (member & is_known)[:, None], in_band * (reference & is_known)[:, None]
    amount = np.where(is_known, value, 0.0)[:, None]

    def values(weights: np.ndarray) -> np.ndarray:
        group_rows, reference_rows = weights @ group_weights, weights @ reference_weights  # (resamples, bands)
        has_both = (group_rows > 0) & (reference_rows > 0)
        group_mean = (weights @ (group_weights * amount)) / np.where(has_both, group_rows, 1)
        reference_mean = (weights @ (reference_weights * amount)) / np.where(has_both, reference_rows, 1)
        numerator, denominator = (
            np.where(has_both, group_rows * band_mean, 0).sum(axis=1) for band_mean in (group_mean, reference_mean)
        )
        return np.asarray(np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan))

    if (member & is_known).sum() == 0 or (reference & is_known).sum() == 0:
        return UNDEFINED
    return bootstrap_interval(values, samples)
