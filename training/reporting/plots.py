"""Draw the plots of a tabular model as PNG files; their titles are English and Chinese."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.card import Card
from models.scorecard.explanations import Explainer, cutoff_points
from training.evaluation.evaluate import EvaluationData, EvaluationReport
from training.progress import ProgressCallback, ignore_progress
from training.reporting import plot_style
from training.reporting.plot_data import points_per_logit
from training.reporting.plot_style import (
    BAD_COLOR,
    GOOD_COLOR,
    MUTED_COLOR,
    PRIMARY_COLOR,
    add_axes,
    short_label,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMPORTANCES = 15  # indicators in the importance plot
MAX_EFFECTS, EFFECT_BINS = 6, 12  # indicators in the effects plot, and bins of each
MAX_EXAMPLE_PARTS = 9  # indicators in the example
TITLES = {
    "roc": ("ROC curve", "ROC 曲线"),
    "ks": ("Kolmogorov-Smirnov: score distribution by outcome", "KS 曲线"),
    "calibration": ("Calibration: predicted and observed default rate, with 95 % intervals", "校准：预测与实际违约率"),
    "scores": ("Scores by outcome", "评分分布"),
    "profit": ("Profit per applicant by cutoff", "不同审批线下的人均利润"),
    "importance": ("Importance: mean effect on the score", "指标贡献"),
    "effects": ("Effects of the most important indicators on the score", "指标对评分的影响"),
    "fairness": ("Approvals and limits by audit group", "群体公平性"),
    "reasons": ("Reasons: one applicant's score and the approval cutoff", "单个申请人的评分原因"),
}


@dataclass(frozen=True)
class ScoreExample:
    """One held-out applicant: the cutoff in points, then what each indicator adds, largest first."""

    cutoff: float
    contributions: Sequence[tuple[str, float]]  # (indicator, points)
    points: float


@dataclass(frozen=True)
class PlotInputs:
    """What the plots show. effects: (held-out rows, inputs) points that each input adds, relative to the mean
    applicant.
    """

    title: str  # the model's name, and whether its data are simulated
    data: EvaluationData
    evaluation: EvaluationReport
    effects: np.ndarray
    example: ScoreExample | None = None

    @property
    def y(self) -> np.ndarray:
        return np.asarray(self.data.y[self.data.holdout])

    @property
    def pd(self) -> np.ndarray:
        return np.asarray(self.data.pd[self.data.holdout])

    @property
    def points(self) -> np.ndarray:
        return np.asarray(self.data.points[self.data.holdout])


def build_plot_inputs(
    card: Card, data: EvaluationData, evaluation: EvaluationReport, contributions: np.ndarray
) -> PlotInputs:
    """Prepare the plots. contributions: (held-out rows, inputs) in raw-score units.

    The example is the held-out applicant whose odds of default are closest to twice those of the cutoff: clearly not
    approved automatically, and so someone who would ask why.
    """
    cutoff = cutoff_points(card, data.terms.cutoff)
    index = int(np.argmin(np.abs(data.points[data.holdout] - (cutoff - card.head.double))))
    points = float(data.points[data.holdout][index])
    effects = Explainer(card, cutoff).effects(contributions[index : index + 1], np.array([points]))[0]
    order = np.argsort(-np.abs(effects))[:MAX_EXAMPLE_PARTS]
    example_parts = [(card.inputs[i].label, float(effects[i])) for i in order]
    example_parts.append(("all others", points - cutoff - sum(effect for _, effect in example_parts)))
    title = f"{card.model} {card.version}" + (" (simulated data)" if card.simulated else "")
    return PlotInputs(
        title,
        data,
        evaluation,
        points_per_logit(card.head) * contributions,
        ScoreExample(cutoff, example_parts, points),
    )


def draw_plots(folder: Path, inputs: PlotInputs, progress: ProgressCallback = ignore_progress) -> list[Path]:
    """Draw every plot for which the evaluation has data, as `<name>.png`."""
    plots: dict[str, Callable[[Figure, PlotInputs], None]] = {
        "roc": _roc,
        "ks": _ks,
        "calibration": _calibration,
        "scores": _scores,
        "profit": _profit,
        "importance": _importance,
        "effects": _effects,
        "fairness": _fairness,
        "reasons": _reasons,
    }
    if not inputs.evaluation.groups:
        del plots["fairness"]
    if inputs.example is None:
        del plots["reasons"]
    return plot_style.save_plots(folder, plots, inputs, TITLES, inputs.title, progress)


def _roc(figure: Figure, inputs: PlotInputs) -> None:
    axes = add_axes(figure, "share of good rows above the cutoff", "share of bad rows above the cutoff")
    lines = [(f"this model, AUC {inputs.evaluation.metrics['auc']}", inputs.pd, PRIMARY_COLOR, 2.0)]
    for (name, baseline), colour in zip(
        inputs.evaluation.baselines.items(), (MUTED_COLOR, BAD_COLOR, GOOD_COLOR), strict=False
    ):
        lines.append((f"{name.replace('_', ' ')}, AUC {baseline.auc.value:.4f}", baseline.pd, colour, 1.0))
    for label, pd, colour, width in lines:
        axes.plot(*plot_style.roc_points(inputs.y, pd), color=colour, lw=width, label=label)
    axes.plot([0, 1], [0, 1], color=MUTED_COLOR, lw=0.6, ls=":")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _ks(figure: Figure, inputs: PlotInputs) -> None:
    axes = add_axes(figure, "score (points)", "share at or below")
    order = np.argsort(inputs.points)
    points, is_bad = inputs.points[order], inputs.y[order] == 1
    shares = {"bad": np.cumsum(is_bad) / max(1, is_bad.sum()), "good": np.cumsum(~is_bad) / max(1, (~is_bad).sum())}
    axes.plot(points, shares["bad"], color=BAD_COLOR, label="did not repay")
    axes.plot(points, shares["good"], color=GOOD_COLOR, label="repaid")
    index = int(np.argmax(shares["bad"] - shares["good"]))
    axes.vlines(points[index], shares["good"][index], shares["bad"][index], color=PRIMARY_COLOR, lw=1.5)
    axes.text(
        points[index], shares["bad"][index], f" KS {inputs.evaluation.metrics['ks']}", fontsize=8, color=PRIMARY_COLOR
    )
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _calibration(figure: Figure, inputs: PlotInputs) -> None:
    axes = add_axes(figure, "mean PD of a tenth of the rows", "share that defaulted")
    bins = [bin for bin in inputs.evaluation.bins if bin.bad_rate.value > 0]
    plot_style.plot_calibration(axes, bins)
    limits = [
        min(min(bin.mean_pd, bin.bad_rate.low) if bin.bad_rate.low > 0 else bin.mean_pd for bin in bins),
        max(max(bin.mean_pd, bin.bad_rate.high) for bin in bins),
    ]
    axes.plot(limits, limits, color=MUTED_COLOR, lw=0.8, ls=":")
    plot_style.use_log_scale(axes)
    metrics = inputs.evaluation.metrics
    note = f"slope {metrics['slope']}\nintercept {metrics['intercept']}\nBrier {metrics['brier']}"
    axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", fontsize=8)


def _scores(figure: Figure, inputs: PlotInputs) -> None:
    axes = add_axes(figure, "score (points)", "share of the group")
    low, high = (float(np.quantile(inputs.points, quantile)) for quantile in (0.001, 0.999))
    edges = np.linspace(low, high, 50)
    for outcome, colour, label in ((0, GOOD_COLOR, "repaid"), (1, BAD_COLOR, "did not repay")):
        points = inputs.points[inputs.y == outcome]
        weights = np.full(len(points), 1 / max(1, len(points)))
        axes.hist(points, edges.tolist(), weights=weights, color=colour, alpha=0.55, label=label)
    axes.legend(fontsize=8, frameon=False)


def _profit(figure: Figure, inputs: PlotInputs) -> None:
    profit, cutoff = inputs.evaluation.profit, inputs.data.terms.cutoff
    axes = add_axes(figure, "approve up to this PD", f"{profit.currency} per applicant a year")
    best = profit.best_cutoff
    axes.fill_between(profit.cutoffs, *profit.band, color=PRIMARY_COLOR, alpha=0.15, lw=0, label="95 % interval")
    axes.axvspan(best.low, best.high, color=GOOD_COLOR, alpha=0.12, lw=0)
    axes.plot(profit.cutoffs, profit.curve, color=PRIMARY_COLOR)
    axes.axvline(cutoff, color=BAD_COLOR, lw=1, label=f"policy's cutoff {cutoff:.1%}: {profit.at_cutoff.value:,.0f}")
    axes.axvline(best.value, color=GOOD_COLOR, lw=1, label=f"best {best.value:.1%} [{best.low:.1%}, {best.high:.1%}]")
    axes.axhline(
        profit.approve_all.value, color=MUTED_COLOR, lw=1, label=f"approve all: {profit.approve_all.value:,.0f}"
    )
    axes.set_xlim(0, min(1.0, float(np.quantile(inputs.pd, 0.995)) + 0.02))
    axes.legend(fontsize=8, frameon=False)


def _importance(figure: Figure, inputs: PlotInputs) -> None:
    axes = add_axes(figure, "mean of |points added|")
    importance = np.abs(inputs.effects).mean(axis=0)
    top = np.argsort(-importance)[:MAX_IMPORTANCES][::-1]
    axes.barh(range(len(top)), importance[top], color=PRIMARY_COLOR)
    axes.set_yticks(range(len(top)), [short_label(inputs.data.columns[i].label) for i in top])


def _effects(figure: Figure, inputs: PlotInputs) -> None:
    top = np.argsort(-np.abs(inputs.effects).mean(axis=0))[:MAX_EFFECTS]
    x = inputs.data.x[inputs.data.holdout]
    for position, i in enumerate(top):
        axes = figure.add_subplot(2, 3, position + 1)
        style_axes(axes)
        column, value, effect = inputs.data.columns[i], x[:, i], inputs.effects[:, i]
        is_known = np.isfinite(value)
        edges = (
            np.unique(np.quantile(value[is_known], np.linspace(0, 1, EFFECT_BINS + 1)))
            if is_known.any()
            else np.empty(0)
        )
        bin_index = np.clip(np.searchsorted(edges, value[is_known], side="right") - 1, 0, max(0, len(edges) - 1))
        bin_means = [
            (value[is_known][bin_index == k].mean(), effect[is_known][bin_index == k].mean())
            for k in np.unique(bin_index)
        ]
        axes.plot([m for m, _ in bin_means], [e for _, e in bin_means], color=PRIMARY_COLOR, marker=".", lw=1.2)
        if (~is_known).any():
            axes.axhline(effect[~is_known].mean(), color=BAD_COLOR, lw=0.8, ls="--", label="missing")
            axes.legend(fontsize=6, frameon=False)
        axes.set_title(short_label(column.label), fontsize=8)
        axes.tick_params(labelsize=6)
        axes.set_xlabel(column.unit or ("level" if column.kind == "category" else ""), fontsize=6)
    figure.supylabel("points added", fontsize=8)


def _fairness(figure: Figure, inputs: PlotInputs) -> None:
    groups = inputs.evaluation.groups[::-1]
    figure.set_figheight(max(3.2, 0.28 * len(groups) + 1.4))
    panels = (("approval ratio", "approval_ratio"), ("limit ratio at equal PD", "limit_ratio_at_equal_pd"))
    for position, (label, name) in enumerate(panels):
        axes = figure.add_subplot(1, 2, position + 1)
        style_axes(axes)
        for row, group in enumerate(groups):
            ratio = getattr(group, name)
            if np.isfinite(ratio.value):
                axes.plot([ratio.low, ratio.high], [row, row], color=MUTED_COLOR, lw=2)
                axes.plot(ratio.value, row, "o", ms=4, color=PRIMARY_COLOR if ratio.value >= 0.8 else BAD_COLOR)
        axes.axvline(1, color=MUTED_COLOR, lw=0.8, ls=":")
        axes.axvline(0.8, color=BAD_COLOR, lw=0.8, ls=":")
        axes.set_yticks(
            range(len(groups)),
            [short_label(group.name) for group in groups] if position == 0 else [""] * len(groups),
            fontsize=7,
        )
        axes.set_xlabel(f"{label} (relative to the attribute's largest group)", fontsize=7)


def _reasons(figure: Figure, inputs: PlotInputs) -> None:
    example = inputs.example
    if example is None:
        return
    axes = add_axes(figure, "score (points)")
    left, contributions = example.cutoff, list(example.contributions)
    for row, (_, points) in enumerate(contributions):
        axes.barh(row, points, left=left, color=GOOD_COLOR if points >= 0 else BAD_COLOR)
        axes.text(left + points, row, f" {points:+.1f}", va="center", fontsize=7)
        left += points
    axes.axvline(example.cutoff, color=MUTED_COLOR, lw=1, ls=":", label=f"cutoff {example.cutoff:.0f}")
    axes.axvline(example.points, color=PRIMARY_COLOR, lw=1, label=f"this applicant {example.points:.0f}")
    axes.set_yticks(range(len(contributions)), [short_label(name) for name, _ in contributions], fontsize=8)
    axes.invert_yaxis()
    axes.legend(fontsize=8, frameon=False)
