"""Tiles of a slide into what the network says of them: reads ahead of the model, and never holds a whole slide.

runner = Runner(settings)
runner.read(Asked(...))          # Said: reasons, logits, embedding, distance of the tiles asked for

Pixels come from the sandbox's process; while the network works on one handful of tiles the next is decoded. Bundles are
verified before they are used, and a slide is read to its end with the one it was begun with.
"""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides import sandbox
from datasets.slides.errors import SlideError
from datasets.slides.quality import assess_tiles
from datasets.slides.reader import Pixels, Slide
from datasets.slides.tiling import read_tiles_at
from models.bundle import Bundle, BundleError, load_bundle
from models.pathology.card import SlideCard, require_readable, select_tile_graph
from models.pathology.onnx_sessions import TileGraph, select_provider
from serving.settings import Settings

BATCH_SIZES = 16, 32  # tiles, on a CPU (as fast as more, and at a batch's end no core waits long) and on a GPU
PREFETCHED_BATCHES = 2  # handfuls decoded before the network asks for them
IDLE_SECONDS = 60.0  # seconds until a slide that nobody reads is closed
MAX_LOADED_MODELS = 2  # bundles held: the one that serves, and the one before it


@dataclass(frozen=True, slots=True)
class TileRequest:
    """path: of the stripped slide, below the slides' folder. places: (n, 2) left, top in level-0 pixels.

    extent: level-0 pixels that a tile covers. model, version, bundle: what it is read with, and its digest.
    """

    path: str
    mpp: tuple[float, float]
    positions: NDArray[np.int64]
    extent: tuple[float, float]
    model: str
    version: str
    bundle: str


@dataclass(frozen=True, slots=True)
class TileOutputs:
    """Of n tiles; logits and embedding are 0 and the distance NaN where a tile is unfit and no network saw it."""

    reasons: NDArray[np.str_]  # (n,) "", blank, pen or focus
    logits: NDArray[np.float32]  # (n, classes)
    embedding: NDArray[np.float16]  # (n, d)
    distance: NDArray[np.float32]  # (n,)

    def encode(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, reasons=self.reasons, logits=self.logits, embedding=self.embedding, distance=self.distance)
        return buffer.getvalue()

    @classmethod
    def decode(cls, content: bytes | Path) -> TileOutputs:
        with np.load(io.BytesIO(content) if isinstance(content, bytes) else content, allow_pickle=False) as arrays:
            return cls(arrays["reasons"], arrays["logits"], arrays["embedding"], arrays["distance"])


@dataclass
class _LoadedModel:
    bundle: Bundle[SlideCard]
    graph: TileGraph


