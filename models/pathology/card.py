"""The card of a model that reads tiles and slides: its classes, its scale, and every number fitted afterwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.bundle import INT8_GRAPH, SLIDE_GRAPH, Bundle, BundleError
from models.card import BaseCard
from models.pathology.abstention import ConformalClassifier
from models.pathology.calibration import PlattCalibration
from models.pathology.operating_point import OperatingPoint


class _CardModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TileClass(_CardModel):
    """`tbs`: the Bethesda category it is told as, in a cytology report; empty for other tissue."""

    code: str
    en: str
    zh: str
    positive: bool
    tbs: str = ""


class OutputCalibration(_CardModel):
    """What was fitted after a network, on rows that it had not learned from.

    temperature: what logits are divided by before class probabilities.
    line: from the log-odds of the positive classes to their calibrated probability.
    point: which probability is sent to a person, and which sensitivity may be claimed.
    conformal: the least probability (negative, positive) at which each answer remains possible.
    """

    temperature: float
    line: PlattCalibration
    point: OperatingPoint
    conformal: ConformalClassifier


class SlideCard(BaseCard):
    """`classes` are in the order of the graph's logits; (side, mpp) the tile that it reads.

    mpp: microns per pixel; None where the data lost it, and then no slide can be read.
    tile: what was fitted for single tiles or cells.
    familiar: the largest distance to what was learned from that is still familiar.
    slide: the same for whole slides; None where the bundle has no graph that aggregates.
    specimens: kinds of specimen that it may read.
    """

    classes: tuple[TileClass, ...]
    side: int
    mpp: float | None
    backbone: str
    specimens: tuple[str, ...]
    tile: OutputCalibration
    familiar: float
    slide: OutputCalibration | None = None

    @property
    def positive(self) -> NDArray[np.intp]:
        """Places of the positive classes."""
        return np.flatnonzero([item.positive for item in self.classes])


def require_readable(bundle: Bundle[SlideCard]) -> Bundle[SlideCard]:
    """The bundle itself where it can read slides; else BundleError with every reason."""
    card, errors = bundle.card, []
    if card.mpp is None:
        errors.append("its tiles have no scale (mpp)")
    if card.slide is None or SLIDE_GRAPH not in bundle.extra_graphs:
        errors.append(f"nothing in it makes one answer of many tiles ({SLIDE_GRAPH})")
    if errors:
        raise BundleError(
            f"{card.model} {card.version} cannot read slides: {' and '.join(errors)}. "
            "Serve a model that was trained on slides."
        )
    return bundle


def select_tile_graph(bundle: Bundle[SlideCard], int8: bool) -> bytes:
    """The graph over tiles; `small`: in 8 bits, where the bundle offers it."""
    return bundle.extra_graphs.get(INT8_GRAPH, bundle.graph) if int8 else bundle.graph
