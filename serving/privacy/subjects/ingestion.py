"""Import files of indicators into the store, by subject id.

python -m serving load-subjects applicants.csv --table county
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from datasets import catalog
from datasets.errors import DataError, FieldError, InvalidTableError, did_you_mean
from datasets.files.external_files import file_sha256
from datasets.schema import TableSchema, load_table_schema
from datasets.validation import MAX_ERRORS, read_table
from serving.core.db.engine import open_store, to_store_error
from serving.core.identifiers import utc_now
from serving.privacy.subjects.indicators import GroupValues, IndicatorSource, columns_by_group, insert, parse_day
from serving.privacy.subjects.vault import Vault, bind_store

log = logging.getLogger("yuheng.vault")

ROWS_PER_STATEMENT = 1_000


def load_contract(name: str) -> TableSchema:
    """A table schema by name, or from a TOML file."""
    if name.endswith(".toml"):
        return load_table_schema(name)
    table: TableSchema = catalog.load_source(name).TABLE
    return table


def product_for_table(name: str) -> str:
    """The product whose subjects a table holds; credit_limit for a schema from a TOML file."""
    return next((product for product in catalog.PRODUCTS if name in catalog.source_modules(product)), "credit_limit")


def load_subjects(
    file: Path,
    table: TableSchema,
    store: Path | str,
    lock_timeout: float,
    vault: Vault,
    product: str = "credit_limit",
    true_at: str | None = None,
) -> int:
    """Import a file and return its number of subjects. One transaction: all rows, or none.

    lock_timeout: seconds. true_at: the day that the file describes where it has no such column; today by default.
    Raises DataError, StoreUnavailableError, VaultKeyError.
    """
    return _store_frame(
        read_table(file, table), file, table, store, lock_timeout, vault, product, true_at, None, file.name
    )


def _store_frame(
    frame: pl.DataFrame,
    file: Path,
    table: TableSchema,
    store: Path | str,
    lock_timeout: float,
    vault: Vault,
    product: str,
    true_at: str | None,
    only_groups: Sequence[str] | None,
    source_name: str,
) -> int:
    rows = list(rows_by_group(frame, table, file.name, _parse_as_of(true_at), only_groups))
    source = IndicatorSource(product, source_name, file_sha256(file), table.origin.simulated, utc_now())
    engine = open_store(store, lock_timeout)
    try:
        with engine.begin() as connection:
            bind_store(connection, vault)
            count = sum(
                insert(connection, vault, rows[offset : offset + ROWS_PER_STATEMENT], source)
                for offset in range(0, len(rows), ROWS_PER_STATEMENT)
            )
    except sa.exc.SQLAlchemyError as error:
        raise to_store_error(error) from error
    finally:
        engine.dispose()
    if erased := frame.height - count:
        log.warning("%s: %d subjects were erased and are left out", file.name, erased)
    return count


def import_indicators(
    file: Path, table: TableSchema, store: Path | str, lock_timeout: float, vault: Vault, product: str, department: str,
    groups: Sequence[str], true_at: str | None = None,
) -> int:  # fmt: skip
    """Import a department's file with its own groups only, and return its number of subjects. Reports all faults
    together. Raises as `load_subjects`."""
    group_columns = columns_by_group(table)
    if unknown := [
        f"{group!r}{did_you_mean(group, list(group_columns))}" for group in groups if group not in group_columns
    ]:
        raise DataError(f"{table.name} has no group {', '.join(unknown)}. Its groups are {', '.join(group_columns)}.")
    own_columns = {name for group in groups for name in group_columns[group]}
    columns = tuple(column for column in table.columns if column.name in own_columns or column.role in ("id", "time"))
    department_table = TableSchema(
        name=f"{table.name} ({', '.join(groups)})", columns=columns, origin=table.origin, missing=table.missing
    )
    frame = read_table(file, department_table)
    return _store_frame(
        frame, file, department_table, store, lock_timeout, vault, product, true_at, groups, f"{department}/{file.name}"
    )


def rows_by_group(
    frame: pl.DataFrame, table: TableSchema, file: str, true_at: str, only_groups: Sequence[str] | None = None
) -> Iterator[tuple[str, str, GroupValues]]:
    """(id, day that it describes, groups) of each row of a validated table, without the groups that are empty.

    only_groups: exactly these groups, even if they are empty. Raises DataError with all faults before the first row.
    """
    ids, times = table.columns_with_role("id"), table.columns_with_role("time")
    if len(ids) != 1:
        raise DataError(f"{table.name}: {len(ids)} columns have the role 'id'; exactly one must name the subjects.")
    subject_ids = frame[ids[0].name]
    if subject_ids.null_count():
        raise DataError(f"{file}: {subject_ids.null_count():,} rows have no {ids[0].name}; each needs one.")
    if subject_ids.n_unique() != frame.height:
        repeated = frame.height - subject_ids.n_unique()
        raise DataError(f"{file}: {repeated:,} rows repeat a {ids[0].name}; each may occur once.")
    days = [true_at] * frame.height
    if times and frame[times[0].name].null_count() < frame.height:
        days = _parse_days(frame[times[0].name], file, true_at)
    group_values = _values_by_group(frame, table, only_groups)
    for subject, as_of, *values in zip(subject_ids, days, *group_values.values(), strict=True):
        yield subject, as_of, dict(zip(group_values, values, strict=True))


def _values_by_group(
    frame: pl.DataFrame, table: TableSchema, only_groups: Sequence[str] | None
) -> dict[str, list[dict[str, object]]]:
    """Group -> its values, one dict per row."""
    integer_columns = {column.name for column in table.columns if column.integer}
    result = {}
    for group, names in columns_by_group(table).items():
        present = [name for name in names if frame[name].null_count() < frame.height]
        if present if only_groups is None else group in only_groups:
            values = frame.select(
                pl.col(name).cast(pl.Int64) if name in integer_columns else pl.col(name) for name in present
            )
            result[group] = values.to_dicts() if present else [{}] * frame.height
    return result


def _parse_as_of(true_at: str | None) -> str:
    if true_at is None:
        return f"{datetime.now(UTC):%Y-%m-%d}"
    try:
        return parse_day(true_at)
    except ValueError as error:
        raise DataError(f"--true-at is {true_at!r}; expected a day or month such as 2026-06-30 or 2026-06.") from error


def _parse_days(column: pl.Series, file: str, default: str) -> list[str]:
    days, faults = [], []
    for row, text in enumerate(column, 1):
        try:
            days.append(default if text is None else parse_day(text))
        except ValueError:
            expected = ("a day or month such as 2026-06-30 or 2026-06", "日期或月份，如 2026-06-30 或 2026-06")
            faults.append(FieldError(column.name, repr(text[:40]), *expected, row, file))
    if faults:
        raise InvalidTableError(faults[:MAX_ERRORS], len(faults))
    return days
