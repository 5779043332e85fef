"""Run the exported graphs in a service, with numpy and ONNX Runtime and without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_SIZE = 32  # tiles in one run: more gains nothing on a CPU and takes memory


PROVIDERS = {  # device -> ONNX Runtime's providers, the first that is there
    "cuda": ("CUDAExecutionProvider",),
    "openvino": ("OpenVINOExecutionProvider",),
    "cpu": ("CPUExecutionProvider",),
    "auto": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}


def select_provider(device: str) -> str:
    """The provider of a device of PROVIDERS. Raises ValueError if this machine's ONNX Runtime has none."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # must stand before the first import
    import onnxruntime

    available = onnxruntime.get_available_providers()
    for candidate in PROVIDERS[device]:
        if candidate in available:
            return candidate
    raise ValueError(
        f"The device is {device!r}; this ONNX Runtime has {', '.join(available)}. Install one that has "
        f'{PROVIDERS[device][0]}, or say "auto".'
    )


def open_session(graph: bytes, threads: int = 1, device: str = "cpu") -> Any:
    """An ONNX Runtime session. Operators without a GPU implementation run on the CPU."""
    provider = select_provider(device)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        graph, options, providers=list(dict.fromkeys([provider, "CPUExecutionProvider"]))
    )


@dataclass(frozen=True, slots=True)
class TileOutputs:
    """The outputs of the network for n tiles."""

    logits: NDArray[np.float32]  # (n, classes)
    embedding: NDArray[np.float32]  # (n, d)
    distance: NDArray[np.float32] | None = None  # (n,) to what was learned from, where the graph knows it

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, classes), not yet calibrated."""
        return softmax(self.logits)


class TileGraph:
    """tiles (n, side, side, 3) uint8 RGB -> TileOutputs."""

    def __init__(self, graph: bytes, threads: int = 1, device: str = "cpu"):
        self._session = open_session(graph, threads, device)
        _, self.side, _, _ = self._session.get_inputs()[0].shape
        output_names = {output.name for output in self._session.get_outputs()}
        self.has_distance = "distance" in output_names  # how far a tile is from what was learned from
        self.embedding_size = next(
            output.shape[1] for output in self._session.get_outputs() if output.name == "embedding"
        )
        self._outputs = [name for name in ("logits", "embedding", "distance") if name in output_names]

    def run(self, tiles: NDArray[np.uint8]) -> TileOutputs:
        """Run the network. Raises ValueError for tiles of another shape or type."""
        if tiles.ndim != 4 or tiles.shape[1:] != (self.side, self.side, 3) or tiles.dtype != np.uint8 or not len(tiles):
            raise ValueError(
                f"The tiles are {tiles.shape} {tiles.dtype}; (n, {self.side}, {self.side}, 3) uint8 RGB, one at least, "
                "is needed. Read the slide at the scale that the model's card names."
            )
        batches = [
            self._session.run(self._outputs, {"tiles": np.ascontiguousarray(tiles[start : start + BATCH_SIZE])})
            for start in range(0, len(tiles), BATCH_SIZE)
        ]
        return TileOutputs(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))


class SlideGraph:
    """embeddings (k, d) float32 of one slide -> logits (classes,), attention (k,)."""

    def __init__(self, graph: bytes, threads: int = 1):
        self._session = open_session(graph, threads)

    def run(self, embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.run_chunks([embeddings])

    def run_chunks(self, chunks: Iterable[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same for a slide of any size, given in chunks: their weighted sums add up to that of the whole.

        The logits are linear in that sum, and its bias counts once, as the chunks' shares sum to 1.
        """
        logits: list[NDArray[np.float32]] = []
        attention: list[NDArray[np.float32]] = []
        masses: list[NDArray[np.float32]] = []
        for chunk in chunks:
            if chunk.ndim != 2 or not len(chunk):
                raise ValueError(f"The embeddings are {chunk.shape}; (tiles, d) with at least one tile is needed.")
            outputs = self._session.run(["logits", "attention", "mass"], {"embeddings": chunk})
            for values, value in zip((logits, attention, masses), outputs, strict=True):
                values.append(value)
        if not masses:
            raise ValueError("No embedding came; at least one tile is needed.")
        shares = softmax(np.array(masses).reshape(-1)).astype(np.float32)
        full_attention = np.concatenate([share * chunk for share, chunk in zip(shares, attention, strict=True)])
        return (shares[:, None] * np.stack(logits)).sum(0), full_attention


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Over the last axis, without overflow."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(-1, keepdims=True)
    return probabilities
