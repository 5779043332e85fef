"""Encode the rows of a batch for the store, and as JSON."""

from __future__ import annotations

import io

import polars as pl


def pack(frame: pl.DataFrame) -> bytes:
    """Arrow IPC, compressed with zstd."""
    out = io.BytesIO()
    frame.write_ipc(out, compression="zstd")
    return out.getvalue()


def decode_frame(content: bytes) -> pl.DataFrame:
    """The rows in the content of a chunk."""
    return pl.read_ipc(io.BytesIO(content))


def row_json(frame: pl.DataFrame, batch_id: str) -> list[bytes]:
    """Each row as JSON: the bytes that its receipt proves and that GET /v1/decisions/{id} returns."""
    model = pl.struct(name="model", version="version", bundle="bundle").alias("model")
    rows = frame.select(
        pl.col("decision_id"),
        pl.lit(batch_id).alias("batch_id"),
        pl.exclude("decision_id", "model", "version", "bundle"),
        model,
    )
    out = io.BytesIO()
    rows.write_ndjson(out)
    return out.getvalue().split(b"\n")[: frame.height]
