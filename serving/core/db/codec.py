"""How rows of a batch are stored, and how one is written as JSON."""

from __future__ import annotations

import io

import polars as pl


def pack(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc(out, compression="zstd")
    return out.getvalue()


def unpack(content: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(content))


def lines(frame: pl.DataFrame, batch: str) -> list[bytes]:
    """Each row as JSON: what is hashed into its receipt, and what is answered when it is asked for by its id."""
    maker = pl.struct(name="model", version="version", bundle="bundle").alias("model")
    told = frame.select(
        pl.col("decision_id"),
        pl.lit(batch).alias("batch_id"),
        pl.exclude("decision_id", "model", "version", "bundle"),
        maker,
    )
    out = io.BytesIO()
    told.write_ndjson(out)
    return out.getvalue().split(b"\n")[: frame.height]
