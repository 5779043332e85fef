"""Evaluate a tabular model on rows that it was not trained on.

Nothing here depends on how a model was fitted: the input is outcomes, the exported graph's scores, the decisions and
the audit columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from datasets.schema import ColumnSchema
from models.metrics import CalibrationBin, Interval, auc, calibration_bins
from training.config import ConfigSection
from training.evaluation import baselines, fairness
from training.evaluation.metrics import BootstrapSamples, auc_difference, compute_intervals, quantile_psi
from training.evaluation.profit import LoanTerms, ProfitEstimate, estimate_profit
from training.progress import ProgressReporter

CALIBRATION_BINS = 10  # of equally many rows, in the calibration plot
BASELINES = {
    "scorecard": "plain scorecard: logistic regression on weight of evidence",
    "unconstrained": "unconstrained LightGBM: the price of exact reasons",
    "with_moral_data": "this model with the moral groups as inputs; never served",
    "with_shell_flags": "this model with the shell flags as inputs; never served",
}


class EvaluationConfig(ConfigSection):
    """How thoroughly to evaluate."""

    resamples: int = Field(default=300, ge=20)
    min_group_rows: int = Field(default=200, ge=20)  # of an audit group that is evaluated separately
    scorecard: bool = True
    unconstrained: bool = True
    unread: bool = True  # fit a variant that reads the withheld columns too, to show what they would add
    plots: bool = True
    threads: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class EvaluationData:
    """What a model is evaluated on. Arrays cover all rows, or the held-out ones where the name says so."""

    columns: tuple[ColumnSchema, ...]
    x: np.ndarray
    y: np.ndarray
    pd: np.ndarray
    points: np.ndarray
    train: np.ndarray  # positions
    holdout: np.ndarray  # positions
    holdout_frame: pl.DataFrame
    audit: tuple[ColumnSchema, ...]
    approved_holdout: np.ndarray
    on_line_holdout: np.ndarray  # whether the approval line alone decides the row
    but_for_age_holdout: np.ndarray  # approved, or referred for the age alone
    known_holdout: np.ndarray  # whether no input counts as the policy assumes
    limit_holdout: np.ndarray
    terms: LoanTerms
    samples: BootstrapSamples
    seed: int = 0


@dataclass(frozen=True)
class Baseline:
    """Another model on the same rows; `auc_gain` is the AUC of ours minus its own."""

    description: str
    pd: np.ndarray
    auc: Interval
    auc_gain: Interval


@dataclass(frozen=True)
class EvaluationReport:
    """The results of an evaluation. `groups` are those of the audit attributes; `remarks` say what was not possible."""

    rows: int
    train_rows: int
    bad_rate: float
    metrics: dict[str, Interval]
    train_auc: float
    bins: list[CalibrationBin]
    psi: dict[str, float]
    groups: list[fairness.AuditGroup]
    baselines: dict[str, Baseline]
    profit: ProfitEstimate
    above_cutoff: float  # share of the held-out rows whose PD is at or below the policy's cutoff
    approval_rate: float
    median_limit: float
    referral_counts: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def to_metrics(self) -> dict[str, float]:
        """Finite metrics by name, as an MLflow run records them."""
        metrics = {"rows": float(self.rows), "bad_rate": self.bad_rate, "train_auc": self.train_auc}
        for name, value in self.metrics.items():
            metrics |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        for name, baseline in self.baselines.items():
            metrics |= {f"beside/{name}/auc": baseline.auc.value, f"beside/{name}/ours_less": baseline.auc_gain.value}
        for group in self.groups:
            prefix = f"group/{group.attribute}/{group.value}"
            metrics |= {
                f"{prefix}/auc": group.metrics["auc"].value,
                f"{prefix}/approval_ratio": group.approval_ratio.value,
                f"{prefix}/limit_ratio_at_equal_pd": group.limit_ratio_at_equal_pd.value,
            }
        metrics |= {f"psi/{name}": value for name, value in self.psi.items()}
        metrics |= {
            "profit/at_line": self.profit.at_cutoff.value,
            "profit/approve_all": self.profit.approve_all.value,
            "cleared": self.above_cutoff,
            "approved": self.approval_rate,
            "median_limit": self.median_limit,
        }
        return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """The results for the card, with intervals; NaN becomes None."""
        return {
            "rows": self.rows,
            "train_rows": self.train_rows,
            "bad_rate": self.bad_rate,
            **{name: value.to_json() for name, value in self.metrics.items()},
            "train_auc": self.train_auc,
            "psi": self.psi,
            "beside": {
                name: {
                    "what": baseline.description,
                    "auc": baseline.auc.to_json(),
                    "ours_less": baseline.auc_gain.to_json(),
                }
                for name, baseline in self.baselines.items()
            },
            "groups": [
                {
                    "attribute": group.attribute,
                    "value": group.value,
                    "rows": group.rows,
                    "bad_rate": group.bad_rate,
                    "mean_pd": group.mean_pd,
                    **{name: value.to_json() for name, value in group.metrics.items()},
                    "approval": group.approval_rate,
                    "approval_ratio": group.approval_ratio.to_json(),
                    "limit_ratio": group.limit_ratio.to_json(),
                    "limit_ratio_at_equal_pd": group.limit_ratio_at_equal_pd.to_json(),
                }
                for group in self.groups
            ],
            "profit": {
                "currency": self.profit.currency,
                "exposure": self.profit.exposure_basis,
                "at_line": self.profit.at_cutoff.to_json(),
                "approve_all": self.profit.approve_all.to_json(),
                "gain": self.profit.gain.to_json(),
                "best": self.profit.best_profit,
                "best_cut_off": self.profit.best_cutoff.value,
                "best_cut_off_interval": self.profit.best_cutoff.to_json(),
                "line": self.profit.cutoff,
            },
            "cleared": self.above_cutoff,
            "approved": self.approval_rate,
            "median_limit": self.median_limit if np.isfinite(self.median_limit) else None,
            "referred": self.referral_counts,
            "remarks": self.remarks,
        }


def evaluate(
    data: EvaluationData,
    config: EvaluationConfig,
    reporter: ProgressReporter,
    variants: Mapping[str, np.ndarray],
    referral_counts: dict[str, int],
) -> EvaluationReport:
    """Compute every result. `variants`: held-out PDs of models that are never served, by their name in BASELINES."""
    holdout, train = data.holdout, data.train
    y, pd = data.y[holdout], data.pd[holdout]
    above_cutoff = pd <= data.terms.cutoff
    approved, remarks = data.but_for_age_holdout, []
    if not approved.any():
        approved = above_cutoff
        remarks.append("The policy approves no row automatically; audit groups compare who meets the approval cutoff.")
    has_limit = np.isfinite(data.limit_holdout)
    baseline_pds = {**_predict_baselines(data, config, reporter), **variants}
    with reporter.step("evaluate: metrics") as progress:
        metrics = compute_intervals(y, pd, data.samples)
        known = np.flatnonzero(data.known_holdout)
        if len(known) < len(y):  # a PD with an assumed input is too high by design
            known_metrics = compute_intervals(y[known], pd[known], data.samples.subset(known))
            metrics |= {name: known_metrics[name] for name in ("slope", "intercept")}
            remarks.append(
                f"Calibration is of the {len(known) / len(y):.0%} of the rows whose inputs are all known. Unknown ones "
                f"count as the policy assumes, so the mean PD of all rows is {pd.mean():.2%}; {y.mean():.2%} defaulted."
            )
        progress(1, 3)
        baselines_by_name = {
            name: Baseline(
                BASELINES[name],
                baseline_pd,
                compute_intervals(y, baseline_pd, data.samples)["auc"],
                auc_difference(y, pd, baseline_pd, data.samples),
            )
            for name, baseline_pd in baseline_pds.items()
        }
        progress(2, 3)
        profit_estimate = estimate_profit(y, pd, data.limit_holdout, data.on_line_holdout, data.terms, data.samples)
        psi_by_input = {"score": quantile_psi(data.points[train], data.points[holdout])}
        psi_by_input |= {
            column.name: quantile_psi(data.x[train, i], data.x[holdout, i]) for i, column in enumerate(data.columns)
        }
    with reporter.step("evaluate: audit groups"):
        group_results = list(
            fairness.evaluate_groups(
                data.holdout_frame, data.audit, y, pd, approved, data.limit_holdout, data.samples, config.min_group_rows
            )
        )
    return EvaluationReport(
        rows=len(holdout),
        train_rows=len(train),
        bad_rate=float(y.mean()),
        metrics=metrics,
        train_auc=auc(data.pd[train], data.y[train] == 1),
        bins=calibration_bins(pd[known], y[known] == 1, CALIBRATION_BINS),
        psi=psi_by_input,
        groups=[result for result in group_results if isinstance(result, fairness.AuditGroup)],
        baselines=baselines_by_name,
        profit=profit_estimate,
        above_cutoff=float(above_cutoff.mean()),
        approval_rate=float(data.approved_holdout.mean()),
        median_limit=float(np.median(data.limit_holdout[has_limit])) if has_limit.any() else np.nan,
        referral_counts=referral_counts,
        remarks=remarks + [result for result in group_results if isinstance(result, str)],
    )


def _predict_baselines(
    data: EvaluationData, config: EvaluationConfig, reporter: ProgressReporter
) -> dict[str, np.ndarray]:
    """Held-out PDs of the baseline models, fitted to the same inputs and the same training rows."""
    x, y, holdout = data.x[data.train], data.y[data.train], data.x[data.holdout]
    predictions: dict[str, np.ndarray] = {}
    if config.scorecard:
        with reporter.step("baseline: scorecard") as progress:
            directions, names = [column.direction for column in data.columns], [column.name for column in data.columns]
            predictions["scorecard"] = baselines.predict_scorecard(x, y, holdout, directions, names, progress)
    if config.unconstrained:
        with reporter.step("baseline: unconstrained LightGBM") as progress:
            predictions["unconstrained"] = baselines.predict_unconstrained(
                x, y, holdout, data.seed, config.threads, progress
            )
    return predictions
