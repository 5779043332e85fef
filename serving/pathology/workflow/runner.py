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
from datasets.slides.errors import SlideRefused
from datasets.slides.quality import judge_tiles
from datasets.slides.reader import Pixels, Slide
from datasets.slides.tiling import read_places
from models.bundle import Bundle, BundleRefused, load
from models.pathology.card import SlideCard, readable, tile_graph
from models.pathology.onnx_sessions import TileGraph, provider
from serving.settings import Settings

HANDFUL = 16, 32  # tiles, on a CPU (as fast as more, and at a batch's end no core waits long) and on a GPU
AHEAD = 2  # handfuls decoded before the network asks for them
IDLE = 60.0  # seconds until a slide that nobody reads is closed
GRAPHS = 2  # bundles held: the one that serves, and the one before it


@dataclass(frozen=True, slots=True)
class Asked:
    """path: of the stripped slide, below the slides' folder. places: (n, 2) left, top in level-0 pixels.

    extent: level-0 pixels that a tile covers. model, version, bundle: what it is read with, and its digest.
    """

    path: str
    mpp: tuple[float, float]
    places: NDArray[np.int64]
    extent: tuple[float, float]
    model: str
    version: str
    bundle: str


@dataclass(frozen=True, slots=True)
class Said:
    """Of n tiles; logits and embedding are 0 and the distance NaN where a tile is unfit and no network saw it."""

    reasons: NDArray[np.str_]  # (n,) "", blank, pen or focus
    logits: NDArray[np.float32]  # (n, classes)
    embedding: NDArray[np.float16]  # (n, d)
    distance: NDArray[np.float32]  # (n,)

    def packed(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, reasons=self.reasons, logits=self.logits, embedding=self.embedding, distance=self.distance)
        return buffer.getvalue()

    @classmethod
    def unpacked(cls, content: bytes | Path) -> Said:
        with np.load(io.BytesIO(content) if isinstance(content, bytes) else content, allow_pickle=False) as found:
            return cls(found["reasons"], found["logits"], found["embedding"], found["distance"])


@dataclass
class _Graph:
    bundle: Bundle[SlideCard]
    graph: TileGraph


