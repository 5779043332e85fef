"""Test whether colon tiles are recognised as out of distribution; the embedding is chosen on breast tiles.

For each ordered pair (k, j) of folds, the reference is the cells of the other two folds, the threshold (5 % false
alarms) comes from the cells of j, and false alarms are counted on the cells of k. Each fold is k three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.quality.herlev import networks, parts
from benchmarks.quality.herlev.networks import FOLDS, VIEWS, View
from benchmarks.quality.herlev.parts import Floats
from datasets.pathology import herlev
from models.pathology.abstention import FALSE_POSITIVE_RATE, KnnOodDetector

FROZEN_VIEWS = (View("cell", 0.1, 96, "efficientnet_lite0"), View("nucleus", 0.3, 96, "efficientnet_lite0"))
GOAL = 0.9  # share of colon tiles


def report(cells: herlev.Cells) -> Iterator[str]:
    """Yield lines of text: the share of breast tiles recognised by each embedding, then of colon tiles by the best."""
    shares = {name: _flagged_shares(cells, name) for name in _embedding_names()}
    yield f"Out of distribution, {FALSE_POSITIVE_RATE:.0%} false alarms intended; mean over 12 pairs of folds (minimum)"
    for name, flagged in shares.items():
        breast, alarms = flagged["breast"], flagged["alarms"]
        yield f"  {name:42} breast {breast.mean():.3f} ({breast.min():.3f})  false alarms {alarms.mean():.3f}"
    best_name = max(shares, key=lambda name: (shares[name]["breast"].mean().round(3), -shares[name]["alarms"].mean()))
    colon = shares[best_name]["colon"]
    yield f"  best on breast tiles: {best_name}; colon {colon.mean():.3f} ({colon.min():.3f}), goal {GOAL}"
    other_shares = {name: flagged["colon"].mean() for name, flagged in shares.items() if name != best_name}
    yield "  colon by the others, for information: " + ", ".join(
        f"{name} {share:.3f}" for name, share in other_shares.items()
    )


def _embedding_names() -> list[str]:
    tuned_views = [
        view
        for view in VIEWS
        if all(_tuned_path(view, folds).exists() for folds in networks.fold_sets()[4:])
        and "strange_colon" in np.load(_tuned_path(view, networks.fold_sets()[4]))
    ]
    return [*(f"frozen {view.name}" for view in FROZEN_VIEWS), *(f"tuned {view}" for view in tuned_views)]


def _tuned_path(view: str, folds: tuple[int, ...]) -> Path:
    return networks.output_path(VIEWS[view], folds, 0)


def _flagged_shares(cells: herlev.Cells, embedding_name: str) -> dict[str, Floats]:
    """(12,) shares called out of distribution: of the breast and colon tiles, and of the cells (alarms)."""
    shares: dict[str, list[float]] = {"breast": [], "colon": [], "alarms": []}
    for test_fold in FOLDS:
        for calibration_fold in FOLDS:
            if calibration_fold == test_fold:
                continue
            train_folds = tuple(fold for fold in FOLDS if fold not in (test_fold, calibration_fold))
            cell_embeddings, ood_embeddings = _embeddings(cells, embedding_name, train_folds)
            detector = KnnOodDetector.fit(
                cell_embeddings[np.isin(cells.folds, train_folds)], cell_embeddings[cells.folds == calibration_fold]
            )
            for name, rows in {**ood_embeddings, "alarms": cell_embeddings[cells.folds == test_fold]}.items():
                shares[name].append(float(detector.is_ood(rows).mean()))
    return {name: np.array(values) for name, values in shares.items()}


def _embeddings(
    cells: herlev.Cells, embedding_name: str, train_folds: tuple[int, ...]
) -> tuple[Floats, dict[str, Floats]]:
    """(734, 1280) of the cells, and (n, 1280) of the out-of-distribution images by name."""
    kind, name = embedding_name.split(" ", 1)
    if kind == "tuned":
        arrays = np.load(networks.output_path(VIEWS[name], train_folds, 0))
        return arrays["embedding"], {source: arrays[f"strange_{source}"] for source in ("breast", "colon")}
    view = next(frozen_view for frozen_view in FROZEN_VIEWS if frozen_view.name == name)
    return parts.frozen_embedding(cells, view), {
        source: _frozen_ood_embedding(view, source) for source in ("breast", "colon")
    }


def _frozen_ood_embedding(view: View, source: str) -> Floats:
    """(n, 1280) embedding without fine-tuning; the images do not depend on the crop of a cell."""

    def compute() -> Floats:
        from models.pathology.neural.network import NetConfig, TileNet
        from training.pathology.train_network import predict

        net = TileNet(NetConfig(backbone=view.backbone, side=view.side))
        return predict(net, networks.load_ood_images(view.side)[source], symmetry_count=networks.SYMMETRIES)[1].astype(
            np.float64
        )

    return parts.load_or_compute(f"strange-{source}-{view.side}-{view.backbone}", compute)
