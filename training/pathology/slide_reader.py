"""Slides read in training as a service reads them: tissue, grid, fitness, network; one slide ahead of the network.

for found in read(slides, network, config.net.side, config.mpp, policy): ...     # found.table is a TileTable
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.slides import quality, tiling, tissue
from models.pathology import decision
from models.pathology.abstention import density
from models.pathology.card import SlideCard
from models.pathology.decision import TileTable
from models.pathology.onnx_sessions import SlideGraph, Tiles
from models.pathology.policy import ReadingPolicy
from training.pathology.data import Images, Painted
from training.progress import Tick, ignore

Far = Callable[[NDArray[Any], NDArray[np.float32]], NDArray[np.float32]]  # of embeddings (n, d), densities (n, 6)
KEPT = 4  # tiles of a slide whose images are kept, of each side of the question


class Network(Protocol):
    """A graph, or the network itself on a device."""

    def run(self, tiles: Images) -> Tiles: ...


@dataclass(frozen=True)
class Read:
    """A slide as read. truth: (n,) place among the classes, -1 where it cannot be said. density: (n, 6) of the stain.
    images: of the rows `kept`."""

    slide: Painted
    table: TileTable
    truth: NDArray[np.intp]
    density: NDArray[np.float32]
    kept: NDArray[np.intp]
    images: Images
    sha256: str  # of its tiles

    @property
    def fit(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.table.reasons == "")

    @property
    def known(self) -> NDArray[np.intp]:
        """Rows whose class is known and which are fit to be judged."""
        return np.flatnonzero((self.table.reasons == "") & (self.truth >= 0))


def read(
    slides: Sequence[Painted], network: Network, side: int, mpp: float, policy: ReadingPolicy, tick: Tick = ignore
) -> Iterator[Read]:
    """In the order of `slides`. The next is painted and cut while the network looks at one."""
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(_cut, slides[0], side, mpp, policy) if slides else None
        for at, slide in enumerate(slides):
            assert waiting is not None
            cut = waiting.result()
            if at + 1 < len(slides):
                waiting = ahead.submit(_cut, slides[at + 1], side, mpp, policy)
            yield _answered(slide, cut, network)
            tick(at + 1, len(slides))


def bag(card: SlideCard, table: TileTable) -> NDArray[np.float32]:
    """(k, d) what the slide graph may see of it."""
    return np.asarray(table.embedding[decision.rows(card, table)], np.float32)


def logits(slide_graph: SlideGraph, bags: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(slides, classes)."""
    return np.stack([slide_graph.run(one)[0] for one in bags])


def _cut(slide: Painted, side: int, mpp: float, policy: ReadingPolicy) -> tuple[tiling.Grid, Images, NDArray[np.intp]]:
    """Its grid, the tiles of it, and the class of each."""
    config = tiling.GridConfig(mpp=mpp, tile=side, tissue=policy.fit.tissue, coarser=policy.fit.coarser)
    opened, truth = slide.open()
    with opened:
        covered = tiling.cover(opened.facts, tissue.find(opened), config, slide.name)
        parts = [tiles for _, tiles in tiling.read(opened, covered, batch=256)]
    if not parts:
        raise ValueError(f"{slide.name}: no tissue was found on a painted slide; paint more columns and rows.")
    return covered, np.concatenate(parts), truth(covered.places, covered.extent)


def _answered(slide: Painted, cut: tuple[tiling.Grid, Images, NDArray[np.intp]], network: Network) -> Read:
    covered, tiles, truth = cut
    answer = network.run(tiles)
    table = TileTable(
        places=covered.places,
        extent=covered.extent,
        reasons=quality.judge_tiles(tiles),
        logits=answer.logits,
        embedding=answer.embedding.astype(np.float16),  # as a service keeps it
        distance=np.zeros(len(tiles), np.float32) if answer.distance is None else answer.distance,
        grid=len(covered),
    )
    fit = table.reasons == ""
    kept = np.concatenate([np.flatnonzero(fit & side)[:KEPT] for side in (truth == 0, truth > 0)])
    return Read(slide, table, truth, density(tiles), kept, tiles[kept], hashlib.sha256(tiles.tobytes()).hexdigest())


class OnDevice:
    """The network itself, where it is faster than its graph on a CPU: on CUDA."""

    def __init__(self, net: Any, device: str, far: Far | None = None, batch: int = 256):
        self._net = copy.deepcopy(net).to(device).eval()  # what is exported stays on the CPU
        self._device, self._far, self._batch = device, far, batch

    def run(self, tiles: Images) -> Tiles:
        import torch

        found = []
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):  # as exact as the graph
            for start in range(0, len(tiles), self._batch):
                part = torch.from_numpy(np.ascontiguousarray(tiles[start : start + self._batch])).to(self._device)
                found.append([one.cpu().numpy() for one in self._net(part)])
        logits, embedding = (np.concatenate(part) for part in zip(*found, strict=True))
        return Tiles(logits, embedding, None if self._far is None else self._far(embedding, density(tiles)))