class Runner:
    """Answers from several threads; `hands` handfuls of tiles are in the network at a time, whoever asked."""

    def __init__(self, settings: Settings):
        told = settings.reader
        self.bundles, self.public_key = settings.paths.bundles, settings.paths.public_key
        self.slides = settings.paths.slides
        self.device = told.device
        self.int8 = told.int8
        # On a CPU each core has a handful of its own: cores that share one wait for each other.
        cpu = provider(told.device) == "CPUExecutionProvider"
        self.hands, self.handful = (told.threads or cores(), HANDFUL[0]) if cpu else (1, HANDFUL[1])
        self._pool = ThreadPoolExecutor(self.hands, "network")
        self.most_open = told.open_slides
        self._graphs: OrderedDict[str, _Graph] = OrderedDict()
        self._open: OrderedDict[tuple[str, tuple[float, float]], _Open] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, asked: Asked) -> Said:
        """Raises SlideRefused where the slide cannot be decoded, BundleRefused where the bundle is another."""
        held = self._graph(asked)
        return sandbox.again(lambda: self._read(held, asked))

    def _read(self, held: _Graph, asked: Asked) -> Said:
        under_way: deque[Future[Said]] = deque()
        said: list[Said] = []
        with (
            self._slide(asked) as slide,
            closing(_ahead(slide, asked, held.bundle.card.side, self.handful)) as handfuls,
        ):
            for tiles in handfuls:
                under_way.append(self._pool.submit(_see, held, tiles))
                if len(under_way) > self.hands:
                    said.append(under_way.popleft().result())
        said += [one.result() for one in under_way]
        return Said(*(np.concatenate([getattr(one, name) for one in said]) for name in Said.__slots__))

    def _graph(self, asked: Asked) -> _Graph:
        with self._lock:
            if asked.bundle in self._graphs:
                self._graphs.move_to_end(asked.bundle)
                return self._graphs[asked.bundle]
            for name in (asked.model, asked.version):
                if Path(name).name != name:
                    raise BundleRefused(f"{name!r} is no plain name of a bundle's folder.")
            folder = self.bundles / asked.model / asked.version
            bundle = readable(load(folder, self.public_key, SlideCard))
            if bundle.digest != asked.bundle:
                raise BundleRefused(
                    f"{folder}: its digest is {bundle.digest[:12]}…; the slide was begun with {asked.bundle[:12]}…. "
                    "Put that bundle back."
                )
            small = self.int8 and provider(self.device) == "CPUExecutionProvider"
            graph = TileGraph(tile_graph(bundle, small), 1, self.device)
            if not graph.knows:
                raise BundleRefused(f"{folder}: its graph tells no distances. Train it anew.")
            self._graphs[asked.bundle] = _Graph(bundle, graph)
            while len(self._graphs) > GRAPHS:
                self._graphs.popitem(last=False)
            return self._graphs[asked.bundle]

    # --- slides held open

    @contextmanager
    def _slide(self, asked: Asked) -> Iterator[Slide]:
        path = (self.slides / asked.path).resolve()
        if not path.is_relative_to(self.slides.resolve()):
            raise ValueError(f"{asked.path!r} lies outside the slides' folder; a slide inside it is needed.")
        key = (str(path), asked.mpp)
        self.close_idle()
        with self._lock:
            held = self._open.pop(key, None) or _Open(sandbox.open_slide(path, asked.mpp))
            self._open[key] = held  # the last used stands last
            held.users += 1
        try:
            yield held.slide
        except SlideRefused:
            held.broken = True  # its process may be gone; the next question starts another
            raise
        finally:
            with self._lock:
                held.users -= 1
                held.used = time.monotonic()
                if held.broken and self._open.get(key) is held:
                    del self._open[key]
                if held.broken and not held.users:
                    held.slide.close()
            self.close_idle()

    def close_idle(self, after: float = IDLE) -> None:
        """Close what nobody uses: idle for `after` seconds, or more than may be open, the longest unused first."""
        with self._lock:
            for key, held in list(self._open.items()):
                old = time.monotonic() - held.used > after
                if not held.users and (old or len(self._open) > self.most_open):
                    del self._open[key]
                    held.slide.close()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        with self._lock:
            for held in self._open.values():
                held.slide.close()
            self._open.clear()


def _see(held: _Graph, tiles: Pixels) -> Said:
    reasons = judge_tiles(tiles)
    fit = np.flatnonzero(reasons == "")
    logits = np.zeros((len(tiles), len(held.bundle.card.classes)), np.float32)
    distance = np.full(len(tiles), np.nan, np.float32)
    embedding = np.zeros((len(tiles), held.graph.width), np.float16)
    if len(fit):
        found = held.graph.run(tiles[fit] if len(fit) < len(tiles) else tiles)
        assert found.distance is not None, "a graph that tells none is refused when it is loaded"
        logits[fit], distance[fit], embedding[fit] = found.logits, found.distance, found.embedding
    return Said(reasons, logits, embedding, distance)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Open:
    slide: Slide
    users: int = 0
    used: float = 0.0
    broken: bool = False


def _ahead(slide: Slide, asked: Asked, side: int, handful: int) -> Generator[Pixels]:
    """Handfuls of tiles in order, (n, side, side, 3), decoded in a thread while the one before is worked on."""
    ready: queue.Queue[Pixels | BaseException | None] = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()

    def offer(found: Pixels | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(found, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def decode() -> None:
        try:
            for start in range(0, len(asked.places), handful):
                part = asked.places[start : start + handful]
                if not offer(read_places(slide, part, asked.extent, (side, side))):
                    return
            offer(None)
        except BaseException as error:  # told where the tiles are awaited
            offer(error)

    thread = threading.Thread(target=decode, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
        thread.join()


def asked_of(told: dict[str, Any]) -> Asked:
    """From JSON. Raises ValueError, KeyError or TypeError for what is no such question."""
    places = np.asarray(told["places"], np.int64).reshape(-1, 2)
    if not len(places):
        raise ValueError("no place is asked for; one at least is needed")
    x, y = told["mpp"]
    across, down = told["extent"]
    return Asked(
        str(told["path"]),
        (float(x), float(y)),
        places,
        (float(across), float(down)),
        str(told["model"]),
        str(told["version"]),
        str(told["bundle"]),
    )
