"""Read a register folder for a run: companies with an invalid value are set aside and reported, the others continue."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from datasets.errors import FieldError, InvalidTableError
from datasets.schema import TableSchema
from datasets.scitech_risk.register import reader as register_reader
from datasets.scitech_risk.register.schema import FILES, Register
from datasets.validation import MAX_ERRORS, validate

FAULTY_SCHEMA = {
    "row": pl.Int64,
    "company_id": pl.String,
    "trade": pl.String,
    "error": pl.String,
    "error_zh": pl.String,
}
OWNER_COLUMN = {"history": "company_id", "links": "company_id", "invoices": "seller"}  # the company of an invalid row
RegisterTables = dict[str, pl.DataFrame | None]


@dataclass(frozen=True)
class RegisterData:
    """frame: the valid rows; rows: their numbers in the companies file, from 1; faulty: as FAULTY_SCHEMA."""

    register: Register
    frame: pl.DataFrame
    rows: pl.Series
    faulty: pl.DataFrame


@dataclass
class _FaultCollector:
    """Sentences (English, Chinese) by row of the companies file and by company, and errors of whole files."""

    rows: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    companies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    file_faults: list[FieldError] = field(default_factory=list)


def load_register(folder: Path) -> RegisterData:
    """Read a register folder, without the companies that have errors.

    Raises InvalidTableError for errors that belong to no single company: a column, a month, a duplicate id.
    """
    tables, names, simulated = register_reader.read_files(folder)
    raw = tables["companies"]
    assert raw is not None  # read_files refuses a folder without it
    try:
        register_data, faulty = (
            register_reader.build_register(tables, names, simulated),
            pl.DataFrame(schema=FAULTY_SCHEMA),
        )
    except InvalidTableError:
        tables, faulty = _exclude_faulty(tables, names)
        register_data = register_reader.build_register(tables, names, simulated)
    ids = raw["company_id"].cast(pl.String)
    numbered = pl.DataFrame({"company_id": ids, "row": pl.Series(range(1, len(ids) + 1), dtype=pl.Int64)})
    valid_rows = numbered.join(faulty.select("row"), on="row", how="anti", maintain_order="left")
    frame = register_data.frame.join(valid_rows, on="company_id", how="inner", maintain_order="left")
    return RegisterData(register_data, frame.drop("row"), frame["row"], faulty)


def _exclude_faulty(tables: RegisterTables, names: dict[str, str]) -> tuple[RegisterTables, pl.DataFrame]:
    """The tables without their invalid values, and the faulty companies. These stay in the network, because others
    share addresses and officers with them."""
    collector, valid_tables, companies = _FaultCollector(), dict(tables), pl.DataFrame()
    for name, contract in FILES.items():
        raw = tables[name]
        if raw is None:
            continue
        conformed_rows, faults = conform_rows(raw, contract, names[name], 1)
        collector.file_faults += [fault for fault in faults if fault.row is None]
        if name == "companies":
            companies = conformed_rows
            stated_columns = [column.name for column in contract.columns if column.derived is None]
            valid_tables[name] = conformed_rows.select(stated_columns).filter(pl.col("company_id").is_not_null())
            for fault in faults:
                if fault.row is not None:
                    en = f"{fault.field} is {fault.actual}; it must be {fault.expected}."
                    zh = f"{fault.field} 为 {fault.actual}；应为{fault.expected_zh}。"
                    collector.rows.setdefault(fault.row, []).append((en, zh))
        else:
            valid_tables[name] = _collect_related_faults(
                collector, conformed_rows, faults, contract, OWNER_COLUMN[name]
            )
    for row, company in enumerate(companies["company_id"], 1):
        if company in collector.companies:
            collector.rows.setdefault(row, []).extend(collector.companies.pop(company))
    if collector.file_faults:
        raise InvalidTableError(collector.file_faults)
    return valid_tables, _faulty_frame(collector, companies)


def _collect_related_faults(
    collector: _FaultCollector,
    conformed_rows: pl.DataFrame,
    faults: list[FieldError],
    contract: TableSchema,
    owner: str,
) -> pl.DataFrame:
    """Collect the errors of a file of months, links or invoices by company; returns its valid rows."""
    for fault in faults:
        if fault.row is not None:
            company = conformed_rows[owner][fault.row - 1]
            if company is None:
                collector.file_faults.append(fault)
            else:
                collector.companies.setdefault(company, []).append((str(fault), fault.zh()))
    return conformed_rows.drop_nulls([column.name for column in contract.columns if column.required])


def conform_rows(
    raw: pl.DataFrame, contract: TableSchema, file: str, first_row: int
) -> tuple[pl.DataFrame, list[FieldError]]:
    """Typed rows and all their errors; where one call cannot list all errors, the rows are halved.

    first_row: number of the first row in the file.
    """
    conformed_rows, faults, total = validate(raw, contract, file, first_row)
    if total <= min(len(faults), MAX_ERRORS) or raw.height <= 1:
        return conformed_rows, faults
    middle = raw.height // 2
    first_half, second_half = (
        conform_rows(raw[:middle], contract, file, first_row),
        conform_rows(raw[middle:], contract, file, first_row + middle),
    )
    return pl.concat([first_half[0], second_half[0]]), first_half[1] + [
        fault for fault in second_half[1] if fault.row is not None
    ]


def _faulty_frame(collector: _FaultCollector, companies: pl.DataFrame) -> pl.DataFrame:
    """One row for each faulty company, with its errors as sentences in both languages."""
    rows = sorted(collector.rows)
    companies_of_rows = companies.select("company_id", "trade")[[row - 1 for row in rows]]
    sentences = [collector.rows[row] for row in rows]
    faulty = pl.DataFrame(
        {
            "row": pl.Series(rows, dtype=pl.Int64),
            "company_id": companies_of_rows["company_id"],
            "trade": companies_of_rows["trade"],
            "error": pl.Series(
                [" ".join(en for en, _ in row_sentences) for row_sentences in sentences], dtype=pl.String
            ),
            "error_zh": pl.Series(
                ["".join(zh for _, zh in row_sentences) for row_sentences in sentences], dtype=pl.String
            ),
        }
    )
    return faulty.select(list(FAULTY_SCHEMA))
