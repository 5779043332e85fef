"""How well Herlev's cells are told apart: four group-disjoint folds, each held out in turn, beside what is published.

    YUHENG_DATA=../shared/data python -m benchmarks.herlev        # an hour or more on one core; resumes
    ... --learn 2 --views nucleus                                 # two seeds of one view: 10 + 4 networks
    ... --learn 0                                                 # of what is on the disk, learn nothing more

The masks are given at the test, as in the published protocol: crops and measures use them. Every choice that depends on
data (weights of the parts) is made on inner folds; settings of a part are the same in all folds and were fixed
beforehand. The specificity is read off the curve at the first threshold that finds 95 % of the abnormal cells held out.
Intervals: 95 %, over 1,000 resamples of whole groups of cells. MobileNetV2 needs a package that no lock file holds
(models/pathology/neural/network.py names it).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.herlev import networks, parts, stack, unknown
from benchmarks.herlev.parts import Floats
from benchmarks.herlev.stack import StackedPredictions
from datasets.pathology import herlev
from training.evaluation.metrics import BootstrapSamples, Interval, ScoreCounter, ScoreCounts, auc, bootstrap_interval

GOALS = {"accuracy": 0.96, "auc": 0.985, "specificity": 0.92, "seven": 0.68}
PUBLISHED = {"accuracy": 0.945, "seven": 0.645}  # five-fold, other splits (arXiv 1810.06058 and those it cites)
HEADINGS = {
    "accuracy": "2-class accuracy",
    "auc": "AUC",
    "specificity": "spec. at sens. .95",
    "seven": "7-class accuracy",
}
TARGET_SENSITIVITY = 0.95  # share of the abnormal cells


def compute_metrics(predictions: StackedPredictions, cells: herlev.Cells) -> dict[str, Interval]:
    """ASKED's figures over all cells, each asked of the model that had not learned from it."""
    samples = BootstrapSamples(len(cells), 1_000, 0, cells.groups)
    correct2 = ((predictions.abnormal_probability >= 0.5) == cells.label2).astype(np.float64)
    correct7 = (predictions.class_probabilities.argmax(1) == cells.label7).astype(np.float64)
    counter = ScoreCounter(predictions.abnormal_probability, cells.label2)
    return {
        "accuracy": bootstrap_interval(lambda weights: weights @ correct2 / weights.sum(1), samples),
        "auc": bootstrap_interval(lambda weights: auc(counter(weights)), samples),
        "specificity": bootstrap_interval(lambda weights: specificity(counter(weights)), samples),
        "seven": bootstrap_interval(lambda weights: weights @ correct7 / weights.sum(1), samples),
    }


def specificity(counts: ScoreCounts) -> Floats:
    """(resamples,) share of normal cells below the highest score at which FOUND of the abnormal ones are found."""
    above = np.cumsum(counts.bad[:, ::-1], axis=1)[:, ::-1]  # abnormal cells at or above each value
    reaches_target = above >= TARGET_SENSITIVITY * above[:, :1] - 1e-9
    last_index = reaches_target.shape[1] - 1 - np.argmax(reaches_target[:, ::-1], axis=1)
    below = np.cumsum(counts.good, axis=1) - counts.good
    share: Floats = below[np.arange(len(last_index)), last_index] / counts.good.sum(1)
    return share


def iterate_models(cells: herlev.Cells) -> Iterator[tuple[str, StackedPredictions]]:
    """Each by name, as it is ready: parts alone, then together."""
    yield "frozen features, logistic (Lite0, cell)", stack.predict_single(parts.baseline_model(cells), cells)
    base_models: dict[str, parts.ModelFn] = {"frozen, two views": parts.frozen_features(cells, "efficientnet_lite0")}
    base_models |= {
        f"measures, {method}": parts.morphometry_model(cells, method) for method in ("logistic", "vectors", "trees")
    }
    for name, base_model in base_models.items():
        yield name, stack.predict_single(base_model, cells)
    yield "frozen and measures together", stack.predict_stacked(base_models, cells)
    tuned_models: dict[str, parts.ModelFn] = {}
    for name, view in networks.VIEWS.items():
        seeds, inner_seeds = (len(networks.available_seeds(view, fold_count)) for fold_count in (3, 2))
        for seed_limit in sorted({min(seeds, 1), seeds} - {0}):
            yield (
                f"network, {name}, mean of {seed_limit}",
                stack.predict_single(parts.network_model(cells, name, seed_limit), cells),
            )
        if seeds and inner_seeds:
            tuned_models[name] = parts.network_model(cells, name, seeds)
    if tuned_models:
        stacked = stack.predict_stacked(tuned_models | base_models, cells)
        yield "networks and measures together", stacked
        weights = zip((*tuned_models, *base_models), stacked.weights.mean(0), strict=True)
        print("  weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in weights))


def format_line(name: str, metrics: dict[str, Interval]) -> str:
    cells = (f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]" for metric in metrics.values())
    return f"{name:42} " + "  ".join(f"{cell:22}" for cell in cells)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.herlev", description=__doc__.splitlines()[0])
    parser.add_argument("--learn", type=int, default=1, help="seeds of each view to learn where the disk lacks them")
    parser.add_argument("--views", nargs="+", choices=list(networks.VIEWS), default=["nucleus", "cell"])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    cells = herlev.read()
    for seed in range(args.learn):
        networks.main(["--views", *args.views, "--seeds", str(seed), *(["--no-inner"] if seed else [])])
    print(f"{'':42} " + "  ".join(f"{head:22}" for head in HEADINGS.values()))
    metrics_by_model = {}
    for name, predictions in iterate_models(cells):
        metrics_by_model[name] = compute_metrics(predictions, cells)
        print(format_line(name, metrics_by_model[name]), flush=True)
    last_metrics = metrics_by_model[name]
    print(f"{'asked for':42} " + "  ".join(f"{value:<22}" for value in GOALS.values()))
    print(f"{'published':42} " + "  ".join(f"{PUBLISHED.get(key, ''):<22}" for key in GOALS))
    for key, value in GOALS.items():
        if last_metrics[key].value < value:
            print(f"Short: {HEADINGS[key]} of '{name}' is {last_metrics[key].value:.3f}; {value} is asked for.")
    for report_line in unknown.report(cells):
        print(report_line, flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({name: {key: metric.to_json() for key, metric in metrics.items()}
                                         for name, metrics in metrics_by_model.items()}, indent=1), encoding="utf-8")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
