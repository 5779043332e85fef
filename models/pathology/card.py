"""The card of a model that reads slides: its classes, its scale, and the numbers fitted after training."""

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
    """tbs: its Bethesda category in a cytology report; empty for other tissue."""

    code: str
    en: str
    zh: str
    positive: bool
    tbs: str = ""


class OutputCalibration(_CardModel):
    """Numbers fitted after training, on held-out rows.

    temperature: divisor of logits before class probabilities.
    line: from the log-odds of the positive classes to their calibrated probability.
    point: the probability from which a person reviews, and the sensitivity that may be claimed.
    conformal: the minimum probability (negative, positive) at which each answer remains possible.
    """

    temperature: float
    line: PlattCalibration
    point: OperatingPoint
    conformal: ConformalClassifier


class SlideCard(BaseCard):
    """classes: in the order of the graph's logits. side, mpp: size and scale of the tiles that it reads.

    mpp: microns per pixel; None if the data do not have it, and then no slide can be read.
    tile: fitted for single tiles or cells. slide: fitted for slides; None if the bundle has no slide graph.
    familiar: the largest distance from the training data that is not out of distribution.
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
        """Positions of the positive classes."""
        return np.flatnonzero([item.positive for item in self.classes])


def require_readable(bundle: Bundle[SlideCard]) -> Bundle[SlideCard]:
    """The bundle itself if it can read slides. Raises BundleError with every reason otherwise."""
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
    """The tile graph; the 8-bit one if int8 is set and the bundle has it."""
    return bundle.extra_graphs.get(INT8_GRAPH, bundle.graph) if int8 else bundle.graph
