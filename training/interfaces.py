"""What a recipe hands to the road, whatever its product: rows, a fit, answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import polars as pl
from pydantic import Field

from datasets.schema import Column, Table
from models.card import Card, Data
from models.trees.onnx_session import Scores
from training.config import Settings
from training.evaluation.evaluate import JudgeConfig
from training.evaluation.profit import Terms
from training.evaluation.promotion_gate import GateConfig
from training.progress import Watch

if TYPE_CHECKING:
    from lightgbm import Booster

    from datasets.splits import Split


class SplitConfig(Settings):
    """Which rows are held out: stratified rows, whole groups of `column`, or the latest by `column`."""

    how: Literal["rows", "group", "time"] = "rows"
    column: str | None = None
    test: float = Field(default=0.25, gt=0, lt=1)

    def by(self, table: Table) -> str | None:
        """The column that the split goes by: the one named, else the table's own of that role."""
        if self.how == "rows":
            return None
        return self.column or next((column.name for column in table.role(self.how)), None)

    def group(self, table: Table) -> str | None:
        """The column whose rows stay together in folds and resamples too."""
        return self.by(table) if self.how == "group" else None


class RoadConfig(Settings):
    """What every recipe's config holds. `name` is the model's: its bundles' folder and its entry in the registry."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    purpose: str
    not_for: str
    purpose_zh: str = ""  # no default: it would speak of another purpose where a config gives its own in English
    not_for_zh: str = ""
    policy: Path
    seed: int = 0


class TableConfig(RoadConfig):
    """And what that of a recipe over a table holds."""

    horizon: str = ""  # of the PD, as "12 months"
    split: SplitConfig = SplitConfig()
    judge: JudgeConfig = JudgeConfig()
    gate: GateConfig = GateConfig()


@dataclass(frozen=True)
class Rows:
    """A table as read: every row conforms to its contract and has a known outcome."""

    table: Table
    frame: pl.DataFrame
    data: Data
    remarks: tuple[str, ...] = ()

    @property
    def y(self) -> np.ndarray:
        """(rows,) 1 bad, 0 good."""
        return self.frame[self.table.target.name].cast(pl.Float64).to_numpy()


@dataclass(frozen=True)
class Fit:
    """What was learned: a forest and its head, and the rows as it reads them.

    columns: the inputs in order, categories with their levels in the order of the codes; x: (rows, inputs) float32, all
    rows of the table; log-odds of default = slope * raw + intercept.
    """

    columns: tuple[Column, ...]
    x: np.ndarray
    forest: Booster
    slope: float
    intercept: float
    params: dict[str, Any] = field(default_factory=dict)
    also: tuple[Column, ...] = ()  # what the decision reads and the model does not


@dataclass(frozen=True)
class Answers:
    """What would have been decided. approved (rows,) bool; limit (rows,) in the policy's currency, NaN where none."""

    approved: np.ndarray
    limit: np.ndarray
    referred: dict[str, int] = field(default_factory=dict)  # why a person must decide -> rows

    @classmethod
    def read(cls, told: pl.DataFrame) -> Answers:
        """From a product's answers, one row each. An indicative limit counts as one here."""
        why = told["referral"].str.split(";").explode().drop_nulls().value_counts(sort=True).rows()
        return cls(
            approved=(told["decision"] == "approve").to_numpy(),
            limit=told["indicative_limit"].cast(pl.Float64).to_numpy(),
            referred={code: rows for code, rows in why if code},
        )


class Recipe(Protocol):
    """The names that every recipe's module has."""

    PRODUCT: str
    CONFIG: Path  # used where none is named
    TRIP: Any  # how its model is made: a kind of training.pipeline.Trip

    def load(self, path: Path, data: Path | None) -> Any: ...


class TableRecipe(Recipe, Protocol):
    """And those of a recipe over a table."""

    def read(self, config: Any) -> Rows: ...
    def train(self, config: Any, rows: Rows, split: Split, watch: Watch) -> Fit: ...
    def variants(self, config: Any, rows: Rows, split: Split, watch: Watch) -> dict[str, np.ndarray]: ...
    def decide(self, card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Answers: ...
    def terms(self, policy: bytes) -> Terms: ...
    def verify(self, policy: bytes, columns: tuple[Column, ...]) -> list[str]: ...
