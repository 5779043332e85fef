"""A register folder read for a run: companies with a faulty value are set aside and told; the others go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from datasets.errors import Fault, Faults
from datasets.schema import MOST_FAULTS, Table, conform
from datasets.scitech_risk.register import schema as register
from datasets.scitech_risk.register.schema import FILES, Register

TOLD = {"row": pl.Int64, "company_id": pl.String, "trade": pl.String, "error": pl.String, "error_zh": pl.String}
OWNER = {"history": "company_id", "links": "company_id", "invoices": "seller"}  # whose a faulty row is
Parts = dict[str, pl.DataFrame | None]


@dataclass(frozen=True)
class Intake:
    """frame: the good rows of the register; rows: their numbers in the companies file, from 1; faulty: TOLD."""

    register: Register
    frame: pl.DataFrame
    rows: pl.Series
    faulty: pl.DataFrame


@dataclass
class _Aside:
    """Sentences (English, Chinese) by row of the companies file and by company; faults that nobody's row bears."""

    rows: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    companies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    whole: list[Fault] = field(default_factory=list)


def read(folder: Path) -> Intake:
    """Raises Faults for what is wrong with no single company: a column, a month, an id told twice."""
    parts, names, simulated = register.scan(folder)
    raw = parts["companies"]
    assert raw is not None  # register.scan refuses a folder without it
    try:
        found, faulty = register.assemble(parts, names, simulated), pl.DataFrame(schema=TOLD)
    except Faults:
        parts, faulty = _set_aside(parts, names)
        found = register.assemble(parts, names, simulated)
    ids = raw["company_id"].cast(pl.String)
    numbered = pl.DataFrame({"company_id": ids, "row": pl.Series(range(1, len(ids) + 1), dtype=pl.Int64)})
    good = numbered.join(faulty.select("row"), on="row", how="anti", maintain_order="left")
    frame = found.frame.join(good, on="company_id", how="inner", maintain_order="left")
    return Intake(found, frame.drop("row"), frame["row"], faulty)


def _set_aside(parts: Parts, names: dict[str, str]) -> tuple[Parts, pl.DataFrame]:
    """The parts without their faulty values, and TOLD. A faulty company keeps its place in the network: others have
    their address and officers in common with it."""
    aside, sound, companies = _Aside(), dict(parts), pl.DataFrame()
    for name, contract in FILES.items():
        raw = parts[name]
        if raw is None:
            continue
        typed, faults = conformed(raw, contract, names[name], 1)
        aside.whole += [fault for fault in faults if fault.row is None]
        if name == "companies":
            companies = typed
            stated = [column.name for column in contract.columns if column.derived is None]
            sound[name] = typed.select(stated).filter(pl.col("company_id").is_not_null())
            for fault in faults:
                if fault.row is not None:
                    en = f"{fault.column} is {fault.found}; it must be {fault.needed}."
                    zh = f"{fault.column} 为 {fault.found}；应为{fault.needed_zh}。"
                    aside.rows.setdefault(fault.row, []).append((en, zh))
        else:
            sound[name] = _others(aside, typed, faults, contract, OWNER[name])
    for row, company in enumerate(companies["company_id"], 1):
        if company in aside.companies:
            aside.rows.setdefault(row, []).extend(aside.companies.pop(company))
    if aside.whole:
        raise Faults(aside.whole)
    return sound, _told(aside, companies)


def _others(aside: _Aside, typed: pl.DataFrame, faults: list[Fault], contract: Table, owner: str) -> pl.DataFrame:
    """A file of months, links or invoices, its faulty values missing, each told with the company whose it is."""
    for fault in faults:
        if fault.row is not None:
            company = typed[owner][fault.row - 1]
            if company is None:
                aside.whole.append(fault)
            else:
                aside.companies.setdefault(company, []).append((str(fault), fault.zh()))
    return typed.drop_nulls([column.name for column in contract.columns if column.required])


def conformed(raw: pl.DataFrame, contract: Table, file: str, first: int) -> tuple[pl.DataFrame, list[Fault]]:
    """Typed rows and every fault: a piece with more than one call spells out is halved."""
    typed, faults, total = conform(raw, contract, file, first)
    if total <= min(len(faults), MOST_FAULTS) or raw.height <= 1:
        return typed, faults
    half = raw.height // 2
    left, right = conformed(raw[:half], contract, file, first), conformed(raw[half:], contract, file, first + half)
    return pl.concat([left[0], right[0]]), left[1] + [fault for fault in right[1] if fault.row is not None]


def _told(aside: _Aside, companies: pl.DataFrame) -> pl.DataFrame:
    """A row for each faulty company, its faults as sentences in both languages."""
    rows = sorted(aside.rows)
    known = companies.select("company_id", "trade")[[row - 1 for row in rows]]
    told = [aside.rows[row] for row in rows]
    found = pl.DataFrame(
        {
            "row": pl.Series(rows, dtype=pl.Int64),
            "company_id": known["company_id"],
            "trade": known["trade"],
            "error": pl.Series([" ".join(en for en, _ in one) for one in told], dtype=pl.String),
            "error_zh": pl.Series(["".join(zh for _, zh in one) for one in told], dtype=pl.String),
        }
    )
    return found.select(list(TOLD))
