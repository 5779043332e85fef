"""Train a bag of small monotone boosters that is explained exactly and calibrated on out-of-fold rows.

model = BaggedTrees(EstimatorConfig()).fit(x, y, directions=[-1, 0, 1])      # x (n, d) float32, y (n,) 0 or 1
pd = model.predict_pd(x)                                                     # (n,) probability of default
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets.errors import did_you_mean
from models.trees.calibration import fit_platt

if TYPE_CHECKING:
    from lightgbm import Booster

Matrix = NDArray[np.float32]
Vector = NDArray[np.float64]
ProgressCallback = Callable[[int, int], None]  # (trees grown, trees to grow)


class EstimatorConfig(BaseModel):
    """Number and size of the trees, and sampling of the data. Shapley values are compiled exactly up to depth 3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folds: int = Field(default=5, ge=1)  # each booster leaves one fold out; 1: none, and fit needs `valid`
    repeats: int = Field(default=1, ge=1)  # times the rows are dealt anew: folds * repeats boosters
    trees: int = Field(default=200, ge=1)  # per booster, at most
    choose_trees: bool = True  # cut all boosters where the log loss on left-out rows is least
    depth: int = Field(default=3, ge=1, le=3)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    feature_fraction: float = Field(default=0.4, gt=0, le=1)
    feature_fraction_bynode: float = Field(default=1.0, gt=0, le=1)
    bagging_fraction: float = Field(default=0.7, gt=0, le=1)
    min_data_in_leaf: int = Field(default=40, ge=1)  # rows
    l2: float = Field(default=5.0, ge=0)
    smoothing: float = Field(default=0.0, ge=0)  # rows of its parent that count in a leaf
    random_thresholds: bool = False  # one random threshold per column and split (Geurts 2006)
    bins: int = Field(default=255, ge=2)
    monotone: Literal["basic", "intermediate"] = (
        "intermediate"  # LightGBM's "advanced" lets some trees fall where they must rise
    )
    missing_value_dropout: float = Field(
        default=0.005, ge=0, lt=0.5
    )  # share of values hidden, so that every column learns gaps
    seed: int = 0
    threads: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_keys(cls, values: Any) -> Any:
        known = list(cls.model_fields)
        for key in values if isinstance(values, dict) else ():
            if key not in known:
                raise ValueError(f"{key!r} is not a setting of the estimator{did_you_mean(str(key), known)}")
        return values

    @property
    def boosters(self) -> int:
        return self.folds * self.repeats

    def lightgbm_params(self, directions: Sequence[int], seed: int) -> dict[str, Any]:
        """These settings by LightGBM's names."""
        constraints = {
            "monotone_constraints": list(directions),
            "monotone_constraints_method": self.monotone,
        }
        return {
            "objective": "binary",
            "metric": "binary_logloss",
            "max_depth": self.depth,
            "num_leaves": 2**self.depth,
            "learning_rate": self.learning_rate,
            "feature_fraction": self.feature_fraction,
            "feature_fraction_bynode": self.feature_fraction_bynode,
            "bagging_fraction": self.bagging_fraction,
            "bagging_freq": 1 if self.bagging_fraction < 1 else 0,
            "min_data_in_leaf": self.min_data_in_leaf,
            "lambda_l2": self.l2,
            "path_smooth": self.smoothing,
            "extra_trees": self.random_thresholds,
            "max_bin": self.bins,
            "seed": seed,
            "num_threads": self.threads,
            "deterministic": True,  # the same trees on any number of threads
            "force_col_wise": True,
            "feature_pre_filter": False,
            "verbosity": -1,
        } | (constraints if any(directions) else {})


