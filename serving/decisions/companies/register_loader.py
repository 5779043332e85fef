"""A register of companies into the store: what a request may ask about by company, and each company's months.

python -m serving load-register var/registers/2026-06 --answers var/portfolio/2026-06/answers.parquet

Indicators stay where a decision reads them; a month keeps which warnings it gave, by a policy's signals, and what a run
over the register answered; beside them stands what lies around each company.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import sqlalchemy as sa

from datasets.errors import DataError, Fault, Faults, Unreadable
from datasets.schema import MOST_FAULTS
from datasets.scitech_risk.ego_network import Around
from datasets.scitech_risk.monthly_history import rolling
from datasets.scitech_risk.register import schema as register
from datasets.scitech_risk.register.schema import Register, Remark
from models.policy.arithmetic import Arrays
from models.scitech_risk import early_warnings
from models.scitech_risk.messages import column_of, value_text
from models.scitech_risk.policy import Policy, Signal
from models.scitech_risk.shell_gate import VERDICTS
from serving.core.db.engine import open_store, unavailable
from serving.core.db.reader import Reader
from serving.core.db.schema import COMPANIES, INDICATORS
from serving.core.identifiers import now
from serving.decisions.companies import network as networks
from serving.decisions.companies.history import PRODUCT, RESULTS, months_of, pack, unpack
from serving.privacy.subjects import ingestion
from serving.privacy.subjects.indicators import Made, day, groups_of, sealed
from serving.privacy.subjects.vault import Vault, claim, keys

AT_ONCE = 2_000  # companies: their months, some 50,000 rows, are held together
TYPES = {"grade": pl.String, "pd": pl.Float64, "limit": pl.Int64, "gate": pl.String, "innovation": pl.Float64}


@dataclass(frozen=True, slots=True)
class Loaded:
    companies: int
    months: int  # of all of them together
    month: str  # the register's
    remarks: tuple[Remark, ...]


def load_register(
    folder: Path, policy: Policy, store: Path | str, patience: float, vault: Vault, answers: Path | None = None
) -> Loaded:
    """All of the register, or nothing of it. Raises DataError, with all that is wrong, or StoreUnavailable.

    A company that was there before has newer indicators and its months added to; what an earlier run answered
    stays. Two loads at once: the last one counts.
    """
    found = register.read(folder)
    results = None if answers is None else _results(answers, found, [grade.name for grade in policy.risk.grades])
    made = Made(PRODUCT, folder.name, register.digest(folder), found.simulated, now())
    engine, beside = open_store(store, patience), store.parent if isinstance(store, Path) else None
    try:
        with engine.begin() as connection:
            claim(connection, vault)
        # Made ready and sealed beside the store first: while it is written, no decision can be.
        with tempfile.TemporaryDirectory(prefix="register-", dir=beside) as scratch:
            parts = list(_ready(found, policy.signals, results, Sealing(engine, vault, made), Path(scratch)))
            with engine.begin() as connection:
                for part, months in parts:
                    _put(connection, pl.read_ipc(part), pl.read_ipc(months))
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error
    finally:
        engine.dispose()
    return Loaded(found.frame.height, found.history.height, found.month, found.remarks)


@dataclass(frozen=True, slots=True)
class Sealing:
    engine: sa.Engine
    vault: Vault
    made: Made


def _ready(
    found: Register, told: tuple[Signal, ...], results: pl.DataFrame | None, by: Sealing, scratch: Path
) -> Iterator[tuple[Path, Path]]:
    """Files of sealed indicators and of sealed months, of AT_ONCE companies each."""
    reader, vault, around = Reader(by.engine), by.vault, Around(found)
    for at, (companies, part) in enumerate(_months(found, told, results)):
        named = {company: vault.pseudonym(PRODUCT, company) for company in companies["company_id"]}
        with by.engine.begin() as connection:  # a key alone says nothing of anybody
            held = keys(connection, vault, named.values())
        stored = months_of(reader, list(named.values()))
        before = {
            company: unpack(vault.open(held[name], stored[name], name))
            for company, name in named.items()
            if name in stored
        }
        newest = max((months[0]["month"] for months in before.values()), default="")
        if newest > found.month:
            raise DataError(
                f"The register is of {found.month}, and the store holds {newest} of its companies; a register of that "
                "month or later is needed, as decisions rest on the newest."
            )
        stated = ingestion.told(
            companies, register.TABLE, by.made.source, day(found.month), [*groups_of(register.TABLE)]
        )
        lines = [
            line
            for company, true_at, groups in stated
            for line in sealed(vault, held[named[company]], named[company], true_at, groups, by.made)
        ]
        months = [
            {
                "pseudonym": (name := named[company]),
                "months": vault.seal(held[name], _merged(rows, before.get(company)), name),
                **networks.sealed(vault, held[name], company, around, found.month),
            }
            for company, rows in _by_company(part)
        ]
        paths = scratch / f"{at:06d}.indicators", scratch / f"{at:06d}.months"
        pl.DataFrame(lines).write_ipc(paths[0])
        pl.DataFrame(months, schema_overrides={"network": pl.Binary}).write_ipc(paths[1])
        yield paths


def _by_company(part: pl.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(company, its months, newest first)."""
    for company, group in groupby(part.iter_rows(named=True), itemgetter("company_id")):
        months = [
            {
                "month": row["month"],
                "warnings": orjson.Fragment(row["warnings"]),
                **{name: row[name] for name in RESULTS},
            }
            for row in group
        ]
        yield company, months[::-1]


