"""Indicators into the store, by the subject's id: what a bank knows of a household before the household asks.

python -m serving load-subjects applicants.csv --table county
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from datasets.faults import DataError
from datasets.sources import source
from datasets.table import Table, read, table_from_toml
from serving.runtime import now
from serving.store.engine import open_store
from serving.store.tables import SUBJECTS

HELD_BACK = ("target", "leak", "weight", "id", "time", "group")  # roles that are no indicator of a subject
PER_STATEMENT = 5_000


def contract(name: str) -> Table:
    """A table of the project by its name, or a contract written as TOML."""
    if name.endswith(".toml"):
        return table_from_toml(name)
    table: Table = source(name).TABLE
    return table


def load_subjects(file: Path, table: Table, store: Path, patience: float) -> int:
    """How many subjects the file brought; one that was there before is replaced. All of the file, or nothing of it."""
    ids = table.role("id")
    if len(ids) != 1:
        raise DataError(f"{table.name}: {len(ids)} columns have the role 'id'; exactly one must, to name the subjects.")
    frame = read(file, table)
    told = frame[ids[0].name]
    if told.null_count():
        raise DataError(f"{file.name}: {told.null_count():,} rows have no {ids[0].name}; each needs one.")
    if told.n_unique() != frame.height:
        raise DataError(
            f"{file.name}: {frame.height - told.n_unique():,} rows repeat a {ids[0].name}; each may stand once."
        )
    made = {
        "source": file.name,
        "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "simulated": table.origin.simulated,
        "loaded": now(),
    }
    kept = [column.name for column in table.columns if column.role not in HELD_BACK]
    integers = [column.name for column in table.columns if column.integer and column.name in kept]
    values = frame.select(kept).with_columns(pl.col(integers).cast(pl.Int64))
    rows: list[dict[str, Any]] = [
        {"id": name, "indicators": orjson.dumps({k: v for k, v in row.items() if v is not None}), **made}
        for name, row in zip(told.to_list(), values.iter_rows(named=True), strict=True)
    ]
    engine = open_store(store, patience)
    try:
        with engine.begin() as connection:
            for start in range(0, len(rows), PER_STATEMENT):
                part = rows[start : start + PER_STATEMENT]
                connection.execute(sa.delete(SUBJECTS).where(SUBJECTS.c.id.in_([row["id"] for row in part])))
                connection.execute(sa.insert(SUBJECTS), part)
    finally:
        engine.dispose()
    return len(rows)
