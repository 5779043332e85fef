"""Draw the report's plots as SVG. Their only text is grade names and numbers, so they need no language and no font:
the text stays text, which the reader's browser renders."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD_COLOR, BAD_COLOR, PRIMARY_COLOR, MUTED_COLOR, TEXT_COLOR = "#2a7f8e", "#c8553d", "#274c77", "#9aa5b1", "#222b36"
GRADE_COLORS = (
    "#1b5e6b",
    "#2a7f8e",
    "#57a0a8",
    "#8fc0bd",
    "#d9d2b4",
    "#e9bf86",
    "#dd9360",
    "#c8553d",
    "#97301f",
    "#c3c9d0",
)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "portfolio",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": MUTED_COLOR,
    "text.color": TEXT_COLOR,
    "axes.labelcolor": TEXT_COLOR,
    "xtick.color": TEXT_COLOR,
    "ytick.color": TEXT_COLOR,
}


def plot_grade_distribution(grades: Sequence[str], current: Sequence[float], previous: Sequence[float] | None) -> str:
    """Shares of the companies by grade, this run next to the previous one."""

    def draw(figure: Figure) -> None:
        axes = _add_axes(figure)
        positions, width = np.arange(len(grades)), 0.8 if previous is None else 0.4
        if previous is not None:
            axes.bar(positions - 0.2, [100 * share for share in previous], width, color=MUTED_COLOR)
        bars = axes.bar(
            positions + (0 if previous is None else 0.2), [100 * share for share in current], width, color=PRIMARY_COLOR
        )
        axes.bar_label(bars, [f"{100 * share:.1f}" if share else "" for share in current], fontsize=7.5, padding=1)
        axes.set_xticks(positions, _short_labels(grades))
        axes.set_ylabel("%")

    return _render_svg(draw, 10.4, 2.7)


def plot_migration_heatmap(grades: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Rows: the grade before; columns: the grade now. Colour: share of the row; number: count of companies."""

    def draw(figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        counts = np.array(matrix, float)
        rows = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
        axes = _add_axes(figure)
        upgrade_colors, downgrade_colors = (
            LinearSegmentedColormap.from_list("", ["#ffffff", colour]) for colour in (GOOD_COLOR, BAD_COLOR)
        )
        unchanged_colors = LinearSegmentedColormap.from_list("", ["#ffffff", PRIMARY_COLOR])
        for i in range(len(grades)):
            for j in range(len(grades)):
                both_rated = max(i, j) < len(grades) - 1
                fill = (
                    unchanged_colors if i == j or not both_rated else upgrade_colors if j < i else downgrade_colors
                )(shares[i, j] ** 0.5)
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=fill, edgecolor="#e3e7ec", lw=0.6))
                if counts[i, j]:
                    is_dark = shares[i, j] > 0.35
                    axes.text(j, i, f"{int(counts[i, j]):,}", ha="center", va="center", fontsize=8,
                              color="#ffffff" if is_dark else TEXT_COLOR)  # fmt: skip
        axes.set(xlim=(-0.5, len(grades) - 0.5), ylim=(len(grades) - 0.5, -0.5))
        axes.set_xticks(range(len(grades)), _short_labels(grades))
        axes.set_yticks(
            range(len(grades)),
            [f"{grade}  ({int(row):,})" for grade, row in zip(_short_labels(grades), rows[:, 0], strict=True)],
        )  # noqa: E501
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return _render_svg(draw, 10.4, 4.4)


def plot_stressed_grades(names: Sequence[str], grades: Sequence[str], shares: Sequence[Mapping[str, float]]) -> str:
    """One bar for the current figures and one for each shock, divided by grade; `names` are short."""

    def draw(figure: Figure) -> None:
        axes = _add_axes(figure)
        left = np.zeros(len(names))
        for position, grade in enumerate(grades):
            width = np.array([100 * share.get(grade, 0.0) for share in shares])
            colour = GRADE_COLORS[position % len(GRADE_COLORS)]
            axes.barh(range(len(names)), width, left=left, color=colour, height=0.66, label=_short_labels([grade])[0])
            for row, (start, size) in enumerate(zip(left, width, strict=True)):
                if size >= 5:
                    is_dark = position in (0, 1, 2, 7, 8)
                    axes.text(start + size / 2, row, f"{size:.0f}", ha="center", va="center", fontsize=7.5,
                              color="#ffffff" if is_dark else TEXT_COLOR)  # fmt: skip
            left += width
        axes.set_yticks(range(len(names)), list(names), fontsize=10, fontweight="bold")
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="%")
        figure.legend(loc="outside upper center", ncols=len(grades), frameon=False, fontsize=8, handlelength=1.0,
                      columnspacing=1.1)  # fmt: skip

    return _render_svg(draw, 10.4, 0.9 + 0.46 * len(names))


def plot_lorenz_curve(limits: Sequence[float]) -> str:
    """Lorenz curve: the share of all limits held by the companies with the largest ones. limits: in any order."""

    def draw(figure: Figure) -> None:
        axes = _add_axes(figure)
        sorted_limits = np.sort(np.array(limits, float))[::-1]
        total = sorted_limits.sum() or 1.0
        x, y = (
            np.arange(len(sorted_limits) + 1) / max(1, len(sorted_limits)),
            np.r_[0, np.cumsum(sorted_limits)] / total,
        )
        indices = np.unique(np.linspace(0, len(sorted_limits), 200).astype(int))
        axes.fill_between(100 * x[indices], 100 * y[indices], color=PRIMARY_COLOR, alpha=0.12, lw=0)
        axes.plot(100 * x[indices], 100 * y[indices], color=PRIMARY_COLOR, lw=1.6)
        axes.plot([0, 100], [0, 100], color=MUTED_COLOR, lw=0.7, ls=":")
        for share in (0.01, 0.1):
            index = int(share * len(sorted_limits))
            if index:
                axes.plot(100 * x[index], 100 * y[index], "o", ms=4, color=BAD_COLOR)
                axes.text(100 * x[index] + 2, 100 * y[index], f"{share:.0%}: {y[index]:.0%}", va="top", fontsize=8)
        axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="% n", ylabel="% RMB")

    return _render_svg(draw, 4.6, 3.0)


def _short_labels(grades: Sequence[str]) -> list[str]:
    return ["–" if grade == "unrated" else grade for grade in grades]


def _add_axes(figure: Figure) -> Axes:
    axes: Axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return axes


def _render_svg(draw: Any, width: float, height: float) -> str:
    """Draw an SVG as a data URI for an <img>, in which scripts do not run."""
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
