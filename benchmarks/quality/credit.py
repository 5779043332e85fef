"""Measure the PD on the real tables of credit, with nine splits each; `python -m benchmarks.quality` runs it.

Three models share the splits: `all` (every column, like published results) and `served` (without the audit columns),
both monotone and of depth 3 at most; and `default`, LightGBM with default settings, without constraints, on every
column. The published nine splits are OpenML's own and differ from these; `default` next to the published default shows
by how much. Settings are in configs/credit_quality.toml.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.quality.splits import fit_default_lightgbm, format_goals, mean_interval, repeated_splits
from datasets.catalog import load_source
from datasets.schema import ColumnSchema, TableSchema
from datasets.validation import validate_or_raise
from models.feature_encoder import encode, order_levels
from models.metrics import auc, calibration_slope
from models.trees.estimator import BaggedTrees, EstimatorConfig

CONFIG = Path(__file__).parents[2] / "configs" / "credit_quality.toml"
MODELS = ("all", "served", "default")


class Quality(BaseModel):
    """One table: the published results, declarations beyond its schema, and the settings of the fit.

    columns: by name, fields of ColumnSchema that differ from the table's schema, or a complete derived column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    published: float  # the best classical result: TabArena v0.1, tuned ensemble
    beyond: float  # TabICLv2
    published_default: float
    columns: dict[str, dict[str, Any]] = {}
    estimator: EstimatorConfig = EstimatorConfig()


class Task(NamedTuple):
    """One fit: a table, the model, and the index of the split."""

    name: str
    model: str
    split_index: int


class FitResult(NamedTuple):
    """The result of one fit on its held-out rows."""

    auc: float
    slope: float  # of calibration; 1 is perfect
    trees: int
    seconds: float


def load(path: Path = CONFIG) -> dict[str, Quality]:
    """The tables of the config by name."""
    return {
        name: Quality.model_validate(values) for name, values in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }


def build_schema(quality: Quality) -> TableSchema:
    """The schema of the source with the declarations of the config."""
    table: TableSchema = load_source(quality.source).TABLE
    known_names = {column.name for column in table.columns}
    columns = [
        ColumnSchema.model_validate(column.model_dump() | quality.columns.get(column.name, {}))
        for column in table.columns
    ]
    extra_columns = [
        ColumnSchema(name=name, **values) for name, values in quality.columns.items() if name not in known_names
    ]
    return TableSchema(name=table.name, columns=(*columns, *extra_columns), origin=table.origin, missing=table.missing)


def select_inputs(table: TableSchema, model: str) -> tuple[ColumnSchema, ...]:
    """The columns that a model reads, audit columns included except for `served`; derived columns last."""
    roles = ("indicator",) if model == "served" else ("indicator", "audit")
    selected = [column for column in table.columns if column.role in roles and column.kind != "text"]
    if model == "default":
        return tuple(column for column in selected if column.derived is None)
    return (*(c for c in selected if c.derived is None), *(c for c in selected if c.derived is not None))


def fit_and_score(task: Task) -> FitResult:
    """Fit one model on one split and evaluate it on the held-out rows."""
    quality = load()[task.name]
    table = build_schema(quality)
    source = load_source(quality.source)
    stated_columns = [column.name for column in source.TABLE.columns if column.derived is None]
    frame = validate_or_raise(source.read().select(stated_columns), table)
    y = frame[table.target.name].to_numpy().astype(np.float64)
    train, test = list(repeated_splits(y))[task.split_index]
    columns = order_levels(frame[train], select_inputs(table, task.model), table.target.name)
    x = encode(frame, columns)  # (rows, inputs) float32
    start = perf_counter()
    if task.model == "default":
        pd, trees = fit_default_lightgbm(x, y, columns, train, test)
    else:
        directions = [column.direction for column in columns]
        model = BaggedTrees(quality.estimator).fit(x[train], y[train], directions=directions)
        pd = model.predict_pd(x[test])
        trees = model.trees_ * len(model.boosters_)
    seconds = perf_counter() - start
    bad = y[test] == 1
    return FitResult(auc(pd, bad), calibration_slope(pd, bad), trees, seconds)


def report(name: str, quality: Quality, scores: dict[str, list[FitResult]]) -> tuple[list[str], dict[str, Any]]:
    """The results as text, and the same as data; `scores` by model."""
    lines = [f"{name}: published {quality.published:.4f}, further goal {quality.beyond:.4f}"]
    summary: dict[str, Any] = {"published": quality.published, "beyond": quality.beyond, "models": {}}
    default_auc = np.array([result.auc for result in scores["default"]])
    for model in MODELS:
        aucs = np.array([result.auc for result in scores[model]])
        mean, half_width = mean_interval(aucs)
        auc_gain, gain_half_width = mean_interval(aucs - default_auc)
        slope, trees, seconds = (float(np.mean([result[index] for result in scores[model]])) for index in (1, 2, 3))
        if model == "default":
            verdict = f"published default {quality.published_default:.4f}; {mean - quality.published_default:+.4f} here"
        else:
            goals = format_goals(mean, (quality.published, quality.beyond))
            verdict = f"{goals}; {auc_gain:+.4f} ± {gain_half_width:.4f} over default"
        lines.append(
            f"  {model:8} AUC {mean:.4f} ± {half_width:.4f}  calibration slope {slope:.2f}  "
            f"{trees:5.0f} trees {seconds:4.0f} s  {verdict}"
        )
        summary["models"][model] = {
            "auc": mean, "half_width": half_width, "lead": auc_gain, "lead_half_width": gain_half_width, "slope": slope,
            "trees": trees, "seconds": seconds, "splits": aucs.tolist(),
        }  # fmt: skip
    return lines, summary
