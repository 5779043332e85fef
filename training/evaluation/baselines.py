"""Fit baseline models for comparison with ours; they are never served.

Each function takes the training rows (n, d), their outcomes and the held-out rows, float32 with NaN for missing values,
and returns the PDs of the held-out rows.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import numpy as np

from training.progress import ProgressCallback, ignore_progress

Matrix = np.ndarray
MONOTONIC_TRENDS = {1: "ascending", -1: "descending", 0: "auto"}
MAX_ROUNDS, PATIENCE, FOLDS = 600, 40, 3


def predict_scorecard(
    x: Matrix,
    y: Matrix,
    holdout: Matrix,
    directions: Sequence[int],
    names: Sequence[str],
    progress: ProgressCallback = ignore_progress,
) -> Matrix:
    """Fit a plain scorecard: optimal binning (Navas-Palencia 2020), weight of evidence, logistic regression.

    The default rate of the bins follows a column's direction where it has one. A column whose optimal binning is a
    single bin carries no information and is left out.
    """
    logging.getLogger("__cvxpy__").addFilter(lambda record: False)  # it logs every solver that is not installed
    from optbinning import OptimalBinning
    from sklearn.linear_model import LogisticRegression

    woe, woe_holdout = [], []
    for i, (name, direction) in enumerate(zip(names, directions, strict=True)):
        if np.unique(x[~np.isnan(x[:, i]), i]).size < 2:
            continue
        binning = OptimalBinning(
            name, monotonic_trend=MONOTONIC_TRENDS[direction], solver="mip", max_n_prebins=20, time_limit=5
        )
        binning.fit(x[:, i].astype(np.float64), y.astype(int))
        if len(binning.splits):
            woe.append(binning.transform(x[:, i].astype(np.float64), metric="woe", metric_missing="empirical"))
            woe_holdout.append(
                binning.transform(holdout[:, i].astype(np.float64), metric="woe", metric_missing="empirical")
            )
        progress(i + 1, len(names))
    if not woe:
        return np.full(len(holdout), y.mean())
    logistic = LogisticRegression(max_iter=1_000).fit(np.column_stack(woe), y)
    return np.asarray(logistic.predict_proba(np.column_stack(woe_holdout))[:, 1])


def predict_unconstrained(
    x: Matrix, y: Matrix, holdout: Matrix, seed: int, threads: int = 1, progress: ProgressCallback = ignore_progress
) -> Matrix:
    """Fit LightGBM without constraints: 31 leaves, no directions, a bag over folds, each stopped early on its own fold.

    By how much it ranks better than our model is the price of small monotone trees, and so of exact reasons.
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
    pd_sum = np.zeros(len(holdout))
    for fold, (train_rows, validation_rows) in enumerate(
        StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y)
    ):
        train_set = lightgbm.Dataset(x[train_rows], y[train_rows])
        early_stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
        validation_set = lightgbm.Dataset(x[validation_rows], y[validation_rows], reference=train_set)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # LightGBM's "no further splits" on small tables
            booster = lightgbm.train(
                params, train_set, MAX_ROUNDS, valid_sets=[validation_set], callbacks=[early_stopping]
            )
        pd_sum += np.asarray(booster.predict(holdout, num_threads=threads))
        progress(fold + 1, FOLDS)
    return pd_sum / FOLDS
