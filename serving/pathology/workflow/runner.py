"""Run the tile network over tiles of a slide.

runner = TileRunner(settings)
runner.infer(TileRequest(...))          # TileOutputs: reasons, logits, embeddings, distances of the requested tiles

Pixels come from a sandboxed process, and the next batch is decoded while the network works on the current one, so a
slide is never in memory as a whole. Bundles are verified when they are loaded, and a slide is read to its end with the
bundle it was begun with.
"""

from __future__ import annotations

import io
import os
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides import sandbox
from datasets.slides.quality import assess_tiles
from datasets.slides.reader import Pixels, Slide
from datasets.slides.tiling import read_tiles_at
from models.bundle import Bundle, BundleError, load_bundle
from models.pathology.card import SlideCard, require_readable, select_tile_graph
from models.pathology.onnx_sessions import TileGraph, select_provider
from serving.pathology.slides.slide_cache import SlideCache
from serving.settings import Settings

BATCH_SIZES = 16, 32  # tiles on a CPU (larger batches are no faster, and leave cores idle at the end) and on a GPU
PREFETCHED_BATCHES = 2  # batches decoded before the network needs them
IDLE_SECONDS = 60.0  # after which an unused slide is closed
MAX_LOADED_MODELS = 2  # the serving bundle and the one before it


@dataclass(frozen=True, slots=True)
class TileRequest:
    """path: the de-identified slide, relative to the slides' folder. positions: (n, 2) left, top in level-0 pixels.

    mpp: microns per pixel (x, y). extent: level-0 pixels (x, y) that a tile covers. bundle: the digest of the bundle
    `model` `version` with which the slide is read. plane: the focal plane to read; None is each tile's sharpest.
    """

    path: str
    mpp: tuple[float, float]
    positions: NDArray[np.int64]
    extent: tuple[float, float]
    model: str
    version: str
    bundle: str
    plane: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "mpp": self.mpp,
            "places": self.positions.tolist(),
            "extent": self.extent,
            "model": self.model,
            "version": self.version,
            "bundle": self.bundle,
            "plane": self.plane,
        }

    @classmethod
    def from_json(cls, payload: dict[str, Any]) -> TileRequest:
        """Raises ValueError, KeyError or TypeError if `payload` is no such request."""
        positions = np.asarray(payload["places"], np.int64).reshape(-1, 2)
        if not len(positions):
            raise ValueError("'places' is empty; it must hold at least one tile's [left, top]")
        mpp_x, mpp_y = payload["mpp"]
        tile_width, tile_height = payload["extent"]
        return cls(
            str(payload["path"]),
            (float(mpp_x), float(mpp_y)),
            positions,
            (float(tile_width), float(tile_height)),
            str(payload["model"]),
            str(payload["version"]),
            str(payload["bundle"]),
            None if payload.get("plane") is None else int(payload["plane"]),
        )


