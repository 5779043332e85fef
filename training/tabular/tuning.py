"""Search the estimator's hyperparameters by the out-of-fold AUC of the training rows (Optuna, TPE)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from models.metrics import auc
from models.trees.estimator import BaggedTrees, EstimatorConfig
from training.config import ConfigSection
from training.progress import ProgressCallback, ignore_progress


class TuneConfig(ConfigSection):
    """How many trials to run; with 0 the hyperparameters stay as the config states them."""

    trials: int = Field(default=0, ge=0)


def tune(
    base: EstimatorConfig,
    x: np.ndarray,
    y: np.ndarray,
    *,
    trials: int,
    seed: int,
    directions: Sequence[int],
    weight: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    progress: ProgressCallback = ignore_progress,
) -> EstimatorConfig:
    """Return `base` with the hyperparameters whose out-of-fold AUC is best; `base` itself is the first trial.

    x (n, d) float32, y (n,); directions, weight and groups as for BaggedTrees.fit.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        candidate = base.model_copy(
            update={
                "repeats": 1,
                "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.15, log=True),
                "feature_fraction": trial.suggest_float("feature_fraction", 0.15, 1.0),
                "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
                "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 10, 200, log=True),
                "l2": trial.suggest_float("l2", 0.1, 50.0, log=True),
            }
        )
        model = BaggedTrees(candidate).fit(x, y, weight=weight, directions=directions, groups=groups)
        progress(trial.number + 1, trials)
        return auc(model.raw_out_of_fold_, y == 1)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    tuned_names = ("learning_rate", "feature_fraction", "bagging_fraction", "min_data_in_leaf", "l2")
    study.enqueue_trial({name: getattr(base, name) for name in tuned_names})
    study.optimize(objective, n_trials=trials)
    return base.model_copy(update=study.best_params)
