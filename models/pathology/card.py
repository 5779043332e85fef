"""The card of a model that reads tiles and slides: its classes, its scale, and every number fitted afterwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.bundle import SLIDE_GRAPH, SMALL_GRAPH, Bundle, BundleRefused
from models.card import Stamp
from models.pathology.abstention import Conformal
from models.pathology.calibration import Line
from models.pathology.operating_point import Point


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Class(_Part):
    """`tbs`: the Bethesda category it is told as, in a cytology report; empty for other tissue."""

    code: str
    en: str
    zh: str
    positive: bool
    tbs: str = ""


class Fitted(_Part):
    """What was fitted after a network, on rows that it had not learned from.

    temperature: what logits are divided by before class probabilities.
    line: from the log-odds of the positive classes to their calibrated probability.
    point: which probability is sent to a person, and which sensitivity may be claimed.
    conformal: the least probability (negative, positive) at which each answer remains possible.
    """

    temperature: float
    line: Line
    point: Point
    conformal: Conformal


class SlideCard(Stamp):
    """`classes` are in the order of the graph's logits; (side, mpp) the tile that it reads.

    mpp: microns per pixel; None where the data lost it, and then no slide can be read.
    tile: what was fitted for single tiles or cells.
    familiar: the largest distance to what was learned from that is still familiar.
    slide: the same for whole slides; None where the bundle has no graph that aggregates.
    specimens: kinds of specimen that it may read.
    """

    classes: tuple[Class, ...]
    side: int
    mpp: float | None
    backbone: str
    specimens: tuple[str, ...]
    tile: Fitted
    familiar: float
    slide: Fitted | None = None

    @property
    def positive(self) -> NDArray[np.intp]:
        """Places of the positive classes."""
        return np.flatnonzero([one.positive for one in self.classes])


def readable(bundle: Bundle[SlideCard]) -> Bundle[SlideCard]:
    """The bundle itself where it can read slides; else BundleRefused with every reason."""
    card, faults = bundle.card, []
    if card.mpp is None:
        faults.append("its tiles have no scale (mpp)")
    if card.slide is None or SLIDE_GRAPH not in bundle.more:
        faults.append(f"nothing in it makes one answer of many tiles ({SLIDE_GRAPH})")
    if faults:
        raise BundleRefused(
            f"{card.model} {card.version} cannot read slides: {' and '.join(faults)}. "
            "Serve a model that was trained on slides."
        )
    return bundle


def tile_graph(bundle: Bundle[SlideCard], small: bool) -> bytes:
    """The graph over tiles; `small`: in 8 bits, where the bundle offers it."""
    return bundle.more.get(SMALL_GRAPH, bundle.graph) if small else bundle.graph
