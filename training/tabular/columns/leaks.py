"""Take columns out of a table that tell the outcome too well to be known before it."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from datasets.leakage import Leak, find_leaks
from datasets.schema import ColumnSchema, TableSchema
from training.tabular.columns.roles import is_known_afterwards

CERTAIN_AUC = 0.98  # of a column alone, by which it is the outcome over again
LIKELY_AUC = 0.85  # of a column whose heading says that it is known only afterwards


def exclude_leaks(
    table: TableSchema, frame: pl.DataFrame, declared: Collection[str]
) -> tuple[TableSchema, tuple[Leak, ...]]:
    """(the schema, with the role "leak" for each column that certainly is one, all leaks that are suspected).

    declared: columns whose role the owner states. Where nothing would be left to learn from, no column is taken out.
    """
    leaks = tuple(find_leaks(frame, table))
    undeclared = {column.name for column in table.indicators if column.name not in declared}
    excluded = {leak.column for leak in leaks if leak.column in undeclared and _is_certain(leak)}
    if all(column.kind == "text" or column.name in excluded for column in table.indicators):
        return table, leaks
    columns = [
        column.model_copy(update={"role": "leak"}) if column.name in excluded else column for column in table.columns
    ]
    return table.model_copy(update={"columns": tuple(columns)}), leaks


def describe_leak(leak: Leak, column: ColumnSchema | None) -> str:
    """A sentence on a suspected leak and on what was done. column: None for the order of the rows."""
    action = ""
    if column is not None and column.role == "leak":
        action = ' It is left out of the model. If it is known beforehand, declare role = "indicator" and a reason.'
    elif column is not None and column.role == "indicator":
        action = ' If so, declare role = "leak".'
    return f"possible leak: {leak.reason}{action}"


def _is_certain(leak: Leak) -> bool:
    return leak.auc >= CERTAIN_AUC or (leak.auc >= LIKELY_AUC and is_known_afterwards(leak.column))
