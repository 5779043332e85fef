"""Fine-tune networks on Herlev's cells and store their predictions for every cell; an interrupted run resumes.

    PYTHONPATH=FOLDER_OF_WEIGHTS python -m benchmarks.quality.herlev.networks --views nucleus cell --seeds 1

A network is trained on every set of two or three of the four folds. With three, the fourth is held out. With two, both
others are unseen, which provides the inputs of a stack with 4 + 6 networks instead of 4 + 12. Further seeds may skip
the pairs: the weights of a mean of many networks are then fitted to a mean of fewer, which is no less valid. After a
change of training/pathology/train_network.py or of a view, remove var/herlev: existing files are reused without a
check.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datasets.pathology import bcss, colon, herlev
from datasets.pathology.checksummed_folder import Images

Floats = NDArray[np.float64]
Backbone = Literal["mobilenet_v2", "efficientnet_lite0"]
FOLDS = range(4)
CACHE = Path("var/herlev")
SYMMETRIES = 8  # at test time
MAX_SEEDS = 10  # to look for on disk


@dataclass(frozen=True)
class View:
    """The crop that a network reads: a square around the nucleus or the cell, and its size in pixels."""

    region: str
    margin: float
    side: int
    backbone: Backbone = "mobilenet_v2"

    @property
    def name(self) -> str:
        return f"{self.region}-{self.margin:g}-{self.side}-{self.backbone}"


VIEWS = {
    "nucleus": View("nucleus", 0.3, 96),
    "cell": View("cell", 0.1, 96),
    "nucleus_lite0": View("nucleus", 0.3, 96, "efficientnet_lite0"),
    "wide": View("nucleus", 1.0, 128),
}


def fold_sets() -> list[tuple[int, ...]]:
    """The sets of three folds, then the pairs."""
    return [*itertools.combinations(FOLDS, 3), *itertools.combinations(FOLDS, 2)]


def output_path(view: View, folds: tuple[int, ...], seed: int) -> Path:
    """The file of a network's predictions; `folds`: those it was trained on."""
    return CACHE / f"{view.name}-folds{''.join(map(str, folds))}-seed{seed}.npz"


def train_network(cells: herlev.Cells, view: View, folds: tuple[int, ...], seed: int) -> None:
    """Train on the cells of `folds` and write the predictions for every cell, unless the file exists.

    logits (734, 7), embedding (734, 1280); strange_* (n, 1280) of images that are no Pap cells.
    """
    path = output_path(view, folds, seed)
    if path.exists():
        return
    from models.pathology.neural.network import NetConfig
    from training.pathology.train_network import NetworkTrainingConfig, predict, train

    tiles = herlev.crop_cells(cells, view.side, view.region, view.margin)
    rows = np.flatnonzero(np.isin(cells.folds, folds))
    config = NetworkTrainingConfig(
        seed=seed, threads=1, patience=0
    )  # the defaults, with all epochs and without validation rows
    net = NetConfig(backbone=view.backbone, side=view.side)
    folder = path.with_suffix("")
    trained = train(tiles[rows], cells.label7[rows], config, net, checkpoint_dir=folder)
    logits, embedding = predict(trained.net, tiles, symmetry_count=SYMMETRIES)
    ood_embeddings: dict[str, Any] = {
        f"strange_{name}": predict(trained.net, images, symmetry_count=SYMMETRIES)[1]
        for name, images in load_ood_images(view.side).items()
    }
    scratch = path.with_suffix(".part")
    with scratch.open("wb") as file:
        np.savez(file, logits=logits, embedding=embedding, **ood_embeddings)
        os.fsync(file.fileno())
    scratch.replace(path)
    for leftover in folder.glob("*"):
        leftover.unlink()
    folder.rmdir()


def load_ood_images(side: int) -> dict[str, Images]:
    """Out-of-distribution images of breast and colon tissue, (n, side, side, 3) each."""
    from PIL import Image

    def resize(images: Images) -> Images:
        return np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in images])

    breast_tiles = [bcss.cut_tiles(bcss.read(name), 256)[0][::3] for name in bcss.NAMES]
    return {"breast": resize(np.concatenate(breast_tiles)), "colon": resize(colon.read().images)}


def mean_probabilities(view: View, folds: tuple[int, ...], seeds: Sequence[int]) -> Floats:
    """(734, 7) mean probabilities over the seeds."""
    from models.pathology.onnx_sessions import softmax

    probabilities = [softmax(np.load(output_path(view, folds, seed))["logits"]) for seed in seeds]
    mean: Floats = np.mean(probabilities, axis=0)
    return mean


def available_seeds(view: View, fold_count: int) -> list[int]:
    """The seeds whose networks exist on disk for every set of `fold_count` folds."""
    required_folds = [folds for folds in fold_sets() if len(folds) == fold_count]
    return [
        seed for seed in range(MAX_SEEDS) if all(output_path(view, folds, seed).exists() for folds in required_folds)
    ]


def main(argv: list[str]) -> int:
    """Train the networks that are not on disk yet."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.herlev.networks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--views", nargs="+", choices=list(VIEWS), default=["nucleus"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--inner", action=argparse.BooleanOptionalAction, default=True, help="also train on pairs of folds"
    )
    args = parser.parse_args(argv)
    cells = herlev.read()
    for seed, name in itertools.product(args.seeds, args.views):
        for folds in fold_sets() if args.inner else fold_sets()[:4]:
            train_network(cells, VIEWS[name], folds, seed)
            print(f"{name}, seed {seed}, trained on folds {folds}", flush=True)
    return 0


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
