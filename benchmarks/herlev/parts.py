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
Part = Callable[[tuple[int, ...]], Floats]  # the folds learned from -> (734, 7)
CLASSES = len(herlev.CLASSES)


def kept(name: str, make: Callable[[], Floats]) -> Floats:
    """An array from the disk, made and put there where it is missing."""
    path = CACHE / f"{name}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        with scratch.open("wb") as file:
            np.save(file, make())
        scratch.replace(path)
    found: Floats = np.load(path)
    return found


def embedding(cells: herlev.Cells, view: View) -> Floats:
    """(734, 1280) of a network as ImageNet left it, mean over the eight symmetries."""

    def make() -> Floats:
        from models.pathology.network import NetConfig, TileNet
        from training.pathology.train_network import predict

        tiles = herlev.crops(cells, view.side, view.part, view.margin)
        net = TileNet(NetConfig(backbone=view.backbone, side=view.side))
        return predict(net, tiles, turns=networks.TURNS)[1].astype(np.float64)

    return kept(f"embedding-{view.name}", make)


def frozen(cells: herlev.Cells, backbone: Backbone) -> Part:
    """Cell and nucleus side by side, as ImageNet's network sees them; a logistic model over both."""
    views = [View("cell", 0.1, 128, backbone), View("nucleus", 0.3, 96, backbone)]
    x = np.concatenate([embedding(cells, view) for view in views], 1)
    return _fitted(cells, x, _logistic)


def baseline(cells: herlev.Cells) -> Part:
    """The frozen features of the issue: Lite0 on the cell alone."""
    return _fitted(cells, embedding(cells, View("cell", 0.1, 96, "efficientnet_lite0")), _logistic)


def measures(cells: herlev.Cells, how: str) -> Part:
    return _fitted(cells, kept("measures", lambda: morphometry.measure(cells)), lambda: morphometry.models()[how])


def network(cells: herlev.Cells, view: str, most: int) -> Part:
    """The mean of the first `most` seeds on the disk, of as many as there are for so many folds."""
    return lambda folds: networks.said(VIEWS[view], folds, networks.learned_seeds(VIEWS[view], len(folds))[:most])


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1_000))


def _fitted(cells: herlev.Cells, x: Floats, model: Callable[[], Any]) -> Part:
    def say(folds: tuple[int, ...]) -> Floats:
        rows = np.isin(cells.folds, folds)
        found: Floats = model().fit(x[rows], cells.label7[rows]).predict_proba(x)
        return found

    return say
