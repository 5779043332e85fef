"""Parts put together: a weighted product of what each says, its weights fitted on cells that no part had learned from.

For a held-out fold k and each other fold j, every part learns from the remaining two folds and is asked about j: those
answers, of all three j, fit the weights. Then every part learns from all three and is asked about k. Nothing of k is
seen before the figures are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.herlev.networks import FOLDS
from benchmarks.herlev.parts import CLASSES, Floats, Part
from datasets.pathology import herlev

LEAST = 1e-4  # no part is surer than that
HELD = 1.0  # how much equal weights are preferred, in cells' worth of log loss
ABNORMAL = np.flatnonzero(herlev.ABNORMAL)


@dataclass(frozen=True)
class Said:
    """Out of fold, of all cells: (734, 7) for the seven classes, (734,) that a cell is abnormal."""

    seven: Floats
    abnormal: Floats
    weights: Floats  # (4 folds, parts), or empty

    @classmethod
    def of(cls, seven: Floats) -> Said:
        return cls(seven, seven[:, ABNORMAL].sum(1), np.empty((0, 0)))


def apart(part: Part, cells: herlev.Cells) -> Said:
    """One part by itself."""
    found = np.zeros((len(cells), CLASSES))
    for fold, _, held in cells.held_out():
        found[held] = part(_but(fold))[held]
    return Said.of(found)


def together(parts: Mapping[str, Part], cells: herlev.Cells) -> Said:
    """All parts, as weighed on inner folds; the question of two classes is weighed by itself."""
    asked: dict[tuple[str, tuple[int, ...]], Floats] = {}

    def say(folds: tuple[int, ...]) -> Floats:
        """(734, parts, 7)"""
        for name, part in parts.items():
            if (name, folds) not in asked:
                asked[name, folds] = part(folds)
        return np.stack([asked[name, folds] for name in parts], 1)

    seven, abnormal, weights = np.zeros((len(cells), CLASSES)), np.zeros(len(cells)), []
    for fold, learned, held in cells.held_out():
        inner = np.zeros((len(cells), len(parts), CLASSES))
        for other in _but(fold):
            inner[cells.folds == other] = say(_but(fold, other))[cells.folds == other]
        last = say(_but(fold))[held]
        model = Product.fit(inner[learned], cells.label7[learned])
        seven[held] = model.say(last)
        weights.append(model.weights)
        model = Product.fit(_two(inner[learned]), cells.label2[learned])
        abnormal[held] = model.say(_two(last))[:, 1]
    return Said(seven, abnormal, np.array(weights))


@dataclass(frozen=True)
class Product:
    """log p = sum of weight * log p of each part + a constant for each class, made to add up to 1."""

    weights: Floats  # (parts,) 0 or more
    constants: Floats  # (classes,)

    @classmethod
    def fit(cls, said: Floats, labels: NDArray[np.intp]) -> Product:
        """said (n, parts, classes). The least log loss, leaning towards equal weights that add up to 1."""
        from scipy.optimize import minimize

        logs = np.log(np.clip(said, LEAST, None))
        parts, classes = said.shape[1:]
        truth = np.eye(classes)[labels]

        def loss(free: Floats) -> tuple[float, Floats]:
            weights, constants = free[:parts], free[parts:]
            scores = np.einsum("npc,p->nc", logs, weights) + constants
            probability = _even(scores)
            lean = weights - 1 / parts
            value = -np.log(np.clip((probability * truth).sum(1), 1e-12, None)).sum()
            value += HELD * parts * (lean**2).sum() + HELD * (constants**2).sum()
            off = probability - truth
            slope = np.concatenate([np.einsum("nc,npc->p", off, logs) + 2 * HELD * parts * lean,
                                    off.sum(0) + 2 * HELD * constants])  # fmt: skip
            return float(value), slope

        start = np.concatenate([np.full(parts, 1 / parts), np.zeros(classes)])
        bounds = [(0.0, None)] * parts + [(None, None)] * classes
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
        return cls(found[:parts], found[parts:])

    def say(self, said: Floats) -> Floats:
        logs = np.log(np.clip(said, LEAST, None))
        return _even(np.einsum("npc,p->nc", logs, self.weights) + self.constants)


def _two(seven: Floats) -> Floats:
    """(…, 7) -> (…, 2) normal, abnormal."""
    abnormal = seven[..., ABNORMAL].sum(-1)
    return np.stack([1 - abnormal, abnormal], -1)


def _even(scores: Floats) -> Floats:
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    probability: Floats = shifted / shifted.sum(1, keepdims=True)
    return probability


def _but(*folds: int) -> tuple[int, ...]:
    return tuple(fold for fold in FOLDS if fold not in folds)
