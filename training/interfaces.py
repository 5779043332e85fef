"""What a recipe hands to the road, whatever its product: rows, a fit, answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import polars as pl
from pydantic import Field

from datasets.schema import ColumnSchema, TableSchema
from models.card import Card, DatasetInfo
from models.trees.onnx_session import Scores
from training.config import ConfigSection
from training.evaluation.evaluate import EvaluationConfig
from training.evaluation.profit import LoanTerms
from training.evaluation.promotion_gate import TabularGateConfig
from training.progress import ProgressReporter

if TYPE_CHECKING:
    from lightgbm import Booster

    from datasets.splits import Split


class SplitConfig(ConfigSection):
    """Which rows are held out: stratified rows, whole groups of `column`, or the latest by `column`."""

    how: Literal["rows", "group", "time"] = "rows"
    column: str | None = None
    test: float = Field(default=0.25, gt=0, lt=1)

    def split_column(self, table: TableSchema) -> str | None:
        """The column that the split goes by: the one named, else the table's own of that role."""
        if self.how == "rows":
            return None
        return self.column or next((column.name for column in table.columns_with_role(self.how)), None)

    def group_column(self, table: TableSchema) -> str | None:
        """The column whose rows stay together in folds and resamples too."""
        return self.split_column(table) if self.how == "group" else None


class TrainingConfig(ConfigSection):
    """What every recipe's config holds. `name` is the model's: its bundles' folder and its entry in the registry."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    purpose: str
    not_for: str
    purpose_zh: str = ""  # no default: it would speak of another purpose where a config gives its own in English
    not_for_zh: str = ""
    policy: Path
    seed: int = 0


class TableConfig(TrainingConfig):
    """And what that of a recipe over a table holds."""

    horizon: str = ""  # of the PD, as "12 months"
    split: SplitConfig = SplitConfig()
    judge: EvaluationConfig = EvaluationConfig()
    gate: TabularGateConfig = TabularGateConfig()


@dataclass(frozen=True)
class Dataset:
    """A table as read: every row conforms to its contract and has a known outcome."""

    table: TableSchema
    frame: pl.DataFrame
    data: DatasetInfo
    remarks: tuple[str, ...] = ()

    @property
    def y(self) -> np.ndarray:
        """(rows,) 1 bad, 0 good."""
        return self.frame[self.table.target.name].cast(pl.Float64).to_numpy()


@dataclass(frozen=True)
class FittedModel:
    """What was learned: a forest and its head, and the rows as it reads them.

    columns: the inputs in order, categories with their levels in the order of the codes; x: (rows, inputs) float32, all
    rows of the table; log-odds of default = slope * raw + intercept.
    """

    columns: tuple[ColumnSchema, ...]
    x: np.ndarray
    forest: Booster
    slope: float
    intercept: float
    params: dict[str, Any] = field(default_factory=dict)
    decision_only_columns: tuple[ColumnSchema, ...] = ()  # what the decision reads and the model does not


@dataclass(frozen=True)
class Decisions:
    """What would have been decided. approved (rows,) bool; limit (rows,) in the policy's currency, NaN where none."""

    approved: np.ndarray
    limit: np.ndarray
    referral_counts: dict[str, int] = field(default_factory=dict)  # why a person must decide -> rows

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> Decisions:
        """From a product's answers, one row each. An indicative limit counts as one here."""
        counts = frame["referral"].str.split(";").explode().drop_nulls().value_counts(sort=True).rows()
        return cls(
            approved=(frame["decision"] == "approve").to_numpy(),
            limit=frame["indicative_limit"].cast(pl.Float64).to_numpy(),
            referral_counts={code: rows for code, rows in counts if code},
        )


class Recipe(Protocol):
    """The names that every recipe's module has."""

    PRODUCT: str
    CONFIG: Path  # used where none is named
    PIPELINE: Any  # how its model is made: a kind of training.pipeline.Trip

    def load(self, path: Path, data: Path | None) -> Any: ...


class TableRecipe(Recipe, Protocol):
    """And those of a recipe over a table."""

    def read(self, config: Any) -> Dataset: ...
    def train(self, config: Any, dataset: Dataset, split: Split, reporter: ProgressReporter) -> FittedModel: ...
    def predict_variants(
        self, config: Any, dataset: Dataset, split: Split, reporter: ProgressReporter
    ) -> dict[str, np.ndarray]: ...
    def decide(self, card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Decisions: ...
    def loan_terms(self, policy: bytes) -> LoanTerms: ...
    def verify(self, policy: bytes, columns: tuple[ColumnSchema, ...]) -> list[str]: ...
