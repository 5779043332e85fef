"""A judgement as pictures: PNG files beside the model card. Titles are English, and Chinese too where a font has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.card import Card
from models.scorecard.explanations import Explainer, line_points
from training.evaluation.evaluate import Case, Judgement
from training.progress import Tick, ignore
from training.reporting import plot_style
from training.reporting.plot_data import per_raw
from training.reporting.plot_style import BAD, GOOD, OURS, QUIET, axes_on, calm, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, EFFECTS, LONGEST = 15, 6, 9  # indicators in the plot of importance; with a plot of effect; in the example
STEPS = 12  # parts of an indicator's range
NAMES = {
    "roc": ("Who is ranked first: ROC curve", "ROC 曲线"),
    "ks": ("How far the outcomes part: Kolmogorov-Smirnov", "KS 曲线"),
    "calibration": ("Stated and seen risk, with 95 % intervals", "校准：预测与实际违约率"),
    "scores": ("Scores of those who repaid and those who did not", "评分分布"),
    "profit": ("Profit per applicant by cut-off", "不同审批线下的人均利润"),
    "importance": ("What moves the score most", "指标贡献"),
    "effects": ("What an indicator adds to the score", "指标对评分的影响"),
    "fairness": ("Approvals and limits by audit group", "群体公平性"),
    "reasons": ("One applicant's score against the approval line", "单个申请人的评分原因"),
}


@dataclass(frozen=True)
class Example:
    """One held-out applicant: the approval line's points, then what each indicator adds, largest first."""

    line: float
    parts: Sequence[tuple[str, float]]  # (indicator, points)
    points: float


@dataclass(frozen=True)
class Picture:
    """What the plots show. effect: (held-out rows, inputs) points that each input adds, against the mean applicant."""

    title: str  # the model's name, and "simulated data" where it is
    case: Case
    judgement: Judgement
    effect: np.ndarray
    example: Example | None = None

    @property
    def y(self) -> np.ndarray:
        return np.asarray(self.case.y[self.case.held])

    @property
    def pd(self) -> np.ndarray:
        return np.asarray(self.case.pd[self.case.held])

    @property
    def points(self) -> np.ndarray:
        return np.asarray(self.case.points[self.case.held])


def picture(card: Card, case: Case, judgement: Judgement, contributions: np.ndarray) -> Picture:
    """What is drawn of a model. contributions: (held-out rows, inputs) in raw-score units.

    The example is the held-out applicant whose PD is nearest to twice that of the approval line: a plain refusal of the
    machine, and so the one who would ask why.
    """
    line = line_points(card, case.terms.line)
    at = int(np.argmin(np.abs(case.points[case.held] - (line - card.head.double))))
    points = float(case.points[case.held][at])
    added = Explainer(card, line).effects(contributions[at : at + 1], np.array([points]))[0]
    order = np.argsort(-np.abs(added))[:LONGEST]
    parts = [(card.inputs[i].label, float(added[i])) for i in order]
    parts.append(("all others", points - line - sum(part for _, part in parts)))
    title = f"{card.model} {card.version}" + (" (simulated data)" if card.simulated else "")
    return Picture(title, case, judgement, per_raw(card.head) * contributions, Example(line, parts, points))


