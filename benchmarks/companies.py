"""The explainable PD on the real tables of companies, each by its own protocol; `benchmarks.quality` runs it.

polish: nine splits, as for credit. sba_scitech: learned from the loans of some years, judged on those of the two years
after. sba_case: learned from one half of the loans, judged on the other, by the error at a cut-off too. That cut-off is
the one with the least error on out-of-fold PDs of the training half.

Every reading of the config is a model of its own: monotone, of depth 3 at most. `default` is LightGBM as it comes, and
`article` the logistic regression of the three features that the article of the case ends with; both cut at one half.
An interval over one test set is a bootstrap of its loans, whole banks at a time, as loans of one bank share their fate.
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

from benchmarks import splits
from datasets.catalog import load_source
from datasets.schema import ColumnSchema, TableSchema, validate_or_raise
from datasets.scitech_risk.sba_case import ARTICLE_FEATURES
from models.feature_encoder import encode, order_levels
from models.trees.estimator import BaggedTrees, EstimatorConfig, sigmoid
from training.evaluation.metrics import BootstrapSamples, compute_intervals

CONFIG = Path(__file__).parents[1] / "configs" / "company_quality.toml"
CUT_OFFS = np.linspace(0.2, 0.8, 121)
RowIndices = NDArray[np.intp]
Floats = NDArray[np.float64]


class FeatureSet(BaseModel):
    """Which columns a model sees beside the indicators, and which of these it does without; the config says more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    leave_out: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    names: dict[str, int] = {}
    days: dict[str, tuple[str, str]] = {}


class Study(BaseModel):
    """One table: its protocol, the figures it is held to, and how it is fitted."""

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
        return splits.REPEATS * splits.FOLDS if self.split == "folds" else 1


class Task(NamedTuple):
    """One fit: the split `turn` of a table, and the model."""

    name: str
    model: str
    split_index: int


class FitResult(NamedTuple):
    auc: float
    low: float  # of the bootstrap interval
    high: float
    slope: float  # of calibration on the held-out rows; 1 is right
    mean_pd: float  # mean PD
    default_rate: float  # share that went bad
    error: float
    cut: float
    trees: int
    seconds: float


def load(path: Path = CONFIG) -> dict[str, Study]:
    return {
        name: Study.model_validate(values) for name, values in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }


def load_table(study: Study) -> tuple[TableSchema, pl.DataFrame]:
    """The contract with the config's columns, and every row typed by it."""
    source_module = load_source(study.source)
    table: TableSchema = source_module.TABLE
    extra_columns = tuple(ColumnSchema(name=name, **values) for name, values in study.columns.items())
    table = TableSchema(
        name=table.name, columns=(*table.columns, *extra_columns), origin=table.origin, missing=table.missing
    )
    stated_columns = [column.name for column in source_module.TABLE.columns if column.derived is None]
    return table, validate_or_raise(source_module.read().select(stated_columns), table)


def split_rows(study: Study, frame: pl.DataFrame, y: Floats, split_index: int) -> tuple[RowIndices, RowIndices]:
    """Positions of the rows that teach, and of those that judge."""
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
    """The columns that a reading sees, and the frame with those that it makes."""
    missing_columns = [name for name in (*feature_set.leave_out, *feature_set.also) if name not in frame.columns]
    if missing_columns:
        raise KeyError(f"{', '.join(missing_columns)}: {table.name} has no such column")
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
    """Fit one model on one split, and judge it on the rows held out."""
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
        from lightgbm import LGBMClassifier

        codes = [position for position, column in enumerate(columns) if column.kind == "category"]
        default_model = LGBMClassifier(verbosity=-1, n_jobs=1).fit(x[train], y[train], categorical_feature=codes)
        pd, trees = np.asarray(default_model.predict_proba(x[test]))[:, 1], default_model.booster_.num_trees()
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
        metrics["auc"].value, metrics["auc"].low, metrics["auc"].high, calibration_slope(pd, y[test]),
        float(pd.mean()), float(y[test].mean()), float(np.mean((pd > cut) != y[test])), cut, trees, seconds,
    )  # fmt: skip


def calibration_slope(pd: Floats, y: Floats) -> float:
    """Of the logistic regression of the outcome on the PD's log-odds. Newton's method, which the recipes use, does not
    settle on PDs as far apart as those of plain boosting on a small table."""
    from sklearn.linear_model import LogisticRegression

    log_odds = np.log(pd / (1 - pd))[:, None]
    return float(LogisticRegression(C=1e6, max_iter=1_000).fit(log_odds, y).coef_[0, 0])


def list_tasks(name: str, study: Study) -> list[Task]:
    return [Task(name, model, split_index) for model in study.models for split_index in range(study.split_count)]


def report(name: str, study: Study, scores: Iterable[tuple[Task, FitResult]]) -> tuple[list[str], dict[str, Any]]:
    """Lines for people, and the same as data."""
    goals = [study.published, *([study.beyond] if study.beyond else [])]
    lines = [f"{name}: held to AUC {' and '.join(f'{goal:.4f}' for goal in goals)}"]
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
        verdict = ", ".join(
            f"{goal:.4f} " + ("reached" if figures["auc"] >= goal else f"missed by {goal - figures['auc']:.4f}")
            for goal in goals
        )
        line = (
            f"  {model:16} AUC {figures['auc']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]  "
            f"slope {figures['slope']:.2f}  foretold {figures['mean_pd']:.1%}, came {figures['default_rate']:.1%}  "
        )
        if study.published_error:
            line += f"error {figures['error']:.1%} at {figures['cut']:.2f}  "
        lines.append(f"{line}{figures['trees']:5.0f} trees {figures['seconds']:4.0f} s  {verdict}")
        summary["models"][model] = figures | {
            "splits": auc.tolist(),
            "slopes": [result.slope for result in model_results],
        }
    return lines, summary