class TileRunner:
    """Answers from several threads; `hands` handfuls of tiles are in the network at a time, whoever asked."""

    def __init__(self, settings: Settings):
        config = settings.reader
        self.bundles_dir, self.public_key = settings.paths.bundles, settings.paths.public_key
        self.slides_dir = settings.paths.slides
        self.device = config.device
        self.int8 = config.int8
        # On a CPU each core has a handful of its own: cores that share one wait for each other.
        on_cpu = select_provider(config.device) == "CPUExecutionProvider"
        self.workers, self.batch_size = (
            (config.threads or available_cpus(), BATCH_SIZES[0]) if on_cpu else (1, BATCH_SIZES[1])
        )
        self._executor = ThreadPoolExecutor(self.workers, "network")
        self.max_open_slides = config.max_open_slides
        self._models: OrderedDict[str, _LoadedModel] = OrderedDict()
        self._open_slides: OrderedDict[tuple[str, tuple[float, float]], _SlideHandle] = OrderedDict()
        self._lock = threading.Lock()

    def infer(self, request: TileRequest) -> TileOutputs:
        """Raises SlideRefused where the slide cannot be decoded, BundleError where the bundle is another."""
        model = self._load_model(request)
        return sandbox.retry_in_new_sandbox(lambda: self._infer(model, request))

    def _infer(self, model: _LoadedModel, request: TileRequest) -> TileOutputs:
        pending: deque[Future[TileOutputs]] = deque()
        outputs: list[TileOutputs] = []
        with (
            self._open_slide(request) as slide,
            closing(_decode_ahead(slide, request, model.bundle.card.side, self.batch_size)) as batches,
        ):
            for tiles in batches:
                pending.append(self._executor.submit(_infer_batch, model, tiles))
                if len(pending) > self.workers:
                    outputs.append(pending.popleft().result())
        outputs += [one.result() for one in pending]
        return TileOutputs(*(np.concatenate([getattr(one, name) for one in outputs]) for name in TileOutputs.__slots__))

    def _load_model(self, request: TileRequest) -> _LoadedModel:
        with self._lock:
            if request.bundle in self._models:
                self._models.move_to_end(request.bundle)
                return self._models[request.bundle]
            for name in (request.model, request.version):
                if Path(name).name != name:
                    raise BundleError(f"{name!r} is no plain name of a bundle's folder.")
            bundle_dir = self.bundles_dir / request.model / request.version
            bundle = require_readable(load_bundle(bundle_dir, self.public_key, SlideCard))
            if bundle.digest != request.bundle:
                raise BundleError(
                    f"{bundle_dir}: its digest is {bundle.digest[:12]}…; the slide was begun with {request.bundle[:12]}…. "
                    "Put that bundle back."
                )
            int8 = self.int8 and select_provider(self.device) == "CPUExecutionProvider"
            graph = TileGraph(select_tile_graph(bundle, int8), 1, self.device)
            if not graph.has_distance:
                raise BundleError(f"{bundle_dir}: its graph tells no distances. Train it anew.")
            self._models[request.bundle] = _LoadedModel(bundle, graph)
            while len(self._models) > MAX_LOADED_MODELS:
                self._models.popitem(last=False)
            return self._models[request.bundle]

    # --- slides held open

    @contextmanager
    def _open_slide(self, request: TileRequest) -> Iterator[Slide]:
        path = (self.slides_dir / request.path).resolve()
        if not path.is_relative_to(self.slides_dir.resolve()):
            raise ValueError(f"{request.path!r} lies outside the slides' folder; a slide inside it is needed.")
        key = (str(path), request.mpp)
        self.close_idle()
        with self._lock:
            open_slide = self._open_slides.pop(key, None) or _SlideHandle(sandbox.open_slide(path, request.mpp))
            self._open_slides[key] = open_slide  # the last used stands last
            open_slide.users += 1
        try:
            yield open_slide.slide
        except SlideError:
            open_slide.broken = True  # its process may be gone; the next question starts another
            raise
        finally:
            with self._lock:
                open_slide.users -= 1
                open_slide.last_used = time.monotonic()
                if open_slide.broken and self._open_slides.get(key) is open_slide:
                    del self._open_slides[key]
                if open_slide.broken and not open_slide.users:
                    open_slide.slide.close()
            self.close_idle()

    def close_idle(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """Close what nobody uses: idle for `after` seconds, or more than may be open, the longest unused first."""
        with self._lock:
            for key, open_slide in list(self._open_slides.items()):
                expired = time.monotonic() - open_slide.last_used > idle_seconds
                if not open_slide.users and (expired or len(self._open_slides) > self.max_open_slides):
                    del self._open_slides[key]
                    open_slide.slide.close()

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
        with self._lock:
            for open_slide in self._open_slides.values():
                open_slide.slide.close()
            self._open_slides.clear()


def _infer_batch(model: _LoadedModel, tiles: Pixels) -> TileOutputs:
    reasons = assess_tiles(tiles)
    fit = np.flatnonzero(reasons == "")
    logits = np.zeros((len(tiles), len(model.bundle.card.classes)), np.float32)
    distance = np.full(len(tiles), np.nan, np.float32)
    embedding = np.zeros((len(tiles), model.graph.embedding_size), np.float16)
    if len(fit):
        outputs = model.graph.run(tiles[fit] if len(fit) < len(tiles) else tiles)
        assert outputs.distance is not None, "a graph that tells none is refused when it is loaded"
        logits[fit], distance[fit], embedding[fit] = outputs.logits, outputs.distance, outputs.embedding
    return TileOutputs(reasons, logits, embedding, distance)


def available_cpus() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _SlideHandle:
    slide: Slide
    users: int = 0
    last_used: float = 0.0
    broken: bool = False


def _decode_ahead(slide: Slide, request: TileRequest, tile_side: int, batch_size: int) -> Generator[Pixels]:
    """Handfuls of tiles in order, (n, side, side, 3), decoded in a thread while the one before is worked on."""
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
        except BaseException as error:  # told where the tiles are awaited
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


def parse_request(payload: dict[str, Any]) -> TileRequest:
    """From JSON. Raises ValueError, KeyError or TypeError for what is no such question."""
    positions = np.asarray(payload["places"], np.int64).reshape(-1, 2)
    if not len(positions):
        raise ValueError("no place is asked for; one at least is needed")
    x, y = payload["mpp"]
    tile_width, tile_height = payload["extent"]
    return TileRequest(
        str(payload["path"]),
        (float(x), float(y)),
        positions,
        (float(tile_width), float(tile_height)),
        str(payload["model"]),
        str(payload["version"]),
        str(payload["bundle"]),
    )
