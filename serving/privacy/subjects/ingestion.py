"""Indicators into the store, by the subject's id: what a bank knows of a household or company before it asks.

python -m serving load-subjects applicants.csv --table county
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from datasets import catalog
from datasets.errors import DataError, Fault, Faults
from datasets.external_files import digest
from datasets.schema import MOST_FAULTS, Table, nearest, read, table_from_toml
from serving.core.db.engine import open_store, unavailable
from serving.core.identifiers import now
from serving.privacy.subjects.indicators import Groups, Made, day, groups_of, put
from serving.privacy.subjects.vault import Vault, claim

PER_STATEMENT = 1_000


def contract(name: str) -> Table:
    """A table of the project by its name, or a contract written as TOML."""
    if name.endswith(".toml"):
        return table_from_toml(name)
    table: Table = catalog.source(name).TABLE
    return table


def product_of(name: str) -> str:
    """Whose subjects a table of the project holds, or a contract written as TOML: the credit limit's."""
    return next((product for product in catalog.PRODUCTS if name in catalog.names(product)), "credit_limit")


def load_subjects(
    file: Path,
    table: Table,
    store: Path | str,
    patience: float,
    vault: Vault,
    product: str = "credit_limit",
    true_at: str | None = None,
) -> int:
    """How many subjects the file brought. All of the file, or nothing of it.

    true_at: the day of which it tells, where the file does not say; else today.
    """
    return _put(read(file, table), file, table, store, patience, vault, product, true_at, None, file.name)


def _put(
    frame: pl.DataFrame, file: Path, table: Table, store: Path | str, patience: float, vault: Vault, product: str,
    true_at: str | None, only: Sequence[str] | None, source: str,
) -> int:  # fmt: skip
    rows = list(told(frame, table, file.name, _given(true_at), only))
    made = Made(product, source, digest(file), table.origin.simulated, now())
    engine = open_store(store, patience)
    try:
        with engine.begin() as connection:
            claim(connection, vault)
            for at in range(0, len(rows), PER_STATEMENT):
                put(connection, vault, rows[at : at + PER_STATEMENT], made)
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error
    finally:
        engine.dispose()
    return frame.height


def ingest(
    file: Path, table: Table, store: Path | str, patience: float, vault: Vault, product: str, department: str,
    groups: Sequence[str], true_at: str | None = None,
) -> int:  # fmt: skip
    """A department's file: of its groups and of no other, all faults told together. How many subjects it brought."""
    known = groups_of(table)
    if unknown := [f"{one!r}{nearest(one, list(known))}" for one in groups if one not in known]:
        raise DataError(f"{table.name} has no group {', '.join(unknown)}. It has: {', '.join(known)}.")
    own = {name for group in groups for name in known[group]}
    columns = tuple(column for column in table.columns if column.name in own or column.role in ("id", "time"))
    theirs = Table(
        name=f"{table.name} ({', '.join(groups)})", columns=columns, origin=table.origin, missing=table.missing
    )
    frame = read(file, theirs)
    return _put(frame, file, theirs, store, patience, vault, product, true_at, groups, f"{department}/{file.name}")


def told(
    frame: pl.DataFrame, table: Table, file: str, true_at: str, only: Sequence[str] | None = None
) -> Iterator[tuple[str, str, Groups]]:
    """(id, true at, groups) of each row of a conformed table; a group of which it says nothing is left as it is.

    Raises DataError before the first row, with all that is wrong.

    only: these groups, whether or not the table knows anything of them, and no other.
    """
    ids, times = table.role("id"), table.role("time")
    if len(ids) != 1:
        raise DataError(f"{table.name}: {len(ids)} columns have the role 'id'; exactly one must, to name the subjects.")
    named = frame[ids[0].name]
    if named.null_count():
        raise DataError(f"{file}: {named.null_count():,} rows have no {ids[0].name}; each needs one.")
    if named.n_unique() != frame.height:
        twice = frame.height - named.n_unique()
        raise DataError(f"{file}: {twice:,} rows repeat a {ids[0].name}; each may stand once.")
    days = [true_at] * frame.height
    if times and frame[times[0].name].null_count() < frame.height:
        days = _days(frame[times[0].name], file, true_at)
    parts = _parts(frame, table, only)
    for subject, when, *values in zip(named, days, *parts.values(), strict=True):
        yield subject, when, dict(zip(parts, values, strict=True))


def _parts(frame: pl.DataFrame, table: Table, only: Sequence[str] | None) -> dict[str, list[dict[str, object]]]:
    """Group -> its values, a dict a row."""
    whole = {column.name for column in table.columns if column.integer}
    found = {}
    for group, names in groups_of(table).items():
        given = [name for name in names if frame[name].null_count() < frame.height]
        if given if only is None else group in only:
            values = frame.select(pl.col(name).cast(pl.Int64) if name in whole else pl.col(name) for name in given)
            found[group] = values.to_dicts() if given else [{}] * frame.height
    return found


def _given(true_at: str | None) -> str:
    if true_at is None:
        return f"{datetime.now(UTC):%Y-%m-%d}"
    try:
        return day(true_at)
    except ValueError as error:
        raise DataError(f"--true-at is {true_at!r}; a day or month is needed, as 2026-06-30 or 2026-06.") from error


def _days(column: pl.Series, file: str, otherwise: str) -> list[str]:
    days, faults = [], []
    for row, found in enumerate(column, 1):
        try:
            days.append(otherwise if found is None else day(found))
        except ValueError:
            needed = ("a day or month, as 2026-06-30 or 2026-06", "日期或月份，如 2026-06-30 或 2026-06")
            faults.append(Fault(column.name, repr(found[:40]), *needed, row, file))
    if faults:
        raise Faults(faults[:MOST_FAULTS], len(faults))
    return days
