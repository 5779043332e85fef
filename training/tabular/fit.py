"""Fit small monotone trees to the columns of a table that a PD may read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.errors import DataError
from datasets.schema import ColumnSchema, TableSchema
from datasets.splits import Split
from models.feature_encoder import date_operands, encode, order_levels
from models.policy.config import Assumption
from models.scorecard.unknown_inputs import assumed_codes, assumed_values
from models.trees import unknown_values
from models.trees.estimator import BaggedTrees
from models.trees.forest import assume_values, merge_boosters
from training.progress import ProgressReporter
from training.tabular.config import TabularConfig
from training.tabular.dataset import Dataset
from training.tabular.tuning import tune

if TYPE_CHECKING:
    from lightgbm import Booster


@dataclass(frozen=True)
class FittedModel:
    """A fitted forest with its head, and the rows as it reads them.

    columns: the inputs in order, the levels of a category in the order of their codes; x: (rows, inputs) float32, all
    rows of the table; log-odds of default = slope * raw + intercept.
    """

    columns: tuple[ColumnSchema, ...]
    x: np.ndarray
    forest: Booster
    slope: float
    intercept: float
    params: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, float | str] = field(default_factory=dict)  # what an unknown input counts as
    decision_only_columns: tuple[ColumnSchema, ...] = ()  # columns that the decision reads and the model does not


def select_inputs(
    config: TabularConfig, table: TableSchema, is_excluded: Callable[[ColumnSchema], bool]
) -> tuple[ColumnSchema, ...]:
    """Select the indicators that the PD reads: no text, none that the config or the product's rules exclude.

    Derived columns come last; each is dropped if one of its operands is. Dates are operands alone.
    """
    selected = [
        column
        for column in table.indicators
        if column.kind != "text" and column.name not in config.leave_out and not is_excluded(column)
    ]
    stated_columns = [column for column in selected if column.derived is None]
    names = {column.name for column in stated_columns}
    names |= {column.name for column in table.columns if column.date_format and column.role != "leak"}
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
    unknown: Mapping[str, Assumption],
) -> FittedModel:
    """Fit on the training rows. `passthrough`: audit columns that the decision reads, besides all other indicators.
    `unknown`: what unknown indicators count as; the trees learn from the rows as they are.

    Raises DataError where the table has too few rows, or indicators without information.
    """
    columns = order_levels(dataset.frame[split.train], columns, dataset.table.target.name)
    x, y = encode(dataset.frame, columns), dataset.y  # (rows, inputs) float32; (rows,)
    estimator = config.estimator.model_copy(update={"seed": config.seed})
    options = fit_options(config, dataset, split, columns)
    if config.tune.trials:
        with reporter.step("tune") as progress:
            estimator = tune(
                estimator,
                x[split.train],
                y[split.train],
                trials=config.tune.trials,
                seed=config.seed,
                progress=progress,
                **options,
            )
    with reporter.step("fit") as progress:
        try:
            model = BaggedTrees(estimator).fit(x[split.train], y[split.train], progress=progress, **options)
        except ValueError as error:  # too few rows, or uninformative indicators: the table's owner can act on it
            raise DataError(f"{dataset.table.name}: {error}") from error
    input_names = {column.name for column in columns}
    decision_only_columns = [column for column in dataset.table.indicators if column.name not in input_names]
    decision_only_columns += [
        column for column in dataset.table.columns_with_role("audit") if column.name in passthrough
    ]
    listed = {column.name for column in decision_only_columns}
    dates = date_operands(columns, dataset.table.columns)
    decision_only_columns += [column for column in dates if column.name not in listed]
    assumed = assumed_values(columns, unknown)
    params = estimator.model_dump() | {"trees_per_booster": model.trees_, "boosters": len(model.boosters_)}
    return FittedModel(
        columns,
        x,
        assume_values(merge_boosters(model.boosters_), assumed_codes(columns, assumed)),
        model.slope_,
        model.intercept_,
        params,
        assumed,
        tuple(decision_only_columns),
    )


def find_rewarded_unknowns(fitted: FittedModel, unknown: Mapping[str, Assumption]) -> list[str]:
    """A sentence for each input that an applicant could leave out to score better, though no person would decide."""
    bounds = {
        position: _encoded_bounds(column)
        for position, column in enumerate(fitted.columns)
        if column.name in unknown and not unknown[column.name].refers
    }
    if fitted.slope <= 0:
        return [f"the calibration has the slope {fitted.slope:g}: a higher raw score would mean less risk"]
    counts = unknown_values.find_rewarded_unknowns(fitted.forest, bounds)
    return [
        f"unknown.{fitted.columns[position].name} counts as {fitted.assumed[fitted.columns[position].name]}, which "
        f"{count} trees score better than another value: name a worse value, or set refers = true"
        for position, count in counts.items()
    ]


def _encoded_bounds(column: ColumnSchema) -> tuple[float, float]:
    return (0.0, len(column.levels) - 1.0) if column.kind == "category" else column.bounds


def predict_variant(
    config: TabularConfig,
    dataset: Dataset,
    split: Split,
    columns: tuple[ColumnSchema, ...],
    reporter: ProgressReporter,
    step: str,
) -> np.ndarray:
    """Fit the same estimator to other columns and return its held-out PDs (rows,); the model itself is discarded."""
    columns = order_levels(dataset.frame[split.train], columns, dataset.table.target.name)
    x = encode(dataset.frame, columns)
    with reporter.step(step) as progress:
        model = BaggedTrees(config.estimator.model_copy(update={"seed": config.seed})).fit(
            x[split.train], dataset.y[split.train], progress=progress, **fit_options(config, dataset, split, columns)
        )
    return model.predict_pd(x[split.test])


def fit_options(
    config: TabularConfig, dataset: Dataset, split: Split, columns: Sequence[ColumnSchema]
) -> dict[str, Any]:
    """The arguments of a fit besides x and y: directions, weights, and groups that stay together.

    Raises DataError where the config has a half-life and the split does not go by a numeric time.
    """
    group_column = config.split.group_column(dataset.table)
    return {
        "directions": [column.direction for column in columns],
        "weight": _sample_weight(config, dataset, split),
        "groups": dataset.frame[group_column].to_numpy()[split.train] if group_column else None,
    }


def _sample_weight(config: TabularConfig, dataset: Dataset, split: Split) -> np.ndarray | None:
    """(training rows,) the table's own weight, multiplied by the decay of the config's half-life where it has one."""
    weight_columns = dataset.table.columns_with_role("weight")
    weight = dataset.frame[weight_columns[0].name].to_numpy()[split.train] if weight_columns else None
    if config.half_life is None:
        return weight
    column = config.split.split_column(dataset.table) if config.split.how == "time" else None
    if column is None or not dataset.frame[column].dtype.is_numeric():
        raise DataError("half_life needs a split by time whose column is a number, such as a year.")
    time = dataset.frame[column].to_numpy()[split.train]
    age_weight: np.ndarray = 0.5 ** ((time.max() - time) / config.half_life)
    return age_weight if weight is None else age_weight * weight
