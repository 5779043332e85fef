"""Read slides in training as the service does: tissue, grid, tile quality, network.

for slide in read_slides(slides, encoder, config.net.side, config.mpp, policy): ...     # slide.table is a TileTable
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
from models.pathology.abstention import stain_density
from models.pathology.card import SlideCard
from models.pathology.decision import TileTable
from models.pathology.onnx_sessions import SlideGraph, TileOutputs
from models.pathology.policy import ReadingPolicy
from training.pathology.data import Images, SimulatedSlide
from training.progress import ProgressCallback, ignore_progress

# (embeddings (n, d), stain densities (n, 6)) -> (n,) distances from the training tiles
DistanceFn = Callable[[NDArray[Any], NDArray[np.float32]], NDArray[np.float32]]
IMAGES_PER_SIDE = 4  # negative and positive tiles of a slide whose images are stored


class TileEncoder(Protocol):
    """A graph, or the network itself on a device."""

    def run(self, tiles: Images) -> TileOutputs: ...


@dataclass(frozen=True)
class SlideFeatures:
    """A slide as read, n tiles. truth: (n,) index of the class, -1 where it is ambiguous. density: (n, 6) of the stain.
    images: of the rows `image_rows`."""

    slide: SimulatedSlide
    table: TileTable
    truth: NDArray[np.intp]
    density: NDArray[np.float32]
    image_rows: NDArray[np.intp]
    images: Images
    sha256: str  # of the tiles

    @property
    def fit_rows(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.table.reasons == "")

    @property
    def labelled_rows(self) -> NDArray[np.intp]:
        """Rows of known class whose quality suffices for the evaluation."""
        return np.flatnonzero((self.table.reasons == "") & (self.truth >= 0))


def read_slides(
    slides: Sequence[SimulatedSlide],
    encoder: TileEncoder,
    side: int,
    mpp: float,
    policy: ReadingPolicy,
    progress: ProgressCallback = ignore_progress,
) -> Iterator[SlideFeatures]:
    """Yield the slides in their order; while the network reads one, the next is rendered and tiled.

    side: of a tile, in pixels; mpp: microns per pixel. Raises ValueError for a slide without tissue.
    """
    with ThreadPoolExecutor(1) as executor:
        pending = executor.submit(_load_tiles, slides[0], side, mpp, policy) if slides else None
        for index, slide in enumerate(slides):
            assert pending is not None
            tiles = pending.result()
            if index + 1 < len(slides):
                pending = executor.submit(_load_tiles, slides[index + 1], side, mpp, policy)
            yield _encode_slide(slide, tiles, encoder)
            progress(index + 1, len(slides))


def embeddings_bag(card: SlideCard, table: TileTable) -> NDArray[np.float32]:
    """(k, d) embeddings of the tiles that the slide graph may use."""
    return np.asarray(table.embedding[decision.usable_rows(card, table)], np.float32)


def slide_logits(slide_graph: SlideGraph, bags: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(slides, classes) logits; bags: (tiles, d) embeddings of each slide."""
    return np.stack([slide_graph.run(bag)[0] for bag in bags])


def _load_tiles(
    slide: SimulatedSlide, side: int, mpp: float, policy: ReadingPolicy
) -> tuple[tiling.Grid, Images, NDArray[np.intp]]:
    """The slide's grid, its tiles, and the class of each."""
    config = tiling.GridConfig(
        mpp=mpp, tile_size=side, min_tissue=policy.fit.min_tile_tissue, max_coarsening=policy.fit.max_coarsening
    )
    source, truth = slide.open()
    with source:
        grid = tiling.tile_grid(source.metadata, tissue.find_tissue(source), config, slide.name)
        batches = [tiles for _, tiles in tiling.read_tiles(source, grid, batch=256)]
    if not batches:
        raise ValueError(f"{slide.name}: no tissue was found on a simulated slide. Simulate more columns and rows.")
    return grid, np.concatenate(batches), truth(grid.positions, grid.extent)


def _encode_slide(
    slide: SimulatedSlide, loaded: tuple[tiling.Grid, Images, NDArray[np.intp]], encoder: TileEncoder
) -> SlideFeatures:
    grid, tiles, truth = loaded
    outputs = encoder.run(tiles)
    table = TileTable(
        positions=grid.positions,
        extent=grid.extent,
        reasons=quality.assess_tiles(tiles),
        logits=outputs.logits,
        embedding=outputs.embedding.astype(np.float16),  # as the service stores it
        distance=np.zeros(len(tiles), np.float32) if outputs.distance is None else outputs.distance,
        grid=len(grid),
    )
    is_fit = table.reasons == ""
    image_rows = np.concatenate(
        [np.flatnonzero(is_fit & side_mask)[:IMAGES_PER_SIDE] for side_mask in (truth == 0, truth > 0)]
    )
    return SlideFeatures(
        slide,
        table,
        truth,
        stain_density(tiles),
        image_rows,
        tiles[image_rows],
        hashlib.sha256(tiles.tobytes()).hexdigest(),
    )


class DeviceEncoder:
    """Run the network itself on a device, where that is faster than its graph on a CPU: on CUDA."""

    def __init__(self, net: Any, device: str, distance_fn: DistanceFn | None = None, batch: int = 256):
        self._net = copy.deepcopy(net).to(device).eval()  # the original is exported and stays on the CPU
        self._device, self._distance_fn, self._batch = device, distance_fn, batch

    def run(self, tiles: Images) -> TileOutputs:
        """Logits, embedding, and the distance where a distance function was given; tiles (n, side, side, 3)."""
        import torch

        outputs = []
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):  # as precise as the graph
            for start in range(0, len(tiles), self._batch):
                batch = torch.from_numpy(np.ascontiguousarray(tiles[start : start + self._batch])).to(self._device)
                outputs.append([output.cpu().numpy() for output in self._net(batch)])
        logits, embedding = (np.concatenate(batch) for batch in zip(*outputs, strict=True))
        return TileOutputs(
            logits, embedding, None if self._distance_fn is None else self._distance_fn(embedding, stain_density(tiles))
        )
