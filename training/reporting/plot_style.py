"""Draw what all plots share: pages, axes, colours, ROC curves and calibration bins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from models.metrics import CalibrationBin
from training.progress import ProgressCallback

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD_COLOR, BAD_COLOR, PRIMARY_COLOR, MUTED_COLOR = "#2a7f8e", "#c8553d", "#274c77", "#9aa5b1"
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "SimHei",
    "PingFang SC",
)
InputsT = TypeVar("InputsT")


@cache
def find_chinese_font() -> str | None:
    """The name of an installed font with Chinese characters, if there is one of CJK_FONTS."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK_FONTS if name in installed), None)


def new_figure(en: str, zh: str, title: str) -> Figure:
    """An empty page with a title, in Chinese too where a font has it; `title` names the model, in the corner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(7.2, 4.8), layout=ConstrainedLayoutEngine(rect=(0, 0.03, 1, 0.97)))
    FigureCanvasAgg(figure)
    font = find_chinese_font()
    figure.suptitle(f"{en}  {zh}" if font else en, fontsize=12, **({"fontfamily": font} if font else {}))
    figure.text(0.995, 0.005, title, ha="right", va="bottom", fontsize=7, color=MUTED_COLOR)
    return figure


def add_axes(figure: Figure, x: str = "", y: str = "") -> Axes:
    """The only axes of a page, with the labels `x` and `y`."""
    axes: Axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    style_axes(axes)
    return axes


def style_axes(axes: Axes) -> None:
    """Remove the frame's upper and right edge, and use small tick labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def roc_points(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share of y = 0, share of y = 1) at or above each distinct score, from the highest down; y, score: (n,)."""
    order = np.argsort(-score, kind="stable")
    is_positive = y[order] == 1
    is_last_of_ties = np.r_[score[order][1:] != score[order][:-1], True]
    negative_share, positive_share = (
        np.r_[0, np.cumsum(group)[is_last_of_ties] / max(1, group.sum())] for group in (~is_positive, is_positive)
    )
    return negative_share, positive_share


def plot_calibration(axes: Axes, bins: Sequence[CalibrationBin]) -> None:
    """Plot the share of bad rows against the mean PD of each bin, with its interval."""
    x, rates = np.array([bin.mean_pd for bin in bins]), np.array([bin.bad_rate.value for bin in bins])
    low, high = np.array([bin.bad_rate.low for bin in bins]), np.array([bin.bad_rate.high for bin in bins])
    error_bars = [np.maximum(rates - low, 0), np.maximum(high - rates, 0)]
    axes.errorbar(x, rates, yerr=error_bars, fmt="o", ms=4, color=PRIMARY_COLOR, capsize=2, lw=1)


def save_plots(
    folder: Path,
    plots: Mapping[str, Callable[[Figure, InputsT], None]],
    inputs: InputsT,
    titles: Mapping[str, tuple[str, str]],
    model_title: str,
    progress: ProgressCallback,
) -> list[Path]:
    """Draw every plot on a page of its own and write it as `<name>.png`; titles: English and Chinese, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for position, (name, draw) in enumerate(plots.items()):
        figure = new_figure(*titles[name], model_title)
        draw(figure, inputs)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        paths.append(path)
        progress(position + 1, len(plots))
    return paths