def _merged(months: list[dict[str, Any]], stored: list[dict[str, Any]] | None) -> bytes:
    """With what was there: earlier months, and the results of an earlier run where this one brings none."""
    if stored is None:
        return pack(months)
    before = {one["month"]: one for one in stored}
    for one in months:
        earlier = before.pop(one["month"], None)
        if earlier is not None and one["gate"] is None:
            one |= {name: earlier[name] for name in RESULTS}
    return pack(sorted([*months, *before.values()], key=itemgetter("month"), reverse=True))


def _results(path: Path, found: Register, grades: Sequence[str]) -> pl.DataFrame:
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
    try:
        typed = frame.select("company_id", *(pl.col(name).cast(kind) for name, kind in TYPES.items()))
    except pl.exceptions.PolarsError as error:
        raise Unreadable(f"{path}: its columns hold other kinds of values than a run's answers: {error}.") from error
    rows = typed.with_row_index("row", 1)
    twice = ~pl.col("company_id").is_first_distinct()
    strange = ~pl.col("company_id").is_in(found.frame["company_id"].implode()).fill_null(False)
    for wrong, needed, zh in (
        (twice, "told once", "每家企业一行"),
        (strange, "a company of the register", "名录中的企业"),
    ):
        faults += [
            told("company_id", repr(name), needed, zh, row)
            for row, name in rows.filter(wrong).select("row", "company_id").iter_rows()
        ]
    for name, fits, needed, zh in (
        ("pd", pl.col("pd").is_between(0, 1), "from 0 to 1", "0 至 1"),
        ("limit", pl.col("limit") >= 0, "0 or more", "不小于 0"),
        ("innovation", pl.col("innovation").is_between(0, 100), "from 0 to 100", "0 至 100"),
        ("gate", pl.col("gate").is_in(VERDICTS), f"one of {', '.join(VERDICTS)}", f"{'、'.join(VERDICTS)} 之一"),
        ("grade", pl.col("grade").is_in(grades), f"one of {', '.join(grades)}", f"{'、'.join(grades)} 之一"),
    ):
        faults += [
            told(name, repr(value), needed, zh, row)
            for row, value in rows.filter(~fits).select("row", name).iter_rows()
        ]
    if faults:
        raise Faults(faults[:MOST_FAULTS], len(faults))
    return typed


def _months(
    found: Register, told: tuple[Signal, ...], results: pl.DataFrame | None
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """(companies, their months: company_id, month, warnings as JSON and RESULTS, sorted), of AT_ONCE companies each."""
    words = _Words(told)
    answered = pl.DataFrame(schema={"company_id": pl.String, **TYPES}) if results is None else results
    for companies in found.frame.sort("company_id").iter_slices(AT_ONCE):
        ids = companies["company_id"]
        within = pl.col("company_id").is_between(pl.lit(ids[0]), pl.lit(ids[-1]))
        before = rolling(found.history.filter(within)).filter(pl.col("month") < found.month)
        today = companies.with_columns(month=pl.lit(found.month))
        months = pl.concat([_reading(before, told), _reading(today, told)]).sort("company_id", "month")
        here = answered.filter(within).with_columns(month=pl.lit(found.month))
        shown = months.select("company_id", "month", warnings=words(months))
        yield companies, shown.join(here, on=["company_id", "month"], how="left", maintain_order="left")


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
            raised = early_warnings.raised(self.told, a, Arrays)
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


def _put(connection: sa.Connection, indicators: pl.DataFrame, months: pl.DataFrame) -> None:
    """Indicators beside what was there, months in its place."""
    connection.execute(sa.insert(INDICATORS), indicators.to_dicts())
    connection.execute(sa.delete(COMPANIES).where(COMPANIES.c.pseudonym.in_(months["pseudonym"].to_list())))
    connection.execute(sa.insert(COMPANIES), months.to_dicts())
