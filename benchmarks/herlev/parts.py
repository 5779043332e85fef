"""What each part alone says of the cells of some folds after learning from others: networks, measures, frozen features.

Each part is a function (learned from, asked) -> (734, 7) probabilities; only the rows of unseen folds mean anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.herlev import morphometry, networks
from benchmarks.herlev.networks import CACHE, VIEWS, Backbone, View
from datasets.pathology import herlev

Floats = NDArray[np.float64]
ModelFn = Callable[[tuple[int, ...]], Floats]  # the folds learned from -> (734, 7)
CLASSES = len(herlev.CLASSES)


def load_or_compute(name: str, compute: Callable[[], Floats]) -> Floats:
    """An array from the disk, made and put there where it is missing."""
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
    """(734, 1280) of a network as ImageNet left it, mean over the eight symmetries."""

    def make() -> Floats:
        from models.pathology.neural.network import NetConfig, TileNet
        from training.pathology.train_network import predict

        tiles = herlev.crop_cells(cells, view.side, view.region, view.margin)
        net = TileNet(NetConfig(backbone=view.backbone, side=view.side))
        return predict(net, tiles, symmetry_count=networks.SYMMETRIES)[1].astype(np.float64)

    return load_or_compute(f"embedding-{view.name}", make)


def frozen_features(cells: herlev.Cells, backbone: Backbone) -> ModelFn:
    """Cell and nucleus side by side, as ImageNet's network sees them; a logistic model over both."""
    views = [View("cell", 0.1, 128, backbone), View("nucleus", 0.3, 96, backbone)]
    x = np.concatenate([frozen_embedding(cells, view) for view in views], 1)
    return _fit_model(cells, x, _logistic_model)


def baseline_model(cells: herlev.Cells) -> ModelFn:
    """The frozen features of the issue: Lite0 on the cell alone."""
    return _fit_model(cells, frozen_embedding(cells, View("cell", 0.1, 96, "efficientnet_lite0")), _logistic_model)


def morphometry_model(cells: herlev.Cells, method: str) -> ModelFn:
    return _fit_model(
        cells,
        load_or_compute("measures", lambda: morphometry.measure(cells)),
        lambda: morphometry.classifiers()[method],
    )


def network_model(cells: herlev.Cells, view: str, seed_limit: int) -> ModelFn:
    """The mean of the first `most` seeds on the disk, of as many as there are for so many folds."""
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
