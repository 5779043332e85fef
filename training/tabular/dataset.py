"""Read the table that a config names, and split its rows into training and held-out ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets import catalog
from datasets.errors import DataError, did_you_mean
from datasets.export import manifest
from datasets.leakage import Leak, find_leaks
from datasets.schema import TableSchema
from datasets.splits import Split, split_groups, split_rows, split_time
from models.card import DatasetInfo
from training.tabular.config import TabularConfig
from training.tabular.user_table import UserTable, read_user_table


@dataclass(frozen=True)
class Dataset:
    """A table whose rows all conform to its schema and have a known outcome.

    user_table: what was inferred about it, where it is the owner's. leaks: columns that reveal the outcome, or seem to.
    """

    table: TableSchema
    frame: pl.DataFrame
    data: DatasetInfo
    remarks: tuple[str, ...] = ()
    leaks: tuple[Leak, ...] = ()
    user_table: UserTable | None = None

    @property
    def y(self) -> np.ndarray:
        """(rows,) 1 bad, 0 good."""
        return self.frame[self.table.target.name].cast(pl.Float64).to_numpy()


def read(config: TabularConfig) -> Dataset:
    """Read the config's table, without the rows whose outcome is unknown. Raises DataError."""
    remarks: list[str] = []
    format = ""
    loaded_table = None
    if config.table:
        loaded_table = read_user_table(config.table)
        table, frame, remarks = loaded_table.table, loaded_table.frame, loaded_table.all_remarks()
        name, format = config.table.label, loaded_table.format
    else:
        assert config.data is not None
        module = catalog.load_source(config.data.source, config.product)
        table, name = module.TABLE, config.data.source
        is_generated = config.data.file is None and not table.origin.sha256  # its schema describes no particular file
        loaded = module.sample(config.data.rows, config.seed) if is_generated else module.read(config.data.file)
        if isinstance(loaded, pl.DataFrame):
            frame = loaded
        else:  # a register, which has more than a table
            frame, remarks = loaded.frame, [remark.en for remark in loaded.remarks]
            table = table.model_copy(update={"origin": table.origin.model_copy(update={"simulated": loaded.simulated})})
        if is_generated:
            name = f"{name} of {frame.height:,} simulated rows, seed {config.seed}"
        frame = frame.filter(pl.col(table.target.name).is_not_null())
    if table.columns_with_role("weight") or config.half_life:
        remarks.append("Rows are weighted in the fit; the evaluation counts all rows alike.")
    unknown_columns = [column for column in config.leave_out if column not in frame.columns]
    if unknown_columns:
        raise DataError(f"leave_out names {', '.join(unknown_columns)}; {table.name} has no such column.")
    file = config.table.file if config.table else config.data.file if config.data else None
    manifest_entry = None if file is None else manifest.read_manifest(file)  # of a file exported from a store
    data = DatasetInfo(
        name=name,
        rows=frame.height,
        format=format,
        # An exported file is recorded under its own digest, by which an erasure finds the models trained on it.
        sha256=manifest_entry.sha256 if manifest_entry else hashlib.sha256(frame.write_csv().encode()).hexdigest(),
        source=table.origin.source,
        licence=table.origin.licence,
        simulated=table.origin.simulated or bool(manifest_entry and manifest_entry.simulated),
        authorisations=manifest_entry.authorisations if manifest_entry else (),
    )
    leaks = loaded_table.leaks if loaded_table else tuple(find_leaks(frame, table))
    return Dataset(table, frame, data, tuple(remarks), leaks, loaded_table)


def make_split(config: TabularConfig, dataset: Dataset) -> Split:
    """Split the rows as the config says. Nothing is set aside for calibration, which uses out-of-fold scores.

    Raises DataError where the column to split by does not exist.
    """
    split_config = config.split
    shares = (1 - split_config.test, 0.0, split_config.test)
    if split_config.how == "rows":
        return split_rows(dataset.y, config.seed, shares)
    column = split_config.split_column(dataset.table)
    if column is None or column not in dataset.frame.columns:
        raise DataError(
            f"split.column is {split_config.column!r}; a split by {split_config.how} needs a column of "
            f"{dataset.table.name}{did_you_mean(split_config.column or '', dataset.frame.columns)}."
        )
    if split_config.how == "time":
        _check_sortable(dataset, column)
    values = dataset.frame[column].to_numpy()
    return (
        split_groups(values, config.seed, shares, dataset.y)
        if split_config.how == "group"
        else split_time(values, shares, dataset.y)
    )


def _check_sortable(dataset: Dataset, column: str) -> None:
    """Raises DataError where the texts of a time column do not sort as the times follow each other."""
    series = dataset.frame[column]
    if series.dtype != pl.String:
        return
    unsorted = series.filter(~series.str.contains(r"^\d{4}(-\d{2}(-\d{2}.*)?)?$").fill_null(True))
    if unsorted.len():
        raise DataError(
            f"split.column {column}: {unsorted.len():,} values such as {unsorted[0]!r} are no dates as YYYY-MM-DD, and "
            f'do not sort as time passes. Declare table.columns."{column}".date_format, or write the dates so.'
        )
