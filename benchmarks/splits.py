"""Nine splits of a table, three times stratified threefold, and an interval for a mean over them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

REPEATS, FOLDS = 3, 3
T_95 = 2.306  # Student's t, 8 degrees of freedom, two-sided

Floats = NDArray[np.float64]


def repeated_splits(y: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The (train, test) pairs of row positions; seeds 0, 1, 2."""
    from sklearn.model_selection import StratifiedKFold

    for repeat in range(REPEATS):
        yield from StratifiedKFold(FOLDS, shuffle=True, random_state=repeat).split(y, y)


def mean_interval(values: Floats) -> tuple[float, float]:
    """(mean, half width of the 95 % interval), the variance corrected for splits that share rows."""
    test_train_ratio = 1 / (FOLDS - 1)  # rows held out per row of training
    return float(values.mean()), T_95 * math.sqrt((1 / len(values) + test_train_ratio) * float(values.var(ddof=1)))
