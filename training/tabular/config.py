"""Define the settings of a recipe that learns from a table."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from datasets import catalog
from datasets.errors import did_you_mean
from datasets.schema import TableSchema
from models.trees.estimator import EstimatorConfig
from training import config as settings
from training.config import ConfigSection, TrainingConfig
from training.evaluation.evaluate import EvaluationConfig
from training.evaluation.promotion_gate import TabularGateConfig
from training.tabular.tuning import TuneConfig
from training.tabular.user_table import UserTableConfig


class SplitConfig(ConfigSection):
    """Which rows are held out: stratified rows, whole groups of `column`, or the latest rows by `column`."""

    how: Literal["rows", "group", "time"] = "rows"
    column: str | None = None
    test: float = Field(default=0.25, gt=0, lt=1)

    def split_column(self, table: TableSchema) -> str | None:
        """The column to split by: the one named, else the table's own column with that role."""
        if self.how == "rows":
            return None
        return self.column or next((column.name for column in table.columns_with_role(self.how)), None)

    def group_column(self, table: TableSchema) -> str | None:
        """The column whose rows stay together in folds and resamples too."""
        return self.split_column(table) if self.how == "group" else None


class SourceConfig(ConfigSection):
    """One of the project's tables. A simulated one is generated where no file is named."""

    source: str
    file: Path | None = None
    rows: int = Field(default=25_000, ge=100)  # of a generated table


class TabularConfig(TrainingConfig):
    """Settings of a tabular product. Either [data] names a table of the project, or [table] describes a user's own."""

    data: SourceConfig | None = None
    table: UserTableConfig | None = None
    horizon: str = ""  # of the PD, such as "12 months"
    leave_out: tuple[str, ...] = ()  # indicators that the PD does not read
    # In units of the split's time column: a row this much older than the newest training row counts half.
    half_life: float | None = Field(default=None, gt=0)
    split: SplitConfig = SplitConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    tune: TuneConfig = TuneConfig()
    judge: EvaluationConfig = EvaluationConfig()
    gate: TabularGateConfig = TabularGateConfig()

    @model_validator(mode="after")
    def _require_one_table(self) -> TabularConfig:
        if (self.data is None) == (self.table is None):
            raise ValueError("exactly one of [data] (a table of the project) and [table] (your own) is required")
        return self

    @field_validator("data")
    @classmethod
    def _check_known_source(cls, data: SourceConfig | None) -> SourceConfig | None:
        known_sources = list(catalog.source_modules(cls.product))
        if data is not None and data.source not in known_sources:
            raise ValueError(
                f"{data.source!r} is not one of {', '.join(known_sources)}{did_you_mean(data.source, known_sources)}"
            )
        return data


ConfigT = TypeVar("ConfigT", bound=TabularConfig)


def load(path: Path, config_type: type[ConfigT], data: Path | None = None) -> ConfigT:
    """Read a config; `data` replaces the file of its table. Raises ConfigError."""
    config = settings.load_training_config(path, config_type)
    if data is None:
        return _find_beside(path, config)
    if config.data:
        return config.model_copy(update={"data": config.data.model_copy(update={"file": data})})
    assert config.table is not None
    changes = {"file": data, "database": "", "query": ""}
    return config.model_copy(update={"table": config.table.model_copy(update=changes)})


def _find_beside(path: Path, config: ConfigT) -> ConfigT:
    """The config; the file of its own table is looked for beside it where the working folder has none of that name."""
    table = config.table
    if table is None or table.file is None or table.file.exists() or not (path.parent / table.file).exists():
        return config
    return config.model_copy(update={"table": table.model_copy(update={"file": path.parent / table.file})})
