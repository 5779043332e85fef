"""What every recipe over a table shares: which table, which of its columns, and small monotone trees fitted to them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from datasets import catalog
from datasets.errors import DataError, did_you_mean
from datasets.export import manifest
from datasets.schema import ColumnSchema, TableSchema
from datasets.splits import Split
from models.card import DatasetInfo
from models.feature_encoder import encode, order_levels
from models.trees.estimator import BaggedTrees, EstimatorConfig
from models.trees.forest import merge_boosters
from training import config as settings
from training.config import ConfigSection
from training.interfaces import Dataset, FittedModel, TableConfig
from training.progress import ProgressReporter
from training.tabular import user_table
from training.tabular.tuning import TuneConfig, tune
from training.tabular.user_table import UserTableConfig


class SourceConfig(ConfigSection):
    """One of the project's tables. One that is simulated is made on the spot where no file is named."""

    source: str
    file: Path | None = None
    rows: int = Field(default=25_000, ge=100)  # of a table that is made on the spot


class TabularConfig(TableConfig):
    """[data] names a table of the project, [table] describes one of your own; one of the two."""

    product: ClassVar[str]
    data: SourceConfig | None = None
    table: UserTableConfig | None = None
    leave_out: tuple[str, ...] = ()  # indicators that the PD shall not read
    half_life: float | None = Field(default=None, gt=0)  # in the split's time: a training row so much older counts half
    estimator: EstimatorConfig = EstimatorConfig()
    tune: TuneConfig = TuneConfig()

    @model_validator(mode="after")
    def _require_one_table(self) -> TabularConfig:
        if (self.data is None) == (self.table is None):
            raise ValueError("exactly one of [data] (a table of the project) and [table] (your own) is needed")
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
    """The config in a file, named like it unless it says otherwise; `data` replaces the table's file."""
    config = settings.load(path, config_type, name=re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_"))
    if data is None:
        return config
    if config.data:
        return config.model_copy(update={"data": config.data.model_copy(update={"file": data})})
    assert config.table is not None
    return config.model_copy(update={"table": config.table.model_copy(update={"file": data})})


def read(config: TabularConfig) -> Dataset:
    """Rows with a known outcome."""
    remarks: list[str] = []
    if config.table:
        table, frame, remarks = user_table.read(config.table)
        name = config.table.file.name
    else:
        assert config.data is not None
        module = catalog.load_source(config.data.source, config.product)
        table, name = module.TABLE, config.data.source
        is_generated = config.data.file is None and not table.origin.sha256  # its contract describes no one file
        loaded = module.sample(config.data.rows, config.seed) if is_generated else module.read(config.data.file)
        if isinstance(loaded, pl.DataFrame):
            frame = loaded
        else:  # a register, which brings more than its table
            frame, remarks = loaded.frame, [remark.en for remark in loaded.remarks]
            table = table.model_copy(update={"origin": table.origin.model_copy(update={"simulated": loaded.simulated})})
        if is_generated:
            name = f"{name} of {frame.height:,} simulated rows, seed {config.seed}"
        frame = frame.filter(pl.col(table.target.name).is_not_null())
    if table.columns_with_role("weight") or config.half_life:
        remarks.append("Rows are weighted in the fit; every figure counts them alike.")
    unknown_columns = [column for column in config.leave_out if column not in frame.columns]
    if unknown_columns:
        raise DataError(f"leave_out names {', '.join(unknown_columns)}; {table.name} has no such column.")
    file = config.table.file if config.table else config.data.file if config.data else None
    manifest_entry = None if file is None else manifest.read_manifest(file)  # where the rows left a store
    data = DatasetInfo(
        name=name,
        rows=frame.height,
        # of a file out of a store its own digest, by which an erasure finds the models made of it
        sha256=manifest_entry.sha256 if manifest_entry else hashlib.sha256(frame.write_csv().encode()).hexdigest(),
        source=table.origin.source,
        licence=table.origin.licence,
        simulated=table.origin.simulated or bool(manifest_entry and manifest_entry.simulated),
        authorisations=manifest_entry.authorisations if manifest_entry else (),
    )
    return Dataset(table, frame, data, tuple(remarks))


def select_inputs(
    config: TabularConfig, table: TableSchema, is_excluded: Callable[[ColumnSchema], bool]
) -> tuple[ColumnSchema, ...]:
    """What the PD may read: indicators that are no text, not left out, and not `unread` by the product's rules.

    Those that are made from others stand last, and go where one of their parts goes.
    """
    selected = [
        column
        for column in table.indicators
        if column.kind != "text" and column.name not in config.leave_out and not is_excluded(column)
    ]
    stated_columns = [column for column in selected if column.derived is None]
    names = {column.name for column in stated_columns}
    derived_columns = []
    for column in selected:
        if column.derived is not None and names.issuperset(column.derived.operand_names):
            derived_columns.append(column)
            names.add(column.name)
    return (*stated_columns, *derived_columns)


def train(
    config: TabularConfig,
    dataset: Dataset,
    split: Split,
    columns: tuple[ColumnSchema, ...],
    reporter: ProgressReporter,
    passthrough: Collection[str],
) -> FittedModel:
    """Fit on the training rows; `also`: audit columns that the decision reads, beside every indicator not fitted."""
    columns = order_levels(dataset.frame[split.train], columns, dataset.table.target.name)
    x, y = encode(dataset.frame, columns), dataset.y  # (rows, inputs) float32; (rows,)
    estimator = config.estimator.model_copy(update={"seed": config.seed})
    fit_options = _fit_options(config, dataset, split, columns)
    if config.tune.trials:
        with reporter.step("tune") as progress:
            estimator = tune(
                estimator,
                x[split.train],
                y[split.train],
                trials=config.tune.trials,
                seed=config.seed,
                progress=progress,
                **fit_options,
            )
    with reporter.step("fit") as progress:
        try:
            model = BaggedTrees(estimator).fit(x[split.train], y[split.train], progress=progress, **fit_options)
        except ValueError as error:  # too few rows, or indicators that tell nothing: the table's owner can act on it
            raise DataError(f"{dataset.table.name}: {error}") from error
    input_names = {column.name for column in columns}
    decision_only_columns = [column for column in dataset.table.indicators if column.name not in input_names]
    decision_only_columns += [
        column for column in dataset.table.columns_with_role("audit") if column.name in passthrough
    ]
    params = estimator.model_dump() | {"trees_per_booster": model.trees_, "boosters": len(model.boosters_)}
    return FittedModel(
        columns,
        x,
        merge_boosters(model.boosters_),
        model.slope_,
        model.intercept_,
        params,
        tuple(decision_only_columns),
    )


def predict_variant(
    config: TabularConfig,
    dataset: Dataset,
    split: Split,
    columns: tuple[ColumnSchema, ...],
    reporter: ProgressReporter,
    step: str,
) -> np.ndarray:
    """Held-out PDs (rows,) of the same estimator on other columns; for the judge, never kept."""
    columns = order_levels(dataset.frame[split.train], columns, dataset.table.target.name)
    x = encode(dataset.frame, columns)
    with reporter.step(step) as progress:
        model = BaggedTrees(config.estimator.model_copy(update={"seed": config.seed})).fit(
            x[split.train], dataset.y[split.train], progress=progress, **_fit_options(config, dataset, split, columns)
        )
    return model.predict_pd(x[split.test])


def _fit_options(
    config: TabularConfig, dataset: Dataset, split: Split, columns: Sequence[ColumnSchema]
) -> dict[str, Any]:
    """What a fit is told beside x and y: directions, weights, and groups that stay together."""
    group_column = config.split.group_column(dataset.table)
    return {
        "directions": [column.direction for column in columns],
        "weight": _sample_weight(config, dataset, split),
        "groups": dataset.frame[group_column].to_numpy()[split.train] if group_column else None,
    }


def _sample_weight(config: TabularConfig, dataset: Dataset, split: Split) -> np.ndarray | None:
    """(training rows,) the table's own weight, and less for what is old where the config has a half-life."""
    weight_columns = dataset.table.columns_with_role("weight")
    weight = dataset.frame[weight_columns[0].name].to_numpy()[split.train] if weight_columns else None
    if config.half_life is None:
        return weight
    column = config.split.split_column(dataset.table) if config.split.how == "time" else None
    if column is None or not dataset.frame[column].dtype.is_numeric():
        raise DataError("half_life needs a split by time whose column is a number, as a year is.")
    time = dataset.frame[column].to_numpy()[split.train]
    age_weight: np.ndarray = 0.5 ** ((time.max() - time) / config.half_life)
    return age_weight if weight is None else age_weight * weight
