"""The operator's floors of the promotion gate, below which no run's own thresholds count.

floors = load_gate_floors()                     # configs/gate.toml
config = tighten(config.gate, floors.tabular)   # the stricter of the two, threshold by threshold
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from training.config import ConfigSection, load

DEFAULT_FILE = Path(__file__).parents[2] / "configs" / "gate.toml"
FILE_VARIABLE = "YUHENG_GATE"


class FloorSection(ConfigSection):
    min_auc: float = Field(ge=0.5, lt=1)
    slope: tuple[float, float]
    intercept: tuple[float, float]


class TabularFloors(FloorSection):
    min_approval_ratio: float = Field(ge=0, le=1)
    min_limit_ratio: float = Field(ge=0, le=1)
    max_psi: float = Field(gt=0)
    max_auc: float = Field(default=0.98, gt=0.5, le=1)


class SlideFloors(FloorSection):
    min_sensitivity_bound: float = Field(ge=0, lt=1)
    max_abstained: float = Field(gt=0, le=1)


class GateFloors(ConfigSection):
    """first_model: whether a model with no earlier version passes without a comparison. without_evidence: whether a
    check passes that had nothing to test."""

    first_model: bool
    without_evidence: bool
    tabular: TabularFloors
    slides: SlideFloors


ThresholdsT = TypeVar("ThresholdsT", bound=ConfigSection)


def load_gate_floors(file: Path | None = None) -> GateFloors:
    """The floors of a file, by default the operator's. Raises ConfigError."""
    return load(file or Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE)), GateFloors)


def tighten(thresholds: ThresholdsT, floors: FloorSection) -> ThresholdsT:
    """A run's thresholds, each at least as strict as its floor."""
    updates = {}
    for name in type(floors).model_fields:
        own, floor = getattr(thresholds, name), getattr(floors, name)
        if name.startswith("min_"):
            updates[name] = max(own, floor)
        elif name.startswith("max_"):
            updates[name] = min(own, floor)
        else:
            updates[name] = max(own[0], floor[0]), min(own[1], floor[1])
    return thresholds.model_copy(update=updates)
