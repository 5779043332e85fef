"""Draw what all plots share: pages, axes, colours, ROC curves and calibration bins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from models.metrics import CalibrationBin
from training.progress import ProgressCallback

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD_COLOR, BAD_COLOR, PRIMARY_COLOR, MUTED_COLOR = "#2a7f8e", "#c8553d", "#274c77", "#9aa5b1"
FONT_FILE = Path(__file__).parents[2] / "serving" / "pathology" / "report" / "fonts" / "NotoSansSC-Regular.ttf"
MAX_LABEL_CHARS = 36
InputsT = TypeVar("InputsT")


@cache
def font_families() -> list[str]:
    """The fonts of a plot, one for what the other lacks: the project ships that of the Chinese characters."""
    from matplotlib import font_manager

    font_manager.fontManager.addfont(str(FONT_FILE))
    return ["DejaVu Sans", font_manager.FontProperties(fname=str(FONT_FILE)).get_name()]


def style() -> dict[Any, Any]:
    """Matplotlib's settings for a plot. A heading is text, whatever stands in it: "$" begins no formula."""
    return {"font.family": font_families(), "text.parse_math": False, "axes.unicode_minus": False}


def short_label(text: str) -> str:
    """A heading on one line, cut where it is longer than a plot has room for."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_LABEL_CHARS else line[: MAX_LABEL_CHARS - 1] + "…"


def use_log_scale(axes: Axes) -> None:
    """Scale both axes by logarithms, with plain numbers at the ticks."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def new_figure(en: str, zh: str, title: str) -> Figure:
    """An empty page with a title in English and Chinese; `title` names the model, in the corner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(7.2, 4.8), layout=ConstrainedLayoutEngine(rect=(0, 0.03, 1, 0.97)))
    FigureCanvasAgg(figure)
    is_long = len(en) + 2 * len(zh) > 80  # a Chinese character is as wide as two others
    figure.suptitle(f"{en}\n{zh}" if is_long else f"{en}  {zh}", fontsize=12)
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
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for position, (name, draw) in enumerate(plots.items()):
        path = folder / f"{name}.png"
        with rc_context(style()):
            figure = new_figure(*titles[name], model_title)
            draw(figure, inputs)
            figure.savefig(path, dpi=110)
        paths.append(path)
        progress(position + 1, len(plots))
    return paths
