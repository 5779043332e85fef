"""Define the base models of a stack: fine-tuned networks, measurements, frozen features.

A base model maps the folds that it is trained on to (734, 7) probabilities, valid for the rows of all other folds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.herlev import morphometry, networks
from benchmarks.quality.herlev.networks import CACHE, VIEWS, Backbone, View
from datasets.pathology import herlev

Floats = NDArray[np.float64]
ModelFn = Callable[[tuple[int, ...]], Floats]  # the training folds -> (734, 7)
CLASSES = len(herlev.CLASSES)


def load_or_compute(name: str, compute: Callable[[], Floats]) -> Floats:
    """Load an array from disk; it is computed and stored there if missing."""
    path = CACHE / f"{name}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        with scratch.open("wb") as file:
            np.save(file, compute())
        scratch.replace(path)
    cached: Floats = np.load(path)
    return cached


def frozen_embedding(cells: herlev.Cells, view: View) -> Floats:
    """(734, 1280) embedding of an ImageNet network without fine-tuning, mean over the eight symmetries."""

    def compute() -> Floats:
        from models.pathology.neural.network import NetConfig, TileNet
        from training.pathology.train_network import predict

        tiles = herlev.crop_cells(cells, view.side, view.region, view.margin)
        net = TileNet(NetConfig(backbone=view.backbone, side=view.side))
        return predict(net, tiles, symmetry_count=networks.SYMMETRIES)[1].astype(np.float64)

    return load_or_compute(f"embedding-{view.name}", compute)


def frozen_features(cells: herlev.Cells, backbone: Backbone) -> ModelFn:
    """A logistic model on the frozen embeddings of cell and nucleus."""
    views = [View("cell", 0.1, 128, backbone), View("nucleus", 0.3, 96, backbone)]
    x = np.concatenate([frozen_embedding(cells, view) for view in views], 1)
    return _fit_model(cells, x, _logistic_model)


def baseline_model(cells: herlev.Cells) -> ModelFn:
    """A logistic model on the frozen Lite0 embedding of the cell alone."""
    return _fit_model(cells, frozen_embedding(cells, View("cell", 0.1, 96, "efficientnet_lite0")), _logistic_model)


def morphometry_model(cells: herlev.Cells, method: str) -> ModelFn:
    """A classifier of morphometry.classifiers on the measurements."""
    return _fit_model(
        cells,
        load_or_compute("measures", lambda: morphometry.measure(cells)),
        lambda: morphometry.classifiers()[method],
    )


def network_model(cells: herlev.Cells, view: str, seed_limit: int) -> ModelFn:
    """The mean over the first `seed_limit` seeds on disk, or over all that exist for that number of folds."""
    return lambda folds: networks.mean_probabilities(
        VIEWS[view], folds, networks.available_seeds(VIEWS[view], len(folds))[:seed_limit]
    )


def _logistic_model() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1_000))


def _fit_model(cells: herlev.Cells, x: Floats, model: Callable[[], Any]) -> ModelFn:
    def predict(folds: tuple[int, ...]) -> Floats:
        rows = np.isin(cells.folds, folds)
        probabilities: Floats = model().fit(x[rows], cells.label7[rows]).predict_proba(x)
        return probabilities

    return predict
