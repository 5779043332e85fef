"""Two runs beside each other: how the companies in both moved between grades, and who came and went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import DataError
from datasets.schema import read_raw
from training.portfolio.aggregates import LIMIT_EXPR, LOSS_EXPR, UNRATED, fill_unrated, safe_ratio

PREVIOUS_HINT = "Name the answers.parquet that an earlier month's run wrote, or leave --previous out."
RUN_COLUMNS = ("model", "month", "simulated")  # columns that hold one value in a whole run


def read_previous(
    path: Path, schema: pl.Schema, model: str, month: str, simulated: bool, grades: Sequence[str]
) -> pl.DataFrame:
    """The answers of an earlier run; raises DataError with all that is wrong with the file as a previous run."""
    frame = read_raw(path)
    missing_columns = [name for name in schema if name not in frame.columns]
    extra_columns = [name for name in frame.columns if name not in schema]
    if missing_columns or extra_columns:
        problems = [f"lacks {', '.join(missing_columns[:6])}{' ...' if len(missing_columns) > 6 else ''}" if missing_columns else "",
                 f"has {', '.join(extra_columns[:6])}{' ...' if len(extra_columns) > 6 else ''} besides" if extra_columns else ""]  # fmt: skip
        raise DataError(f"{path}: {' and '.join(phrase for phrase in problems if phrase)}; a previous run has the columns of "
                        f"this one. {PREVIOUS_HINT}")  # fmt: skip
    try:
        frame = frame.cast(schema).select(list(schema))
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path}: its columns hold other kinds of values than a run's answers. {PREVIOUS_HINT}"
        ) from error
    if not frame.height:
        raise DataError(f"{path}: has no rows. {PREVIOUS_HINT}")
    errors = []
    values = {name: frame[name].unique().sort().to_list() for name in RUN_COLUMNS}
    for name, problems in values.items():
        if len(problems) != 1 or problems[0] is None:
            errors.append(f"holds {len(problems)} values of {name}; one run has one.")
    if not errors:
        if values["model"][0] != model:
            errors.append(f"is of the model {values['model'][0]!r}; {model!r} is needed.")
        if values["month"][0] >= month:
            errors.append(f"is of {values['month'][0]}, and the register of {month}; an earlier month is needed.")
        if values["simulated"][0] != simulated:
            kinds = ("real", "simulated")
            errors.append(f"is of {kinds[values['simulated'][0]]} companies, the register of {kinds[simulated]} ones.")
    unknown_grades = sorted(set(frame["grade"].drop_nulls().unique()) - set(grades))
    if unknown_grades:
        errors.append(f"holds grades that the policy does not have: {', '.join(unknown_grades[:9])}.")
    non_finite_columns = [
        name for name in frame.columns if frame[name].dtype.is_float() and not frame[name].is_finite().all()
    ]
    if non_finite_columns:
        errors.append(f"holds in {', '.join(non_finite_columns)} what is not a finite number.")
    duplicate_ids = frame["company_id"].drop_nulls()
    duplicate_ids = duplicate_ids.filter(duplicate_ids.is_duplicated()).unique().sort()
    if len(duplicate_ids):
        errors.append(f"names {len(duplicate_ids):,} companies twice ({', '.join(map(repr, duplicate_ids.head(3)))}).")
    if errors:
        raise DataError("\n".join(f"{path}: {line}" for line in [*errors, PREVIOUS_HINT]))
    return frame


def migration_figures(previous: pl.DataFrame, current: pl.DataFrame, grades: Sequence[str]) -> dict[str, Any]:
    """grades: best first. matrix[i][j]: companies of grade i before and j now; the last row and column are unrated."""
    columns = ("company_id", "grade", "gate", "limit", "expected_loss")
    # Without an id there is nobody to match: such rows are faulty, and told as that.
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
