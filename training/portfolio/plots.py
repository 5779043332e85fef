"""The report's pictures as SVG. Their words are grade names and numbers alone, so that no language and no font is owed:
letters stay text, which the reader's own browser draws."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD, OURS, QUIET, INK = "#2a7f8e", "#c8553d", "#274c77", "#9aa5b1", "#222b36"
GRADES = ("#1b5e6b", "#2a7f8e", "#57a0a8", "#8fc0bd", "#d9d2b4", "#e9bf86", "#dd9360", "#c8553d", "#97301f", "#c3c9d0")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "portfolio",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def distribution(grades: Sequence[str], now: Sequence[float], before: Sequence[float] | None) -> str:
    """Shares of the companies by grade, this run beside the previous one."""

    def draw(figure: Figure) -> None:
        axes = _axes(figure)
        at, width = np.arange(len(grades)), 0.8 if before is None else 0.4
        if before is not None:
            axes.bar(at - 0.2, [100 * share for share in before], width, color=QUIET)
        bars = axes.bar(at + (0 if before is None else 0.2), [100 * share for share in now], width, color=OURS)
        axes.bar_label(bars, [f"{100 * share:.1f}" if share else "" for share in now], fontsize=7.5, padding=1)
        axes.set_xticks(at, _short(grades))
        axes.set_ylabel("%")

    return _svg(draw, 10.4, 2.7)


def heatmap(grades: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Rows: the grade before; columns: now. Colour is the share of the row, the number a count of companies."""

    def draw(figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        counts = np.array(matrix, float)
        rows = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
        axes = _axes(figure)
        better, worse = (LinearSegmentedColormap.from_list("", ["#ffffff", colour]) for colour in (GOOD, BAD))
        same = LinearSegmentedColormap.from_list("", ["#ffffff", OURS])
        for i in range(len(grades)):
            for j in range(len(grades)):
                rated = max(i, j) < len(grades) - 1
                shade = (same if i == j or not rated else better if j < i else worse)(shares[i, j] ** 0.5)
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=shade, edgecolor="#e3e7ec", lw=0.6))
                if counts[i, j]:
                    dark = shares[i, j] > 0.35
                    axes.text(j, i, f"{int(counts[i, j]):,}", ha="center", va="center", fontsize=8,
                              color="#ffffff" if dark else INK)  # fmt: skip
        axes.set(xlim=(-0.5, len(grades) - 0.5), ylim=(len(grades) - 0.5, -0.5))
        axes.set_xticks(range(len(grades)), _short(grades))
        axes.set_yticks(
            range(len(grades)),
            [f"{grade}  ({int(row):,})" for grade, row in zip(_short(grades), rows[:, 0], strict=True)],
        )  # noqa: E501
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return _svg(draw, 10.4, 4.4)


def stressed(names: Sequence[str], grades: Sequence[str], shares: Sequence[Mapping[str, float]]) -> str:
    """A bar for the books as they are and for each shock, divided by grade; short `names`."""

    def draw(figure: Figure) -> None:
        axes = _axes(figure)
        left = np.zeros(len(names))
        for place, grade in enumerate(grades):
            width = np.array([100 * share.get(grade, 0.0) for share in shares])
            colour = GRADES[place % len(GRADES)]
            axes.barh(range(len(names)), width, left=left, color=colour, height=0.66, label=_short([grade])[0])
            for row, (start, size) in enumerate(zip(left, width, strict=True)):
                if size >= 5:
                    dark = place in (0, 1, 2, 7, 8)
                    axes.text(start + size / 2, row, f"{size:.0f}", ha="center", va="center", fontsize=7.5,
                              color="#ffffff" if dark else INK)  # fmt: skip
            left += width
        axes.set_yticks(range(len(names)), list(names), fontsize=10, fontweight="bold")
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="%")
        figure.legend(loc="outside upper center", ncols=len(grades), frameon=False, fontsize=8, handlelength=1.0,
                      columnspacing=1.1)  # fmt: skip

    return _svg(draw, 10.4, 0.9 + 0.46 * len(names))


def curve(limits: Sequence[float]) -> str:
    """Lorenz curve: the share of all limits that the companies with the largest hold. limits: any order."""

    def draw(figure: Figure) -> None:
        axes = _axes(figure)
        held = np.sort(np.array(limits, float))[::-1]
        total = held.sum() or 1.0
        x, y = np.arange(len(held) + 1) / max(1, len(held)), np.r_[0, np.cumsum(held)] / total
        at = np.unique(np.linspace(0, len(held), 200).astype(int))
        axes.fill_between(100 * x[at], 100 * y[at], color=OURS, alpha=0.12, lw=0)
        axes.plot(100 * x[at], 100 * y[at], color=OURS, lw=1.6)
        axes.plot([0, 100], [0, 100], color=QUIET, lw=0.7, ls=":")
        for share in (0.01, 0.1):
            place = int(share * len(held))
            if place:
                axes.plot(100 * x[place], 100 * y[place], "o", ms=4, color=BAD)
                axes.text(100 * x[place] + 2, 100 * y[place], f"{share:.0%}: {y[place]:.0%}", va="top", fontsize=8)
        axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="% n", ylabel="% RMB")

    return _svg(draw, 4.6, 3.0)


def _short(grades: Sequence[str]) -> list[str]:
    return ["–" if grade == "unrated" else grade for grade in grades]


def _axes(figure: Figure) -> Axes:
    axes: Axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return axes


def _svg(draw: Any, width: float, height: float) -> str:
    """As a data URI for an <img>, where nothing in it could run."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()
