"""How rows of a batch are stored, and how one is written as JSON."""

from __future__ import annotations

import io

import polars as pl


def pack(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc(out, compression="zstd")
    return out.getvalue()


def decode_frame(content: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(content))


def row_json(frame: pl.DataFrame, batch_id: str) -> list[bytes]:
    """Each row as JSON: what is hashed into its receipt, and what is answered when it is asked for by its id."""
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
