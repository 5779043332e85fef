"""Compare two runs: how companies moved between grades, and which are new or gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import DataError
from datasets.validation import read_raw
from training.portfolio.aggregates import LIMIT_EXPR, LOSS_EXPR, UNRATED, fill_unrated, safe_ratio

PREVIOUS_HINT = "Name the answers.parquet of an earlier month's run, or leave --previous out."
RUN_COLUMNS = ("model", "month", "simulated")  # columns with one value in a run


def read_previous(
    path: Path, schema: pl.Schema, model: str, month: str, simulated: bool, grades: Sequence[str]
) -> pl.DataFrame:
    """Read the answers of an earlier run. Raises DataError with everything that is wrong with the file.

    schema, model, month, simulated, grades: those of the current run.
    """
    frame = read_raw(path)
    missing_columns = [name for name in schema if name not in frame.columns]
    extra_columns = [name for name in frame.columns if name not in schema]
    if missing_columns or extra_columns:
        problems = []
        for verb, names in (("does not have", missing_columns), ("has the further columns", extra_columns)):
            if names:
                problems.append(f"{verb} {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
        raise DataError(
            f"{path} {' and '.join(problems)}; a previous run has the same columns as this one. {PREVIOUS_HINT}"
        )
    try:
        frame = frame.cast(schema).select(list(schema))
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} has columns with other types of values than a run's answers. {PREVIOUS_HINT}"
        ) from error
    if not frame.height:
        raise DataError(f"{path} has no rows. {PREVIOUS_HINT}")
    errors = []
    values = {name: frame[name].unique().sort().to_list() for name in RUN_COLUMNS}
    for name, distinct in values.items():
        if len(distinct) != 1 or distinct[0] is None:
            errors.append(f"has {len(distinct)} values of {name}; a run has one.")
    if not errors:
        if values["model"][0] != model:
            errors.append(f"is a run of the model {values['model'][0]!r}; {model!r} is expected.")
        if values["month"][0] >= month:
            errors.append(f"is a run of {values['month'][0]}; a month before the register's, {month}, is expected.")
        if values["simulated"][0] != simulated:
            kinds = ("real", "simulated")
            errors.append(f"has {kinds[values['simulated'][0]]} companies, and the register {kinds[simulated]} ones.")
    unknown_grades = sorted(set(frame["grade"].drop_nulls().unique()) - set(grades))
    if unknown_grades:
        errors.append(f"has grades that the policy does not have: {', '.join(unknown_grades[:9])}.")
    non_finite_columns = [
        name for name in frame.columns if frame[name].dtype.is_float() and not frame[name].is_finite().all()
    ]
    if (frame["limit"].is_not_null() & frame["expected_loss"].is_null()).any():  # NaN is read as missing
        non_finite_columns.append("expected_loss")
    if non_finite_columns:
        errors.append(f"has values in {', '.join(non_finite_columns)} that are not finite numbers.")
    duplicate_ids = frame["company_id"].drop_nulls()
    duplicate_ids = duplicate_ids.filter(duplicate_ids.is_duplicated()).unique().sort()
    if len(duplicate_ids):
        duplicates = ", ".join(map(repr, duplicate_ids.head(3)))
        errors.append(f"names {len(duplicate_ids):,} companies more than once ({duplicates}).")
    if errors:
        raise DataError("\n".join([*(f"{path} {line}" for line in errors), PREVIOUS_HINT]))
    return frame


def migration_figures(previous: pl.DataFrame, current: pl.DataFrame, grades: Sequence[str]) -> dict[str, Any]:
    """Migration between two runs; `grades` best first.

    matrix[i][j]: companies of grade i before and grade j now; the last row and column are unrated.
    """
    columns = ("company_id", "grade", "gate", "limit", "expected_loss")
    # A row without an id cannot be matched; it is reported as an error.
    previous_grades, current_grades = (
        fill_unrated(answers.filter(pl.col("company_id").is_not_null()).select(columns))
        for answers in (previous, current)
    )
    in_both = previous_grades.join(current_grades, on="company_id", how="inner", suffix="_now")
    new_companies, removed_companies = (
        current_grades.join(previous_grades, on="company_id", how="anti"),
        previous_grades.join(current_grades, on="company_id", how="anti"),
    )
    order = [*grades, UNRATED]
    matrix = np.zeros((len(order), len(order)), int)
    for previous_grade, current_grade, number in in_both.group_by("grade", "grade_now").agg(pl.len()).iter_rows():
        matrix[order.index(previous_grade), order.index(current_grade)] = number
    rated_matrix = matrix[:-1, :-1]
    upgraded, downgraded = int(np.tril(rated_matrix, -1).sum()), int(np.triu(rated_matrix, 1).sum())
    now_blocked, was_unblocked = pl.col("gate_now") == "block", (pl.col("gate") != "block").fill_null(True)
    return {
        "grades": order,
        "matrix": matrix.tolist(),
        "both": in_both.height,
        "new": new_companies.height,
        "gone": removed_companies.height,
        "up": upgraded,
        "down": downgraded,
        "same": int(np.trace(rated_matrix)),
        "share_up": safe_ratio(upgraded, int(rated_matrix.sum())),
        "share_down": safe_ratio(downgraded, int(rated_matrix.sum())),
        "newly_blocked": in_both.filter(now_blocked & was_unblocked).height,
        "released": in_both.filter(
            (pl.col("gate") == "block") & (pl.col("gate_now") != "block").fill_null(True)
        ).height,
        "new_by_grade": _counts_by_grade(new_companies, order),
        "gone_by_grade": _counts_by_grade(removed_companies, order),
        "bridge": {
            name: {
                "before": previous.select(amount.sum()).item(),
                "gone": -removed_companies.select(amount.sum()).item(),
                "stayed": _total_change(in_both, column),
                "new": new_companies.select(amount.sum()).item(),
                "now": current.select(amount.sum()).item(),
            }
            for name, amount, column in (("limit", LIMIT_EXPR, "limit"), ("expected_loss", LOSS_EXPR, "expected_loss"))
        },
    }


def _counts_by_grade(frame: pl.DataFrame, order: Sequence[str]) -> list[int]:
    counts = dict(frame.group_by("grade").agg(pl.len()).iter_rows())
    return [counts.get(grade, 0) for grade in order]


def _total_change(in_both: pl.DataFrame, column: str) -> Any:
    return in_both.select(pl.col(f"{column}_now").fill_null(0).sum() - pl.col(column).fill_null(0).sum()).item()
