"""Measure the PD on the real tables of companies, each by its own protocol; `python -m benchmarks.quality` runs it.

polish: nine splits, as for credit. sba_scitech: trained on the loans of some years, evaluated on those of the next two.
sba_case: trained on one half of the loans, evaluated on the other, also by the error rate at a cutoff, which minimises
the error of the out-of-fold PDs of the training half.

Every reading in the config is a separate model, monotone and of depth 3 at most. `default` is LightGBM with default
settings, and `article` the logistic regression on the three features that the article of the case selects; both use a
cutoff of one half. The interval over one test set is a bootstrap of its loans by whole banks, because loans of one bank
are correlated. Settings are in configs/company_quality.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from benchmarks.quality import splits
from benchmarks.quality.splits import fit_default_lightgbm, format_goals
from datasets.catalog import load_source
from datasets.schema import ColumnSchema, TableSchema
from datasets.scitech_risk.sba_case import ARTICLE_FEATURES
from datasets.validation import validate_or_raise
from models.feature_encoder import encode, order_levels
from models.metrics import calibration_slope
from models.trees.estimator import BaggedTrees, EstimatorConfig, sigmoid
from training.evaluation.metrics import BootstrapSamples, compute_intervals

CONFIG = Path(__file__).parents[2] / "configs" / "company_quality.toml"
CUT_OFFS = np.linspace(0.2, 0.8, 121)
RowIndices = NDArray[np.intp]
Floats = NDArray[np.float64]


class FeatureSet(BaseModel):
    """Which columns a model reads besides the indicators, and which indicators it leaves out; see the config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    leave_out: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    names: dict[str, int] = {}
    days: dict[str, tuple[str, str]] = {}


