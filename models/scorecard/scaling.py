"""Convert log-odds of default to scorecard points and back."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class ScoreScale:
    """`points_at_odds` points at good:bad odds of `odds`:1, and `double` more points whenever those odds double.

    points = offset - factor * log_odds, where log_odds = ln(pd / (1 - pd)) of default, so more points mean less risk
    (Siddiqi, Credit Risk Scorecards, 2006, ch. 6, with good:bad odds = exp(-log_odds)).
    """

    points_at_odds: float = 600.0
    odds: float = 50.0  # good customers per bad one
    double: float = 20.0  # points to double the odds

    def __post_init__(self) -> None:
        for name in ("points_at_odds", "odds", "double"):
            value = getattr(self, name)
            if not math.isfinite(value) or (value <= 0 and name != "points_at_odds"):
                expected = "a finite number" if name == "points_at_odds" else "a finite number above 0"
                raise ValueError(
                    f"Scale {name} is {value}; it must be {expected}. Correct the scale in the configuration."
                )

    @property
    def factor(self) -> float:
        """Points by which one unit of log-odds moves the score."""
        return self.double / math.log(2.0)

    @property
    def offset(self) -> float:
        """Points at even odds, where pd is one half."""
        return self.points_at_odds - self.factor * math.log(self.odds)

    def points(self, log_odds: ArrayLike) -> Any:
        """Log-odds of default (any shape) -> points, float64; models/trees/onnx_graph.py computes the same bits."""
        return self.offset - self.factor * np.asarray(log_odds, np.float64)

    def log_odds(self, points: ArrayLike) -> Any:
        """Points (any shape) -> log-odds of default."""
        return (self.offset - np.asarray(points, np.float64)) / self.factor

    def pd(self, points: ArrayLike) -> Any:
        """Points (any shape) -> probability of default in (0, 1)."""
        return sigmoid(self.log_odds(points))


def sigmoid(log_odds: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + exp(-z)) in double, without overflow for large |z|."""
    z = np.asarray(log_odds, np.float64)
    decay = np.exp(-np.abs(z))  # in (0, 1]
    return np.where(z >= 0, 1.0, decay) / (1.0 + decay)
