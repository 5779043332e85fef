"""Two runs beside each other: how the companies in both moved between grades, and who came and went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import DataError
from datasets.schema import scan
from training.portfolio.aggregates import LIMIT, LOSS, UNRATED, rated, ratio

AGAIN = "Name the answers.parquet that an earlier month's run wrote, or leave --previous out."
ONE = ("model", "month", "simulated")  # columns that hold one value in a whole run


def read_previous(
    path: Path, like: pl.Schema, model: str, month: str, simulated: bool, grades: Sequence[str]
) -> pl.DataFrame:
    """The answers of an earlier run; raises DataError with all that is wrong with the file as a previous run."""
    frame = scan(path)
    lacks = [name for name in like if name not in frame.columns]
    more = [name for name in frame.columns if name not in like]
    if lacks or more:
        found = [f"lacks {', '.join(lacks[:6])}{' ...' if len(lacks) > 6 else ''}" if lacks else "",
                 f"has {', '.join(more[:6])}{' ...' if len(more) > 6 else ''} besides" if more else ""]  # fmt: skip
        raise DataError(f"{path}: {' and '.join(part for part in found if part)}; a previous run has the columns of "
                        f"this one. {AGAIN}")  # fmt: skip
    try:
        frame = frame.cast(like).select(list(like))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: its columns hold other kinds of values than a run's answers. {AGAIN}") from error
    if not frame.height:
        raise DataError(f"{path}: has no rows. {AGAIN}")
    wrong = []
    values = {name: frame[name].unique().sort().to_list() for name in ONE}
    for name, found in values.items():
        if len(found) != 1 or found[0] is None:
            wrong.append(f"holds {len(found)} values of {name}; one run has one.")
    if not wrong:
        if values["model"][0] != model:
            wrong.append(f"is of the model {values['model'][0]!r}; {model!r} is needed.")
        if values["month"][0] >= month:
            wrong.append(f"is of {values['month'][0]}, and the register of {month}; an earlier month is needed.")
        if values["simulated"][0] != simulated:
            kinds = ("real", "simulated")
            wrong.append(f"is of {kinds[values['simulated'][0]]} companies, the register of {kinds[simulated]} ones.")
    strange = sorted(set(frame["grade"].drop_nulls().unique()) - set(grades))
    if strange:
        wrong.append(f"holds grades that the policy does not have: {', '.join(strange[:9])}.")
    odd = [name for name in frame.columns if frame[name].dtype.is_float() and not frame[name].is_finite().all()]
    if odd:
        wrong.append(f"holds in {', '.join(odd)} what is not a finite number.")
    twice = frame["company_id"].drop_nulls()
    twice = twice.filter(twice.is_duplicated()).unique().sort()
    if len(twice):
        wrong.append(f"names {len(twice):,} companies twice ({', '.join(map(repr, twice.head(3)))}).")
    if wrong:
        raise DataError("\n".join(f"{path}: {line}" for line in [*wrong, AGAIN]))
    return frame


def migration(before: pl.DataFrame, now: pl.DataFrame, grades: Sequence[str]) -> dict[str, Any]:
    """grades: best first. matrix[i][j]: companies of grade i before and j now; the last row and column are unrated."""
    keep = ("company_id", "grade", "gate", "limit", "expected_loss")
    # Without an id there is nobody to match: such rows are faulty, and told as that.
    was, is_ = (rated(one.filter(pl.col("company_id").is_not_null()).select(keep)) for one in (before, now))
    both = was.join(is_, on="company_id", how="inner", suffix="_now")
    new, gone = is_.join(was, on="company_id", how="anti"), was.join(is_, on="company_id", how="anti")
    order = [*grades, UNRATED]
    matrix = np.zeros((len(order), len(order)), int)
    for then, today, number in both.group_by("grade", "grade_now").agg(pl.len()).iter_rows():
        matrix[order.index(then), order.index(today)] = number
    known = matrix[:-1, :-1]
    up, down = int(np.tril(known, -1).sum()), int(np.triu(known, 1).sum())
    blocked, free = pl.col("gate_now") == "block", (pl.col("gate") != "block").fill_null(True)
    return {
        "grades": order,
        "matrix": matrix.tolist(),
        "both": both.height,
        "new": new.height,
        "gone": gone.height,
        "up": up,
        "down": down,
        "same": int(np.trace(known)),
        "share_up": ratio(up, int(known.sum())),
        "share_down": ratio(down, int(known.sum())),
        "newly_blocked": both.filter(blocked & free).height,
        "released": both.filter((pl.col("gate") == "block") & (pl.col("gate_now") != "block").fill_null(True)).height,
        "new_by_grade": _counts(new, order),
        "gone_by_grade": _counts(gone, order),
        "bridge": {
            name: {
                "before": before.select(part.sum()).item(),
                "gone": -gone.select(part.sum()).item(),
                "stayed": _change(both, column),
                "new": new.select(part.sum()).item(),
                "now": now.select(part.sum()).item(),
            }
            for name, part, column in (("limit", LIMIT, "limit"), ("expected_loss", LOSS, "expected_loss"))
        },
    }


def _counts(frame: pl.DataFrame, order: Sequence[str]) -> list[int]:
    found = dict(frame.group_by("grade").agg(pl.len()).iter_rows())
    return [found.get(grade, 0) for grade in order]


def _change(both: pl.DataFrame, column: str) -> Any:
    return both.select(pl.col(f"{column}_now").fill_null(0).sum() - pl.col(column).fill_null(0).sum()).item()