class Study(BaseModel):
    """One table: its protocol, the published results, and the settings of the fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    split: Literal["folds", "years", "selected"]
    train: tuple[int, int] = (0, 0)  # fiscal years, inclusive
    test: tuple[int, int] = (0, 0)
    published: float
    beyond: float | None = None
    published_error: float | None = None
    half_life: float | None = None  # years
    columns: dict[str, dict[str, Any]] = {}
    estimator: EstimatorConfig
    readings: dict[str, FeatureSet]

    @property
    def models(self) -> tuple[str, ...]:
        return (*self.readings, "default", *(("article",) if self.split == "selected" else ()))

    @property
    def split_count(self) -> int:
        return splits.SPLIT_COUNT if self.split == "folds" else 1


class Task(NamedTuple):
    """One fit: a table, the model, and the index of the split."""

    name: str
    model: str
    split_index: int


class FitResult(NamedTuple):
    """The result of one fit on its held-out rows."""

    auc: float
    low: float  # of the bootstrap interval
    high: float
    slope: float  # of calibration; 1 is perfect
    mean_pd: float
    default_rate: float
    error: float
    cut: float
    trees: int
    seconds: float


def load(path: Path = CONFIG) -> dict[str, Study]:
    """The studies of the config by name."""
    return {
        name: Study.model_validate(values) for name, values in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }


def load_table(study: Study) -> tuple[TableSchema, pl.DataFrame]:
    """The table's schema with the config's columns, and its validated rows."""
    source_module = load_source(study.source)
    table: TableSchema = source_module.TABLE
    extra_columns = tuple(ColumnSchema(name=name, **values) for name, values in study.columns.items())
    table = TableSchema(
        name=table.name, columns=(*table.columns, *extra_columns), origin=table.origin, missing=table.missing
    )
    stated_columns = [column.name for column in source_module.TABLE.columns if column.derived is None]
    return table, validate_or_raise(source_module.read().select(stated_columns), table)


def split_rows(study: Study, frame: pl.DataFrame, y: Floats, split_index: int) -> tuple[RowIndices, RowIndices]:
    """Indices of the training and of the held-out rows."""
    if study.split == "folds":
        return list(splits.repeated_splits(y))[split_index]
    if study.split == "years":
        year = frame["ApprovalFY"]
        train, test = (year.is_between(*years).to_numpy() for years in (study.train, study.test))
        return np.flatnonzero(train), np.flatnonzero(test)
    is_selected = frame["Selected"].to_numpy() == 1
    return np.flatnonzero(is_selected), np.flatnonzero(~is_selected)


def select_inputs(
    study: Study, table: TableSchema, frame: pl.DataFrame, feature_set: FeatureSet, train: RowIndices
) -> tuple[pl.DataFrame, tuple[ColumnSchema, ...]]:
    """The columns of a reading, and the frame with those that it derives. Raises KeyError for an unknown column."""
    missing_columns = [name for name in (*feature_set.leave_out, *feature_set.also) if name not in frame.columns]
    if missing_columns:
        raise KeyError(f"{table.name} has no column {', '.join(missing_columns)}")
    columns = [
        column
        for column in table.columns
        if (column.role == "indicator" or column.name in feature_set.also)
        and column.kind != "text"
        and column.name not in feature_set.leave_out
    ]
    for name, min_count in feature_set.names.items():
        frequent_levels = frame[train].group_by(name).len().filter(pl.col("len") >= min_count)[name].drop_nulls()
        columns.append(ColumnSchema(name=name, kind="category", levels=tuple(sorted(frequent_levels))))
    for name, dates in feature_set.days.items():
        first, second = (pl.col(date).str.to_date() for date in dates)
        frame = frame.with_columns((second - first).dt.total_days().cast(pl.Float64).alias(name))
        columns.append(ColumnSchema(name=name, unit="days"))
    return frame, tuple(columns)


def fit_and_score(task: Task) -> FitResult:
    """Fit one model on one split and evaluate it on the held-out rows."""
    study = load()[task.name]
    table, frame = load_table(study)
    target = table.target.name
    y = frame[target].to_numpy().astype(np.float64)
    train, test = split_rows(study, frame, y, task.split_index)
    if task.model == "article":
        columns: tuple[ColumnSchema, ...] = tuple(table[name] for name in ARTICLE_FEATURES)
    elif task.model == "default":
        frame, columns = select_inputs(study, table, frame, FeatureSet(leave_out=tuple(study.columns)), train)
    else:
        frame, columns = select_inputs(study, table, frame, study.readings[task.model], train)
    columns = order_levels(frame[train], columns, target)
    x = encode(frame, columns)  # (rows, inputs) float32
    start = perf_counter()
    cut, trees = 0.5, 0
    if task.model == "article":
        from sklearn.linear_model import LogisticRegression

        pd = LogisticRegression(C=1e6, max_iter=1_000).fit(x[train], y[train]).predict_proba(x[test])[:, 1]
    elif task.model == "default":
        pd, trees = fit_default_lightgbm(x, y, columns, train, test)
    else:
        weight = None
        if study.half_life:
            age = study.train[1] - frame["ApprovalFY"].to_numpy()[train]
            weight = 0.5 ** (age / study.half_life)
        directions = [column.direction for column in columns]
        model = BaggedTrees(study.estimator).fit(x[train], y[train], weight=weight, directions=directions)
        pd, trees = model.predict_pd(x[test]), model.trees_ * len(model.boosters_)
        out_of_fold_pd = sigmoid(model.slope_ * model.raw_out_of_fold_ + model.intercept_)
        cut = float(CUT_OFFS[np.argmin([np.mean((out_of_fold_pd > cut_off) != y[train]) for cut_off in CUT_OFFS])])
    seconds = perf_counter() - start
    groups = frame["Bank"].fill_null("").to_numpy()[test] if "Bank" in frame.columns else None
    metrics = compute_intervals(y[test], pd, BootstrapSamples(len(test), groups=groups))
    return FitResult(
        metrics["auc"].value, metrics["auc"].low, metrics["auc"].high, calibration_slope(pd, y[test] == 1),
        float(pd.mean()), float(y[test].mean()), float(np.mean((pd > cut) != y[test])), cut, trees, seconds,
    )  # fmt: skip


def list_tasks(name: str, study: Study) -> list[Task]:
    """Every fit of a study."""
    return [Task(name, model, split_index) for model in study.models for split_index in range(study.split_count)]


def report(name: str, study: Study, scores: Iterable[tuple[Task, FitResult]]) -> tuple[list[str], dict[str, Any]]:
    """The results as text, and the same as data."""
    goals = [study.published, *([study.beyond] if study.beyond else [])]
    lines = [f"{name}: goals: AUC {' and '.join(f'{goal:.4f}' for goal in goals)}"]
    if study.published_error:
        lines[0] += f", error {study.published_error:.1%}"
    summary: dict[str, Any] = {"published": study.published, "beyond": study.beyond, "models": {}}
    results = list(scores)
    for model in study.models:
        model_results = [result for task, result in results if task.model == model]
        auc = np.array([result.auc for result in model_results])
        figures = dict(zip(FitResult._fields, np.mean(model_results, axis=0).tolist(), strict=True))
        if study.split_count > 1:
            _, half_width = splits.mean_interval(auc)
            figures |= {"low": figures["auc"] - half_width, "high": figures["auc"] + half_width}
        verdict = format_goals(figures["auc"], goals)
        line = (
            f"  {model:16} AUC {figures['auc']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]  "
            f"slope {figures['slope']:.2f}  mean PD {figures['mean_pd']:.1%}, default rate "
            f"{figures['default_rate']:.1%}  "
        )
        if study.published_error:
            line += f"error {figures['error']:.1%} at {figures['cut']:.2f}  "
        lines.append(f"{line}{figures['trees']:5.0f} trees {figures['seconds']:4.0f} s  {verdict}")
        summary["models"][model] = figures | {
            "splits": auc.tolist(),
            "slopes": [result.slope for result in model_results],
        }
    return lines, summary