class BaggedTrees:
    """Mean of the raw scores of `folds * repeats` boosters, and the line that turns it into log-odds of default.

    Each booster leaves out one stratified fold, so each row is scored by `repeats` boosters that never saw it. These
    out-of-fold scores are used twice: to choose one number of trees for all boosters, and to fit Platt's line (1999, a
    logistic regression of y on the score). Three numbers learned from all rows add negligible optimism; no booster
    stops early on its own fold. If `valid` is given, for example a later period, those rows are used instead, and with
    folds = 1 every booster sees all of (x, y).

    After fit: `boosters_`, `trees_` (per booster), `slope_`, `intercept_`, `raw_out_of_fold_` (n,), NaN where none,
    `curve_` (trees,) log loss on the left-out rows after each tree.
    """

    boosters_: list[Booster]
    trees_: int
    slope_: float
    intercept_: float
    raw_out_of_fold_: Vector
    curve_: Vector

    def __init__(self, config: EstimatorConfig | None = None):
        self.config = config or EstimatorConfig()

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        directions: Sequence[int] | None = None,
        groups: ArrayLike | None = None,
        valid: tuple[ArrayLike, ArrayLike] | None = None,
        progress: ProgressCallback | None = None,
    ) -> BaggedTrees:
        """Learn from x (n, d) and y (n,).

        directions: for each column 1 (more is riskier), -1 (more is safer) or 0.
        groups: (n,); rows of one group are left out together.
        """
        x, y, weight = _validate_data(x, y, weight)
        directions = _validate_directions(directions, x.shape[1])
        validation = None if valid is None else _validate_data(*valid, None)
        if validation is None and self.config.folds < 2:
            raise ValueError("folds is 1: no row is left out to calibrate on. Set folds to 2 or more, or give `valid`.")

        left_out_rows = _assign_folds(y, groups, self.config)  # boosters x positions left out
        masked_x = _mask_values(x, self.config)  # the same values, some hidden
        curves, weights = [], []
        self.boosters_ = []
        for index, left_out in enumerate(left_out_rows):
            training_rows = np.setdiff1d(np.arange(len(y)), left_out)
            test_data = (x[left_out], y[left_out], weight[left_out]) if validation is None else validation
            callback = _progress_callback(progress, index * self.config.trees, len(left_out_rows) * self.config.trees)
            booster, curve = self._train_booster(
                (masked_x[training_rows], y[training_rows], weight[training_rows]),
                test_data,
                directions,
                index,
                callback,
            )
            self.boosters_.append(booster)
            curves.append(curve)
            weights.append(test_data[2].sum())
        self.curve_ = np.average(np.array(curves), axis=0, weights=weights)
        self.trees_ = int(np.argmin(self.curve_)) + 1 if self.config.choose_trees else self.config.trees
        self.boosters_ = [_truncate(booster, self.trees_) for booster in self.boosters_]

        self.raw_out_of_fold_ = self._predict_out_of_fold(x, left_out_rows)
        if validation is None:
            self.slope_, self.intercept_ = fit_platt(self.raw_out_of_fold_, y, weight)
        else:
            self.slope_, self.intercept_ = fit_platt(self.decision_raw(validation[0]), validation[1], validation[2])
        return self

    def decision_raw(self, x: ArrayLike) -> Vector:
        """(n,) mean raw score of the boosters; higher is riskier."""
        x = np.asarray(x, np.float32)
        total = np.zeros(len(x))
        for booster in self.boosters_:
            total += np.asarray(booster.predict(x, raw_score=True, num_threads=self.config.threads))
        return total / len(self.boosters_)

    def predict_pd(self, x: ArrayLike) -> Vector:
        """(n,) probability of default."""
        return sigmoid(self.slope_ * self.decision_raw(x) + self.intercept_)

    def _train_booster(
        self,
        train_data: tuple[Matrix, Vector, Vector],
        test_data: tuple[Matrix, Vector, Vector],
        directions: Sequence[int],
        index: int,
        callback: Callable[[Any], None],
    ) -> tuple[Booster, list[float]]:
        """One booster, and its log loss on `test_data` after each tree."""
        import lightgbm

        params = self.config.lightgbm_params(directions, seed=self.config.seed + 1_000 * index)
        train_set = lightgbm.Dataset(train_data[0], train_data[1], weight=train_data[2], params=params)
        test_set = lightgbm.Dataset(test_data[0], test_data[1], weight=test_data[2], reference=train_set, params=params)
        evaluation: dict[str, Any] = {}
        booster = lightgbm.train(
            params,
            train_set,
            self.config.trees,
            valid_sets=[test_set],
            valid_names=["left_out"],
            callbacks=[lightgbm.record_evaluation(evaluation), callback],
        )
        curve: list[float] = evaluation["left_out"]["binary_logloss"]
        return booster, curve + curve[-1:] * (self.config.trees - len(curve))

    def _predict_out_of_fold(self, x: Matrix, left_out_rows: list[NDArray[np.intp]]) -> Vector:
        total, count = np.zeros(len(x)), np.zeros(len(x))
        for booster, left_out in zip(self.boosters_, left_out_rows, strict=True):
            if len(left_out):
                total[left_out] += np.asarray(booster.predict(x[left_out], raw_score=True))
                count[left_out] += 1
        mean: Vector = np.divide(total, count, out=np.full(len(x), np.nan), where=count > 0)
        return mean


