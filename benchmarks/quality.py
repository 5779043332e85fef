"""How well the explainable PD tells bad from good on real tables, beside what is published and what its limits cost.

    YUHENG_DATA=../shared/data python -m benchmarks.quality                      # every table, about 40 minutes
    YUHENG_DATA=../shared/data python -m benchmarks.quality --data german        # one; or polish, sba_scitech, sba_case
    ... --jobs 2 --out var/quality.json                                          # two processes; figures as JSON

ROC AUC over nine splits: three repeats of stratified three-fold cross-validation, seeds 0, 1, 2. Three models stand
side by side on the same splits: `all` (every column, as published figures have it) and `served` (without the audit
columns), both monotone and of depth 3 at most; and `default`, LightGBM as it comes, unconstrained, every column.

The published nine splits are OpenML's own and are not these; `default` beside the published default shows how far
apart the two sets of splits are. An interval is the 95 % t-interval over the nine splits with the variance of Nadeau
and Bengio (2003), as the splits share rows. Settings stand in configs/credit_quality.toml; those of the tables of
companies, each with its own protocol, in configs/company_quality.toml (see `benchmarks.companies`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks import companies
from benchmarks.splits import FOLDS, REPEATS, mean_interval, repeated_splits
from datasets.catalog import load_source
from datasets.schema import ColumnSchema, TableSchema, validate_or_raise
from models.feature_encoder import encode, order_levels
from models.trees.estimator import BaggedTrees, EstimatorConfig, fit_platt

CONFIG = Path(__file__).parents[1] / "configs" / "credit_quality.toml"
MODELS = ("all", "served", "default")
SPLIT_COUNT = REPEATS * FOLDS

T = TypeVar("T")


class Quality(BaseModel):
    """One table: what is published for it, how it is declared beyond its contract, and how it is fitted.

    columns: by name, fields of Column that differ from the contract, or a whole derived column that it does not have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    published: float  # best classical: TabArena v0.1, tuned ensemble
    beyond: float  # TabICLv2
    published_default: float
    columns: dict[str, dict[str, Any]] = {}
    estimator: EstimatorConfig = EstimatorConfig()


class Task(NamedTuple):
    """One fit: the split `turn` of a table, and the model."""

    name: str
    model: str
    split_index: int


class FitResult(NamedTuple):
    auc: float
    slope: float  # of calibration on the held-out rows; 1 is right
    trees: int
    seconds: float


def load(path: Path = CONFIG) -> dict[str, Quality]:
    return {
        name: Quality.model_validate(values) for name, values in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }


def build_schema(quality: Quality) -> TableSchema:
    """The source's contract with the declarations of the config."""
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
    """What the model reads: the audit columns too where published figures do. Derived columns last."""
    roles = ("indicator",) if model == "served" else ("indicator", "audit")
    selected = [column for column in table.columns if column.role in roles and column.kind != "text"]
    if model == "default":
        return tuple(column for column in selected if column.derived is None)
    return (*(c for c in selected if c.derived is None), *(c for c in selected if c.derived is not None))


def fit_and_score(task: Task) -> FitResult:
    """Fit one model on one split, and judge it on the rows held out."""
    from sklearn.metrics import roc_auc_score

    quality = load()[task.name]
    table = build_schema(quality)
    rows = load_source(quality.source)
    frame = validate_or_raise(rows.read().select([c.name for c in rows.TABLE.columns if c.derived is None]), table)
    y = frame[table.target.name].to_numpy().astype(np.float64)
    train, test = list(repeated_splits(y))[task.split_index]
    columns = order_levels(frame[train], select_inputs(table, task.model), table.target.name)
    x = encode(frame, columns)  # (rows, inputs) float32
    start = perf_counter()
    if task.model == "default":
        from lightgbm import LGBMClassifier

        codes = [position for position, column in enumerate(columns) if column.kind == "category"]
        default_model = LGBMClassifier(verbosity=-1, n_jobs=1).fit(x[train], y[train], categorical_feature=codes)
        pd = np.asarray(default_model.predict_proba(x[test]))[:, 1]
        trees = default_model.booster_.num_trees()
    else:
        directions = [column.direction for column in columns]
        model = BaggedTrees(quality.estimator).fit(x[train], y[train], directions=directions)
        pd = model.predict_pd(x[test])
        trees = model.trees_ * len(model.boosters_)
    seconds = perf_counter() - start
    slope, _ = fit_platt(np.log(pd / (1 - pd)), y[test], np.ones(len(test)))
    return FitResult(float(roc_auc_score(y[test], pd)), slope, trees, seconds)


def report(name: str, quality: Quality, scores: dict[str, list[FitResult]]) -> tuple[list[str], dict[str, Any]]:
    """Lines for people, and the same as data."""
    lines = [f"{name}: published {quality.published:.4f}, the goal beyond {quality.beyond:.4f}"]
    summary: dict[str, Any] = {"published": quality.published, "beyond": quality.beyond, "models": {}}
    default_auc = np.array([result.auc for result in scores["default"]])
    for model in MODELS:
        auc = np.array([result.auc for result in scores[model]])
        mean, half_width = mean_interval(auc)
        auc_gain, gain_half_width = mean_interval(auc - default_auc)
        slope, trees, seconds = (float(np.mean([result[index] for result in scores[model]])) for index in (1, 2, 3))
        if model == "default":
            verdict = f"published default {quality.published_default:.4f}; {mean - quality.published_default:+.4f} here"
        else:
            goal_texts = [f"{goal:.4f} {'reached' if mean >= goal else f'missed by {goal - mean:.4f}'}"
                       for goal in (quality.published, quality.beyond)]  # fmt: skip
            verdict = f"{', '.join(goal_texts)}; {auc_gain:+.4f} ± {gain_half_width:.4f} over default"
        lines.append(
            f"  {model:8} AUC {mean:.4f} ± {half_width:.4f}  calibration slope {slope:.2f}  "
            f"{trees:5.0f} trees {seconds:4.0f} s  {verdict}"
        )
        summary["models"][model] = {
            "auc": mean, "half_width": half_width, "lead": auc_gain, "lead_half_width": gain_half_width, "slope": slope,
            "trees": trees, "seconds": seconds, "splits": auc.tolist(),
        }  # fmt: skip
    return lines, summary


def main(argv: list[str]) -> int:
    credit, company = load(), companies.load()
    table_names = [*credit, *company]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=[*table_names, "all"], default="all")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one fit each")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    names = table_names if args.data == "all" else [args.data]
    figures = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for name in names:
            if name in company:
                company_tasks = companies.list_tasks(name, company[name])
                pairs = list(
                    zip(
                        company_tasks,
                        _show_progress(name, pool.map(companies.fit_and_score, company_tasks), len(company_tasks)),
                        strict=True,
                    )
                )
                lines, figures[name] = companies.report(name, company[name], pairs)
            else:
                tasks = [Task(name, model, split_index) for model in MODELS for split_index in range(SPLIT_COUNT)]
                scores: dict[str, list[FitResult]] = {model: [] for model in MODELS}
                for task, result in zip(
                    tasks, _show_progress(name, pool.map(fit_and_score, tasks), len(tasks)), strict=True
                ):
                    scores[task.model].append(result)
                lines, figures[name] = report(name, credit[name], scores)
            print("\r" + "\n".join(lines), flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


def _show_progress(name: str, results: Iterator[T], count: int) -> Iterator[T]:
    """The results as they come, their number shown to who watches."""
    for completed, result in enumerate(results, start=1):
        if sys.stderr.isatty():
            print(f"\r{name}: {completed} of {count} fits", end="", file=sys.stderr, flush=True)
        yield result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
