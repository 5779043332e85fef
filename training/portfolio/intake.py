"""A register folder read for a run: rows with a faulty value are set aside and told, and do not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from datasets.faults import Fault, Faults
from datasets.scitech_risk import register
from datasets.scitech_risk.register import STATED, Register
from datasets.table import MOST_FAULTS, conform

TOLD = {"row": pl.Int64, "company_id": pl.String, "trade": pl.String, "error": pl.String, "error_zh": pl.String}


@dataclass(frozen=True)
class Intake:
    """frame: the good rows of the register; rows: their numbers in the companies file, from 1; faulty: TOLD."""

    register: Register
    frame: pl.DataFrame
    rows: pl.Series
    faulty: pl.DataFrame


def read(folder: Path) -> Intake:
    """Raises Faults for what is wrong with no single company's row: a column, a month, an id told twice, a history."""
    parts, names, simulated = register.scan(folder)
    raw, file = parts["companies"], names["companies"]
    assert raw is not None  # register.scan refuses a folder without it
    typed, faults = conformed(raw, file, 1)
    whole = [fault for fault in faults if fault.row is None]
    if whole:
        raise Faults(whole)
    faulty = _told(faults, typed)
    # A faulty row keeps its place in the network: its neighbours have an address and officers in common with it.
    found = register.assemble(
        {**parts, "companies": _stated(typed).filter(pl.col("company_id").is_not_null())}, names, simulated
    )
    numbered = typed.select("company_id").with_row_index("row", offset=1).with_columns(pl.col("row").cast(pl.Int64))
    good = numbered.join(faulty.select("row"), on="row", how="anti", maintain_order="left")
    frame = found.frame.join(good, on="company_id", how="inner", maintain_order="left")
    return Intake(found, frame.drop("row"), frame["row"], faulty)


def _stated(typed: pl.DataFrame) -> pl.DataFrame:
    """What a file may hold: ratios are made anew when the register is put together."""
    return typed.select(column.name for column in STATED.columns if column.derived is None)


def conformed(raw: pl.DataFrame, file: str, first: int) -> tuple[pl.DataFrame, list[Fault]]:
    """Typed rows and every fault: a piece with more than one call spells out is halved."""
    typed, faults, total = conform(raw, STATED, file, first)
    if total <= min(len(faults), MOST_FAULTS) or raw.height <= 1:
        return typed, faults
    half = raw.height // 2
    left, right = conformed(raw[:half], file, first), conformed(raw[half:], file, first + half)
    return pl.concat([left[0], right[0]]), left[1] + [fault for fault in right[1] if fault.row is not None]


def _told(faults: Sequence[Fault], typed: pl.DataFrame) -> pl.DataFrame:
    """A row for each faulty company, its faults as sentences in both languages."""
    told: dict[int, tuple[list[str], list[str]]] = {}
    for fault in faults:
        if fault.row is not None:
            en, zh = told.setdefault(fault.row, ([], []))
            en.append(f"{fault.column} is {fault.found}; it must be {fault.needed}.")
            zh.append(f"{fault.column} 为 {fault.found}；应为{fault.needed_zh}。")
    rows = sorted(told)
    known = typed.select("company_id", "trade")[[row - 1 for row in rows]]
    sentences = {"error": [" ".join(told[row][0]) for row in rows], "error_zh": ["".join(told[row][1]) for row in rows]}
    found = pl.DataFrame({"row": rows, "company_id": known["company_id"], "trade": known["trade"], **sentences})
    return found.cast(TOLD)  # type: ignore[arg-type]
