"""Models that stand beside ours for comparison and are never served.

Each takes the training rows (n, d), their outcomes and the held-out rows, float32 with NaN for missing, and returns the
held-out rows' PDs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence

import numpy as np

Matrix = np.ndarray
Progress = Callable[[int, int], None]  # (done, of)
TREND = {1: "ascending", -1: "descending", 0: "auto"}
ROUNDS, PATIENCE, FOLDS = 600, 40, 3


def scorecard(
    x: Matrix,
    y: Matrix,
    held: Matrix,
    directions: Sequence[int],
    names: Sequence[str],
    progress: Progress | None = None,
) -> Matrix:
    """A plain scorecard: optimal binning (Navas-Palencia 2020), weight of evidence, logistic regression.

    The bins' default rate follows the direction where one is given. A column whose optimal binning is a single bin says
    nothing and is left out.
    """
    logging.getLogger("__cvxpy__").addFilter(lambda record: False)  # it announces each solver that it did not find
    from optbinning import OptimalBinning
    from sklearn.linear_model import LogisticRegression

    woe, woe_held = [], []
    for i, (name, direction) in enumerate(zip(names, directions, strict=True)):
        if np.unique(x[~np.isnan(x[:, i]), i]).size < 2:
            continue
        binning = OptimalBinning(name, monotonic_trend=TREND[direction], solver="mip", max_n_prebins=20, time_limit=5)
        binning.fit(x[:, i].astype(np.float64), y.astype(int))
        if len(binning.splits):
            woe.append(binning.transform(x[:, i].astype(np.float64), metric="woe", metric_missing="empirical"))
            woe_held.append(binning.transform(held[:, i].astype(np.float64), metric="woe", metric_missing="empirical"))
        if progress:
            progress(i + 1, len(names))
    if not woe:
        return np.full(len(held), y.mean())
    logistic = LogisticRegression(max_iter=1_000).fit(np.column_stack(woe), y)
    return np.asarray(logistic.predict_proba(np.column_stack(woe_held))[:, 1])


def unconstrained(
    x: Matrix, y: Matrix, held: Matrix, seed: int, threads: int = 1, progress: Progress | None = None
) -> Matrix:
    """LightGBM as it likes: 31 leaves, no directions, a bag over folds, each stopped on its left-out fold.

    What it orders better than ours is the price of small monotone trees, and so of exact reasons.
    """
    import lightgbm
    from sklearn.model_selection import StratifiedKFold

    params = {
        "objective": "binary",
        "learning_rate": 0.04,
        "num_leaves": 31,
        "min_data_in_leaf": 40,
        "feature_fraction": 0.6,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "num_threads": threads,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    total = np.zeros(len(held))
    for turn, (kept, left_out) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y)):
        learn = lightgbm.Dataset(x[kept], y[kept])
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        judge = lightgbm.Dataset(x[left_out], y[left_out], reference=learn)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # LightGBM's "no further splits" on tables of a few rows
            booster = lightgbm.train(params, learn, ROUNDS, valid_sets=[judge], callbacks=[stop])
        total += np.asarray(booster.predict(held, num_threads=threads))
        if progress:
            progress(turn + 1, FOLDS)
    return total / FOLDS
