"""Split a table nine times (three repeats of stratified three-fold cross-validation), and share fits and reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.schema import ColumnSchema

REPEATS, FOLDS = 3, 3
SPLIT_COUNT = REPEATS * FOLDS
T_95 = 2.306  # Student's t, 8 degrees of freedom, two-sided

Floats = NDArray[np.float64]


def repeated_splits(y: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (train, test) pairs of row indices, with the seeds 0, 1 and 2; y (rows,)."""
    from sklearn.model_selection import StratifiedKFold

    for repeat in range(REPEATS):
        yield from StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(y, y)


def mean_interval(values: Floats) -> tuple[float, float]:
    """(mean, half width of its 95 % interval), the variance corrected for splits that share rows (Nadeau and Bengio
    2003).
    """
    test_train_ratio = 1 / (FOLDS - 1)  # held-out rows per training row
    return float(values.mean()), T_95 * math.sqrt((1 / len(values) + test_train_ratio) * float(values.var(ddof=1)))


def fit_default_lightgbm(
    x: NDArray[np.float32], y: Floats, columns: Sequence[ColumnSchema], train: NDArray[np.intp], test: NDArray[np.intp]
) -> tuple[Floats, int]:
    """(PDs of the test rows, number of trees) of LightGBM with its default settings."""
    from lightgbm import LGBMClassifier

    categories = [position for position, column in enumerate(columns) if column.kind == "category"]
    model = LGBMClassifier(verbosity=-1, n_jobs=1).fit(x[train], y[train], categorical_feature=categories)
    return np.asarray(model.predict_proba(x[test]))[:, 1], model.booster_.num_trees()


def format_goals(auc: float, goals: Sequence[float]) -> str:
    """Whether an AUC reaches each of the goals, and by how much it misses one."""
    return ", ".join(f"{goal:.4f} " + ("reached" if auc >= goal else f"missed by {goal - auc:.4f}") for goal in goals)