def sigmoid(log_odds: Vector) -> Vector:
    """1 / (1 + exp(-log_odds)), without overflow."""
    probability: Vector = np.exp(-np.logaddexp(0.0, -log_odds))
    return probability


def _validate_data(x: ArrayLike, y: ArrayLike, weight: ArrayLike | None) -> tuple[Matrix, Vector, Vector]:
    x = np.ascontiguousarray(x, np.float32)
    y = np.asarray(y, np.float64)
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    if x.ndim != 2 or y.shape != (len(x),) or weight.shape != y.shape:
        raise ValueError(f"x is {x.shape}, y {y.shape}, weight {weight.shape}; they must be (n, d), (n,) and (n,).")
    if set(np.unique(y)) != {0.0, 1.0}:
        raise ValueError(f"The target holds {np.unique(y)[:5].tolist()}; it must hold 0 (good) and 1 (bad), both.")
    if not (weight >= 0).all() or not weight.sum() > 0:
        raise ValueError("A weight is negative or missing, or all are 0; weights must be 0 or more, and some above 0.")
    return x, y, weight


def _validate_directions(directions: Sequence[int] | None, columns: int) -> list[int]:
    directions = [0] * columns if directions is None else [int(direction) for direction in directions]
    if len(directions) != columns or not set(directions) <= {-1, 0, 1}:
        raise ValueError(f"directions is {directions}; it must have one of -1, 0, 1 for each of the {columns} columns.")
    return directions


def _assign_folds(y: Vector, groups: ArrayLike | None, config: EstimatorConfig) -> list[NDArray[np.intp]]:
    """Positions that each booster leaves out, stratified by y; groups stay together."""
    if config.folds == 1:
        return [np.empty(0, np.intp)] * config.repeats
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    rarer_count = int(min((y == 0).sum(), (y == 1).sum()))
    if rarer_count < config.folds:
        raise ValueError(f"Only {rarer_count} rows are of the rarer class; {config.folds} folds need at least as many.")
    left_out_rows: list[NDArray[np.intp]] = []
    for repeat in range(config.repeats):
        if groups is None:
            splits = StratifiedKFold(config.folds, shuffle=True, random_state=config.seed + repeat).split(y, y)
        else:
            splitter = StratifiedGroupKFold(config.folds, shuffle=True, random_state=config.seed + repeat)
            splits = splitter.split(y, y, np.asarray(groups))
        left_out_rows += [left_out for _, left_out in splits]
    return left_out_rows


def _mask_values(x: Matrix, config: EstimatorConfig) -> Matrix:
    """x with a small random share of the values missing.

    Without missing values in training, LightGBM reads them as 0; a learned branch is better than a wrong number.
    """
    if not config.missing_value_dropout:
        return x
    is_masked = np.random.default_rng(config.seed).random(x.shape, np.float32) < config.missing_value_dropout
    return np.where(is_masked, np.float32(np.nan), x)


def _progress_callback(progress: ProgressCallback | None, trees_done: int, total: int) -> Callable[[Any], None]:
    def callback(state: Any) -> None:
        if progress is not None:
            progress(trees_done + state.iteration + 1, total)

    return callback


def _truncate(booster: Booster, trees: int) -> Booster:
    from lightgbm import Booster as Loaded

    return Loaded(model_str=booster.model_to_string(num_iteration=trees))