def draw(folder: Path, picture: Picture, tick: Tick = ignore) -> list[Path]:
    """Every plot that the judgement has something for, as `<name>.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Figure, Picture], None]] = {
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
    if not picture.judgement.groups:
        del plots["fairness"]
    if picture.example is None:
        del plots["reasons"]
    written = []
    for done, (name, plot) in enumerate(plots.items()):
        figure = page(*NAMES[name], picture.title)
        plot(figure, picture)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        written.append(path)
        tick(done + 1, len(plots))
    return written


def _roc(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "share of the good above the cut-off", "share of the bad above the cut-off")
    lines = [(f"this model, AUC {picture.judgement.figures['auc']}", picture.pd, OURS, 2.0)]
    for (name, other), colour in zip(picture.judgement.beside.items(), (QUIET, BAD, GOOD), strict=False):
        lines.append((f"{name.replace('_', ' ')}, AUC {other.auc.value:.4f}", other.pd, colour, 1.0))
    for label, pd, colour, width in lines:
        axes.plot(*plot_style.roc(picture.y, pd), color=colour, lw=width, label=label)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.6, ls=":")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _ks(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "score (points)", "share at or below")
    order = np.argsort(picture.points)
    points, bad = picture.points[order], picture.y[order] == 1
    shares = {"bad": np.cumsum(bad) / max(1, bad.sum()), "good": np.cumsum(~bad) / max(1, (~bad).sum())}
    axes.plot(points, shares["bad"], color=BAD, label="did not repay")
    axes.plot(points, shares["good"], color=GOOD, label="repaid")
    at = int(np.argmax(shares["bad"] - shares["good"]))
    axes.vlines(points[at], shares["good"][at], shares["bad"][at], color=OURS, lw=1.5)
    axes.text(points[at], shares["bad"][at], f" KS {picture.judgement.figures['ks']}", fontsize=8, color=OURS)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _calibration(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "mean PD of a tenth of the rows", "share that defaulted")
    bins = [one for one in picture.judgement.bins if one.bad.value > 0]
    x, seen = np.array([one.pd for one in bins]), np.array([one.bad.value for one in bins])
    low, high = (np.array([getattr(one.bad, end) for one in bins]) for end in ("low", "high"))
    axes.errorbar(x, seen, yerr=[seen - low, high - seen], fmt="o", ms=4, color=OURS, capsize=2, lw=1)
    ends = [float(min(x.min(), low[low > 0].min())), float(max(x.max(), high.max()))]
    axes.plot(ends, ends, color=QUIET, lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log")
    figures = picture.judgement.figures
    told = f"slope {figures['slope']}\nintercept {figures['intercept']}\nBrier {figures['brier']}"
    axes.text(0.03, 0.97, told, transform=axes.transAxes, va="top", fontsize=8)


def _scores(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "score (points)", "share of the group")
    low, high = (float(np.quantile(picture.points, end)) for end in (0.001, 0.999))
    edges = np.linspace(low, high, 50)
    for outcome, colour, label in ((0, GOOD, "repaid"), (1, BAD, "did not repay")):
        points = picture.points[picture.y == outcome]
        weights = np.full(len(points), 1 / max(1, len(points)))
        axes.hist(points, edges.tolist(), weights=weights, color=colour, alpha=0.55, label=label)
    axes.legend(fontsize=8, frameon=False)


def _profit(figure: Figure, picture: Picture) -> None:
    earned, line = picture.judgement.profit, picture.case.terms.line
    axes = axes_on(figure, "approve up to this PD", f"{earned.currency} per applicant a year")
    axes.plot(earned.cut_offs, earned.curve, color=OURS)
    axes.axvline(line, color=BAD, lw=1, label=f"policy's line {line:.1%}: {earned.at_line.value:,.0f}")
    axes.axvline(earned.best_cut_off, color=GOOD, lw=1, label=f"best {earned.best_cut_off:.1%}: {earned.best:,.0f}")
    axes.axhline(earned.approve_all.value, color=QUIET, lw=1, label=f"approve all: {earned.approve_all.value:,.0f}")
    axes.set_xlim(0, min(1.0, float(np.quantile(picture.pd, 0.995)) + 0.02))
    axes.legend(fontsize=8, frameon=False)


def _importance(figure: Figure, picture: Picture) -> None:
    axes = axes_on(figure, "mean of |points added|")
    size = np.abs(picture.effect).mean(axis=0)
    top = np.argsort(-size)[:SHOWN][::-1]
    axes.barh([picture.case.columns[i].label for i in top], size[top], color=OURS)


def _effects(figure: Figure, picture: Picture) -> None:
    top = np.argsort(-np.abs(picture.effect).mean(axis=0))[:EFFECTS]
    x = picture.case.x[picture.case.held]
    for place, i in enumerate(top):
        axes = figure.add_subplot(2, 3, place + 1)
        calm(axes)
        column, value, effect = picture.case.columns[i], x[:, i], picture.effect[:, i]
        known = np.isfinite(value)
        edges = np.unique(np.quantile(value[known], np.linspace(0, 1, STEPS + 1))) if known.any() else np.empty(0)
        at = np.clip(np.searchsorted(edges, value[known], side="right") - 1, 0, max(0, len(edges) - 1))
        middle = [(value[known][at == k].mean(), effect[known][at == k].mean()) for k in np.unique(at)]
        axes.plot([m for m, _ in middle], [e for _, e in middle], color=OURS, marker=".", lw=1.2)
        if (~known).any():
            axes.axhline(effect[~known].mean(), color=BAD, lw=0.8, ls="--", label="missing")
            axes.legend(fontsize=6, frameon=False)
        axes.set_title(column.label, fontsize=8)
        axes.tick_params(labelsize=6)
        axes.set_xlabel(column.unit or ("level" if column.kind == "category" else ""), fontsize=6)
    figure.supylabel("points added", fontsize=8)


def _fairness(figure: Figure, picture: Picture) -> None:
    groups = picture.judgement.groups[::-1]
    figure.set_figheight(max(3.2, 0.28 * len(groups) + 1.4))
    parts = (("approval ratio", "approval_ratio"), ("limit ratio at equal PD", "limit_ratio_at_equal_pd"))
    for place, (label, name) in enumerate(parts):
        axes = figure.add_subplot(1, 2, place + 1)
        calm(axes)
        for row, group in enumerate(groups):
            found = getattr(group, name)
            if np.isfinite(found.value):
                axes.plot([found.low, found.high], [row, row], color=QUIET, lw=2)
                axes.plot(found.value, row, "o", ms=4, color=OURS if found.value >= 0.8 else BAD)
        axes.axvline(1, color=QUIET, lw=0.8, ls=":")
        axes.axvline(0.8, color=BAD, lw=0.8, ls=":")
        axes.set_yticks(
            range(len(groups)), [group.name for group in groups] if place == 0 else [""] * len(groups), fontsize=7
        )
        axes.set_xlabel(f"{label} (to the attribute's largest group)", fontsize=7)


def _reasons(figure: Figure, picture: Picture) -> None:
    example = picture.example
    if example is None:
        return
    axes = axes_on(figure, "score (points)")
    at, steps = example.line, list(example.parts)
    for row, (_, points) in enumerate(steps):
        axes.barh(row, points, left=at, color=GOOD if points >= 0 else BAD)
        axes.text(at + points, row, f" {points:+.1f}", va="center", fontsize=7)
        at += points
    axes.axvline(example.line, color=QUIET, lw=1, ls=":", label=f"approval line {example.line:.0f}")
    axes.axvline(example.points, color=OURS, lw=1, label=f"this applicant {example.points:.0f}")
    axes.set_yticks(range(len(steps)), [name for name, _ in steps], fontsize=8)
    axes.invert_yaxis()
    axes.legend(fontsize=8, frameon=False)
