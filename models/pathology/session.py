"""The exported graphs, as a service runs them: numpy and ONNX Runtime, never torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 32  # tiles in one run: more gains nothing on a CPU and takes memory


def session(graph: bytes, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU, so far the one provider tried."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # must stand before the first import
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True, slots=True)
class Tiles:
    """What the network says of n tiles."""

    logits: NDArray[np.float32]  # (n, classes)
    embedding: NDArray[np.float32]  # (n, d)
    distance: NDArray[np.float32] | None = None  # (n,) to what was learned from, where the graph knows it

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, classes), not yet calibrated."""
        return softmax(self.logits)


class TileGraph:
    """tiles (n, side, side, 3) uint8 RGB -> Tiles."""

    def __init__(self, graph: bytes, threads: int = 1):
        self._session = session(graph, threads)
        _, self.side, _, _ = self._session.get_inputs()[0].shape
        told = {output.name for output in self._session.get_outputs()}
        self._outputs = [name for name in ("logits", "embedding", "distance") if name in told]

    def run(self, tiles: NDArray[np.uint8]) -> Tiles:
        """Raises ValueError for tiles of another shape or type: a wrong scale must not pass for an answer."""
        if tiles.ndim != 4 or tiles.shape[1:] != (self.side, self.side, 3) or tiles.dtype != np.uint8 or not len(tiles):
            raise ValueError(
                f"The tiles are {tiles.shape} {tiles.dtype}; (n, {self.side}, {self.side}, 3) uint8 RGB, one at least, "
                "is needed. Read the slide at the scale that the model's card names."
            )
        found = [
            self._session.run(self._outputs, {"tiles": np.ascontiguousarray(tiles[start : start + BATCH])})
            for start in range(0, len(tiles), BATCH)
        ]
        return Tiles(*(np.concatenate(part) for part in zip(*found, strict=True)))


class SlideGraph:
    """embeddings (k, d) float32 of one slide -> logits (classes,), attention (k,)."""

    def __init__(self, graph: bytes, threads: int = 1):
        self._session = session(graph, threads)

    def run(self, embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if embeddings.ndim != 2 or not len(embeddings):
            raise ValueError(f"The embeddings are {embeddings.shape}; (tiles, d) with at least one tile is needed.")
        logits, attention = self._session.run(["logits", "attention"], {"embeddings": embeddings})
        return logits, attention


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Over the last axis, without overflow."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(-1, keepdims=True)
    return probabilities
