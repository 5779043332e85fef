"""A register of companies into the store: what a request may ask about by company, and each company's months.

python -m serving load-register var/registers/2026-06 --answers var/portfolio/2026-06/answers.parquet

Indicators stay where a decision reads them; a month keeps which warnings it gave, by a policy's signals, and what a run
over the register answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import sqlalchemy as sa

from datasets.faults import Fault, Faults, Unreadable
from datasets.scitech_risk import register
from datasets.scitech_risk.months import rolling
from datasets.scitech_risk.register import Register, Remark
from datasets.table import MOST_FAULTS
from models.operations import Arrays
from models.scitech_risk import signals
from models.scitech_risk.policy import Policy, Signal
from models.scitech_risk.words import column_of, value_text
from serving.companies import PRODUCT, RESULTS
from serving.runtime import now
from serving.store.engine import open_store
from serving.store.tables import COMPANY_MONTHS as MONTHS
from serving.subjects import put

AT_ONCE = 2_000  # companies: their months, some 50,000 rows, are held together
TYPES = {"grade": pl.String, "pd": pl.Float64, "limit": pl.Int64, "gate": pl.String, "innovation": pl.Float64}


@dataclass(frozen=True, slots=True)
class Loaded:
    companies: int
    months: int  # rows: one a company and month
    month: str  # the register's
    remarks: tuple[Remark, ...]


def load_register(folder: Path, policy: Policy, store: Path, patience: float, answers: Path | None = None) -> Loaded:
    """All of the register, or nothing of it. Raises DataError, with all that is wrong, or StoreUnavailable.

    A company that was there before has its indicators replaced and its months added to; what an earlier run answered
    stays. A decision cannot be recorded meanwhile, as SQLite has one writer: load when few ask.
    """
    found = register.read(folder)
    results = None if answers is None else _results(answers, found)
    made = {
        "product": PRODUCT,
        "source": folder.name,
        "source_sha256": register.digest(folder),
        "simulated": found.simulated,
        "loaded": now(),
    }
    count = 0
    engine = open_store(store, patience)
    try:
        with engine.begin() as connection:
            put(connection, found.frame, register.TABLE, made)
            for part in _months(found, policy.signals, results):
                _put(connection, part)
                count += part.height
    finally:
        engine.dispose()
    return Loaded(found.frame.height, count, found.month, found.remarks)


def _results(path: Path, found: Register) -> pl.DataFrame:
    """company_id and RESULTS of a run over this very register. Raises DataError, with all that is wrong."""
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Unreadable(f"{path}: cannot be read as Parquet: {error}. Name the answers of a run over it.") from error
    month = "month" if "month" in frame.columns else "as_of"
    told = partial(Fault, file=path.name)
    faults = [
        told(name, "absent", "a column of a run's answers", "批量结果的一列")
        for name in ("company_id", month, *RESULTS)
        if name not in frame.columns
    ]
    if faults:
        raise Faults(faults)
    other = frame.filter(pl.col(month).ne_missing(found.month))[month].unique().sort().to_list()
    faults += [told(month, repr(name), f"the register's, {found.month}", f"名录月份 {found.month}") for name in other]
    rows = frame.select("company_id").with_row_index("row", 1)
    twice = ~pl.col("company_id").is_first_distinct()
    strange = ~pl.col("company_id").is_in(found.frame["company_id"].implode()).fill_null(False)
    for wrong, needed, zh in (
        (twice, "told once", "每家企业一行"),
        (strange, "a company of the register", "名录中的企业"),
    ):
        faults += [told("company_id", repr(name), needed, zh, row) for row, name in rows.filter(wrong).iter_rows()]
    if faults:
        raise Faults(faults[:MOST_FAULTS], len(faults))
    return frame.select("company_id", *(pl.col(name).cast(kind) for name, kind in TYPES.items()))


def _months(found: Register, told: tuple[Signal, ...], results: pl.DataFrame | None) -> Iterator[pl.DataFrame]:
    """company, month, warnings as JSON and RESULTS; whole companies in each part, sorted."""
    ids = found.frame["company_id"].sort()
    words = _Words(told)
    empty = pl.DataFrame(schema={"company_id": pl.String, **TYPES})
    for at in range(0, ids.len(), AT_ONCE):
        part = ids[at : at + AT_ONCE]
        within = pl.col("company_id").is_between(pl.lit(part[0]), pl.lit(part[-1]))
        before = rolling(found.history.filter(within)).filter(pl.col("month") < found.month)
        today = found.frame.filter(within).with_columns(month=pl.lit(found.month))
        rows = pl.concat([_reading(before, told), _reading(today, told)]).sort("company_id", "month")
        here = (empty if results is None else results.filter(within)).with_columns(month=pl.lit(found.month))
        yield (
            rows.select("company_id", "month", warnings=words(rows))
            .join(here, on=["company_id", "month"], how="left", maintain_order="left")
            .rename({"company_id": "company"})
        )


def _reading(frame: pl.DataFrame, told: tuple[Signal, ...]) -> pl.DataFrame:
    """What the signals read, at each month; what only today's register tells is missing before."""
    wanted = sorted({signal.indicator for signal in told})
    values = [
        (pl.col(name) if name in frame.columns else pl.lit(None, pl.Float64)).cast(pl.Float64).alias(name)
        for name in wanted
    ]
    return frame.select("company_id", "month", *values)


