"""Stack base models: a weighted product of their probabilities, with weights fitted to out-of-fold predictions.

For a held-out fold k and each other fold j, every base model is trained on the remaining two folds and predicts j; the
predictions for all three j fit the weights. Then every base model is trained on all three folds and predicts k. Nothing
of k is used before the evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.herlev.networks import FOLDS
from benchmarks.quality.herlev.parts import CLASSES, Floats, ModelFn
from datasets.pathology import herlev

MIN_PROBABILITY = 1e-4  # to which probabilities are clipped
REGULARISATION = 1.0  # towards equal weights, in units of the log loss of one cell
ABNORMAL = np.flatnonzero(herlev.ABNORMAL)


@dataclass(frozen=True)
class StackedPredictions:
    """Out-of-fold predictions: (734, 7) for the seven classes, (734,) for an abnormal cell."""

    class_probabilities: Floats
    abnormal_probability: Floats
    weights: Floats  # (4 folds, base models), or empty

    @classmethod
    def from_classes(cls, class_probabilities: Floats) -> StackedPredictions:
        """Derive the probability of an abnormal cell from those of the classes."""
        return cls(class_probabilities, class_probabilities[:, ABNORMAL].sum(1), np.empty((0, 0)))


def predict_single(base_model: ModelFn, cells: herlev.Cells) -> StackedPredictions:
    """Out-of-fold predictions of one base model."""
    probabilities = np.zeros((len(cells), CLASSES))
    for fold, _, holdout in cells.cross_validation_folds():
        probabilities[holdout] = base_model(_other_folds(fold))[holdout]
    return StackedPredictions.from_classes(probabilities)


def predict_stacked(base_models: Mapping[str, ModelFn], cells: herlev.Cells) -> StackedPredictions:
    """Out-of-fold predictions of the stack; the weights of the two-class problem are fitted separately."""
    predictions: dict[tuple[str, tuple[int, ...]], Floats] = {}

    def predict_all(folds: tuple[int, ...]) -> Floats:
        """(734, base models, 7) predictions after training on `folds`."""
        for name, base_model in base_models.items():
            if (name, folds) not in predictions:
                predictions[name, folds] = base_model(folds)
        return np.stack([predictions[name, folds] for name in base_models], 1)

    class_probabilities, abnormal_probability, weights = np.zeros((len(cells), CLASSES)), np.zeros(len(cells)), []
    for fold, train_rows, holdout in cells.cross_validation_folds():
        inner_predictions = np.zeros((len(cells), len(base_models), CLASSES))
        for other in _other_folds(fold):
            inner_predictions[cells.folds == other] = predict_all(_other_folds(fold, other))[cells.folds == other]
        holdout_inputs = predict_all(_other_folds(fold))[holdout]
        model = ProductOfExperts.fit(inner_predictions[train_rows], cells.label7[train_rows])
        class_probabilities[holdout] = model.predict(holdout_inputs)
        weights.append(model.weights)
        model = ProductOfExperts.fit(_to_binary(inner_predictions[train_rows]), cells.label2[train_rows])
        abnormal_probability[holdout] = model.predict(_to_binary(holdout_inputs))[:, 1]
    return StackedPredictions(class_probabilities, abnormal_probability, np.array(weights))


@dataclass(frozen=True)
class ProductOfExperts:
    """log p = sum of weight * log p of each base model + a constant for each class, normalised to sum to 1."""

    weights: Floats  # (base models,) 0 or more
    constants: Floats  # (classes,)

    @classmethod
    def fit(cls, predictions: Floats, labels: NDArray[np.intp]) -> ProductOfExperts:
        """Minimise the log loss, regularised towards equal weights that sum to 1; predictions (n, base models,
        classes).
        """
        from scipy.optimize import minimize

        log_probabilities = np.log(np.clip(predictions, MIN_PROBABILITY, None))
        part_count, classes = predictions.shape[1:]
        truth = np.eye(classes)[labels]

        def loss(params: Floats) -> tuple[float, Floats]:
            weights, constants = params[:part_count], params[part_count:]
            scores = np.einsum("npc,p->nc", log_probabilities, weights) + constants
            probability = _softmax(scores)
            weight_offset = weights - 1 / part_count
            value = -np.log(np.clip((probability * truth).sum(1), 1e-12, None)).sum()
            value += REGULARISATION * part_count * (weight_offset**2).sum() + REGULARISATION * (constants**2).sum()
            residual = probability - truth
            gradient = np.concatenate(
                [
                    np.einsum("nc,npc->p", residual, log_probabilities)
                    + 2 * REGULARISATION * part_count * weight_offset,
                    residual.sum(0) + 2 * REGULARISATION * constants,
                ]
            )
            return float(value), gradient

        start = np.concatenate([np.full(part_count, 1 / part_count), np.zeros(classes)])
        bounds = [(0.0, None)] * part_count + [(None, None)] * classes
        solution = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
        return cls(solution[:part_count], solution[part_count:])

    def predict(self, predictions: Floats) -> Floats:
        """(n, classes) probabilities from (n, base models, classes)."""
        log_probabilities = np.log(np.clip(predictions, MIN_PROBABILITY, None))
        return _softmax(np.einsum("npc,p->nc", log_probabilities, self.weights) + self.constants)


def _to_binary(class_probabilities: Floats) -> Floats:
    """(..., 7) -> (..., 2) normal, abnormal."""
    abnormal = class_probabilities[..., ABNORMAL].sum(-1)
    return np.stack([1 - abnormal, abnormal], -1)


def _softmax(scores: Floats) -> Floats:
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    probability: Floats = shifted / shifted.sum(1, keepdims=True)
    return probability


def _other_folds(*folds: int) -> tuple[int, ...]:
    return tuple(fold for fold in FOLDS if fold not in folds)
