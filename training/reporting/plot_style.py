"""What every picture shares: its colours, its page, and the curves that more than one kind of model has."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

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


@cache
def find_chinese_font() -> str | None:
    """A font that has Chinese characters, if this machine has one of those we know."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK_FONTS if name in installed), None)


def new_figure(en: str, zh: str, title: str) -> Figure:
    """An empty page with its title, Chinese too where a font has it; `title`: whose picture it is."""
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
    """The one pair of axes of a page."""
    axes: Axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    style_axes(axes)
    return axes


def style_axes(axes: Axes) -> None:
    """No frame, small letters."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def roc_points(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share of y = 0, share of y = 1) at or above each distinct score, from the highest on."""
    order = np.argsort(-score, kind="stable")
    is_positive = y[order] == 1
    is_last_of_ties = np.r_[score[order][1:] != score[order][:-1], True]
    negative_share, positive_share = (
        np.r_[0, np.cumsum(group)[is_last_of_ties] / max(1, group.sum())] for group in (~is_positive, is_positive)
    )
    return negative_share, positive_share