class _Words:
    """The warnings of many rows as JSON; few combinations occur, and each is put into words once."""

    def __init__(self, told: tuple[Signal, ...]):
        self.told = told
        self.made: dict[bytes, bytes] = {}
        self.each = [_told(signal) for signal in told]

    def __call__(self, rows: pl.DataFrame) -> pl.Series:
        a = {name: rows[name].to_numpy() for name in rows.columns if name not in ("company_id", "month")}
        with np.errstate(invalid="ignore"):
            raised = signals.raised(self.told, a, Arrays)
        flags = np.zeros((rows.height, len(self.told)), bool)
        for at, signal in enumerate(self.told):
            flags[:, at] = raised[signal.code]
        return pl.Series([self._json(row) for row in flags], dtype=pl.Binary)

    def _json(self, row: np.ndarray) -> bytes:
        key = row.tobytes()
        if key not in self.made:
            self.made[key] = orjson.dumps([self.each[at] for at in np.flatnonzero(row)])
        return self.made[key]


def _told(signal: Signal) -> dict[str, str]:
    """With the line that was crossed where a decision would name the company's own value."""
    low = signal.at_least is not None
    line = signal.at_least if signal.at_least is not None else signal.at_most
    assert line is not None  # one of the two: Condition
    text, text_zh = value_text(line, column_of(signal.indicator, {}))
    return {
        "code": signal.code,
        "severity": signal.severity,
        "en": signal.en.format(value=f"{text} or {'more' if low else 'less'}"),
        "zh": signal.zh.format(value=f"{text_zh} 或以{'上' if low else '下'}"),
    }


def _put(connection: sa.Connection, part: pl.DataFrame) -> None:
    """In the place of what was there; the results of an earlier run stay where this one brings none."""
    companies = part["company"].unique().to_list()
    ours = MONTHS.c.company.in_(companies) & (MONTHS.c.month >= part["month"].min())
    answered = MONTHS.c.grade.is_not(None) | MONTHS.c.gate.is_not(None)
    kept: dict[tuple[str, str], dict[str, Any]] = {
        (row.company, row.month): dict(row._mapping)
        for row in connection.execute(sa.select(MONTHS).where(ours, answered))
    }
    rows = part.to_dicts()
    for row in rows:
        if row["grade"] is None and row["gate"] is None and (earlier := kept.get((row["company"], row["month"]))):
            row |= {name: earlier[name] for name in RESULTS}
    connection.execute(sa.delete(MONTHS).where(ours))
    connection.execute(sa.insert(MONTHS), rows)