@dataclass(frozen=True, slots=True)
class TileOutputs:
    """The outputs of n tiles. Rejected tiles do not reach the network: their logits and embedding are 0, their distance
    is NaN."""

    reasons: NDArray[np.str_]  # (n,) why a tile was rejected: blank, pen or focus; "" if it was not
    logits: NDArray[np.float32]  # (n, classes)
    embedding: NDArray[np.float16]  # (n, d)
    distance: NDArray[np.float32]  # (n,)

    def encode(self) -> bytes:
        """As npz."""
        buffer = io.BytesIO()
        np.savez(buffer, reasons=self.reasons, logits=self.logits, embedding=self.embedding, distance=self.distance)
        return buffer.getvalue()

    @classmethod
    def decode(cls, content: bytes) -> TileOutputs:
        """The inverse of `encode`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["reasons"], arrays["logits"], arrays["embedding"], arrays["distance"])


@dataclass
class _LoadedModel:
    bundle: Bundle[SlideCard]
    graph: TileGraph


class TileRunner:
    """May be called from several threads; `workers` batches are in the network at a time over all callers."""

    def __init__(self, settings: Settings):
        config = settings.reader
        self.bundles_dir, self.public_key = settings.paths.bundles, settings.paths.public_key
        self.slides_dir = settings.paths.slides
        self.device = config.device
        on_cpu = select_provider(config.device) == "CPUExecutionProvider"
        self.int8 = config.int8 and on_cpu
        # On a CPU each core works on a batch of its own: cores that share one wait for each other.
        self.workers, self.batch_size = (
            (config.threads or available_cpus(), BATCH_SIZES[0]) if on_cpu else (1, BATCH_SIZES[1])
        )
        self._executor = ThreadPoolExecutor(self.workers, "network")
        self._slides: SlideCache[Slide] = SlideCache(lambda slide: slide, config.max_open_slides, IDLE_SECONDS)
        self._models: OrderedDict[str, _LoadedModel] = OrderedDict()
        self._lock = threading.Lock()

    def infer(self, request: TileRequest) -> TileOutputs:
        """Raises SlideError if the slide cannot be decoded, BundleError if the requested bundle is not there, and
        ValueError if the path leads out of the slides' folder."""
        model = self._load_model(request)
        return sandbox.retry_in_new_sandbox(lambda: self._infer(model, request))

    def _infer(self, model: _LoadedModel, request: TileRequest) -> TileOutputs:
        pending: deque[Future[TileOutputs]] = deque()
        outputs: list[TileOutputs] = []
        with (
            self._slides.lease(self._resolve_path(request.path), request.mpp) as slide,
            closing(_decode_ahead(slide, request, model.bundle.card.side, self.batch_size)) as batches,
        ):
            for tiles in batches:
                pending.append(self._executor.submit(_infer_batch, model, tiles))
                if len(pending) > self.workers:
                    outputs.append(pending.popleft().result())
        outputs += [future.result() for future in pending]
        return TileOutputs(
            *(np.concatenate([getattr(batch, name) for batch in outputs]) for name in TileOutputs.__slots__)
        )

    def _resolve_path(self, relative: str) -> Path:
        path = (self.slides_dir / relative).resolve()
        if not path.is_relative_to(self.slides_dir.resolve()):
            raise ValueError(f"{relative!r} lies outside the slides' folder; name a slide inside it")
        return path

    def _load_model(self, request: TileRequest) -> _LoadedModel:
        with self._lock:
            if request.bundle in self._models:
                self._models.move_to_end(request.bundle)
                return self._models[request.bundle]
            for name in (request.model, request.version):
                if Path(name).name != name:
                    raise BundleError(f"{name!r} is no bundle's name; it must be a single folder name")
            bundle_dir = self.bundles_dir / request.model / request.version
            bundle = require_readable(load_bundle(bundle_dir, self.public_key, SlideCard))
            if bundle.digest != request.bundle:
                raise BundleError(
                    f"{bundle_dir}: its digest is {bundle.digest[:12]}…, but the slide was begun with "
                    f"{request.bundle[:12]}…. Restore that bundle."
                )
            graph = TileGraph(select_tile_graph(bundle, self.int8), 1, self.device)
            if not graph.has_distance:
                raise BundleError(f"{bundle_dir}: its tile graph has no distance output. Train the model again.")
            self._models[request.bundle] = _LoadedModel(bundle, graph)
            while len(self._models) > MAX_LOADED_MODELS:
                self._models.popitem(last=False)
            return self._models[request.bundle]

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
        self._slides.close()


def _infer_batch(model: _LoadedModel, tiles: Pixels) -> TileOutputs:
    reasons = assess_tiles(tiles)
    fit = np.flatnonzero(reasons == "")
    logits = np.zeros((len(tiles), len(model.bundle.card.classes)), np.float32)
    distance = np.full(len(tiles), np.nan, np.float32)
    embedding = np.zeros((len(tiles), model.graph.embedding_size), np.float16)
    if len(fit):
        outputs = model.graph.run(tiles[fit] if len(fit) < len(tiles) else tiles)
        assert outputs.distance is not None, "graphs without distances are refused when they are loaded"
        logits[fit], distance[fit], embedding[fit] = outputs.logits, outputs.distance, outputs.embedding
    return TileOutputs(reasons, logits, embedding, distance)


def available_cpus() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_ahead(slide: Slide, request: TileRequest, tile_side: int, batch_size: int) -> Generator[Pixels]:
    """Batches of tiles in order, each (n, side, side, 3) uint8, decoded in a thread ahead of the caller."""
    slide = slide.at_plane(request.plane)
    batches: queue.Queue[Pixels | BaseException | None] = queue.Queue(maxsize=PREFETCHED_BATCHES)
    stop = threading.Event()

    def offer(batch: Pixels | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                batches.put(batch, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def decode() -> None:
        try:
            for start in range(0, len(request.positions), batch_size):
                positions = request.positions[start : start + batch_size]
                if not offer(read_tiles_at(slide, positions, request.extent, (tile_side, tile_side))):
                    return
            offer(None)
        except BaseException as error:  # raised again where the tiles are consumed
            offer(error)

    thread = threading.Thread(target=decode, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (batch := batches.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        stop.set()
        thread.join()
