"""Indicators into the store, by the subject's id: what a bank knows of a household or company before it asks.

python -m serving load-subjects applicants.csv --table county
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from datasets import sources
from datasets.faults import DataError
from datasets.table import Table, read, table_from_toml
from serving.call import now
from serving.store.engine import open_store, unavailable
from serving.store.tables import SUBJECTS

HELD_BACK = ("target", "leak", "weight", "id", "time", "group")  # roles that are no indicator of a subject
PER_STATEMENT = 5_000


def contract(name: str) -> Table:
    """A table of the project by its name, or a contract written as TOML."""
    if name.endswith(".toml"):
        return table_from_toml(name)
    table: Table = sources.source(name).TABLE
    return table


def product_of(name: str) -> str:
    """Whose subjects a table of the project holds, or a contract written as TOML: the credit limit's."""
    return next((product for product in sources.PRODUCTS if name in sources.names(product)), "credit_limit")


def load_subjects(file: Path, table: Table, store: Path | str, patience: float, product: str = "credit_limit") -> int:
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
        "product": product,
        "source": file.name,
        "source_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "simulated": table.origin.simulated,
        "loaded": now(),
    }
    engine = open_store(store, patience)
    try:
        with engine.begin() as connection:
            for part in frame.iter_slices(PER_STATEMENT):
                replace(connection, list(rows(part, table)), made)
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error
    finally:
        engine.dispose()
    return frame.height


def rows(frame: pl.DataFrame, table: Table) -> Iterator[dict[str, Any]]:
    """id and indicators, as SUBJECTS has them, of each row of a conformed table."""
    [name] = [column.name for column in table.role("id")]
    kept = [column.name for column in table.columns if column.role not in HELD_BACK and column.derived is None]
    integers = [column.name for column in table.columns if column.integer and column.name in kept]
    values = frame.select(kept).with_columns(pl.col(integers).cast(pl.Int64))
    for subject, row in zip(frame[name], values.iter_rows(named=True), strict=True):
        yield {"id": subject, "indicators": orjson.dumps({k: v for k, v in row.items() if v is not None})}


def replace(connection: sa.Connection, found: list[dict[str, Any]], made: dict[str, Any]) -> None:
    """`found`: of `rows`; `made`: the other columns of SUBJECTS, `product` among them."""
    ids = [row["id"] for row in found]
    connection.execute(sa.delete(SUBJECTS).where(SUBJECTS.c.product == made["product"], SUBJECTS.c.id.in_(ids)))
    connection.execute(sa.insert(SUBJECTS), [row | made for row in found])
