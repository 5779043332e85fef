"""Calibrate the raw scores of trees to probabilities of default (Platt scaling)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def fit_platt(raw: Vector, y: Vector, weight: Vector) -> tuple[float, float]:
    """(slope, intercept) of the weighted logistic regression of y on raw, without a penalty.

    Raises ValueError if the slope is not above 0: the scores would then be uninformative or reversed.
    """
    from sklearn.linear_model import LogisticRegression

    # newton-cholesky searches the length of its steps
    regression = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=200)
    regression.fit(raw[:, None], y, sample_weight=weight)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if not slope > 0:
        raise ValueError(
            f"The scores of unseen rows do not tell bad from good (slope {slope:.3g}; it must be above 0). "
            "Check the target and the columns, or give more rows."
        )
    return slope, intercept
