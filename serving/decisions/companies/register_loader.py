"""Imports a register of companies into the store: their indicators, their months and their networks.

python -m serving import-register var/registers/2026-06 --answers var/portfolio/2026-06/answers.parquet

Indicators are stored for decisions to read. A month has the warnings that the policy's signals raised, and the results
of a run over the register. The network of each company is stored beside them.
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

from datasets.errors import DataError, FieldError, InvalidTableError, UnreadableFileError
from datasets.scitech_risk.ego_network import NetworkIndex
from datasets.scitech_risk.monthly_history import rolling_early_warnings
from datasets.scitech_risk.register import reader as register_reader
from datasets.scitech_risk.register import schema as register
from datasets.scitech_risk.register.schema import Register, Remark
from datasets.validation import MAX_ERRORS
from models.policy.arithmetic import ArrayOps
from models.scitech_risk.assessments import early_warnings
from models.scitech_risk.assessments.shell_gate import VERDICTS
from models.scitech_risk.messages import find_column, format_value
from models.scitech_risk.policy import Policy, WarningSignal
from serving.core.db.engine import open_store, to_store_error
from serving.core.db.reader import StoreReader
from serving.core.db.schema import COMPANIES, INDICATORS
from serving.core.identifiers import utc_now
from serving.decisions.companies import network as company_network
from serving.decisions.companies.history import PRODUCT, RESULT_FIELDS, decode_months, encode_months, months_of
from serving.privacy.subjects import ingestion
from serving.privacy.subjects.indicators import IndicatorSource, columns_by_group, encrypt_rows, parse_day
from serving.privacy.subjects.vault import Vault, bind_store, ensure_keys

COMPANIES_PER_CHUNK = 2_000  # whose months, some 50,000 rows, are in memory together
RESULT_TYPES = {"grade": pl.String, "pd": pl.Float64, "limit": pl.Int64, "gate": pl.String, "innovation": pl.Float64}


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import wrote."""

    companies: int
    months: int  # of all companies
    month: str  # the register's
    remarks: tuple[Remark, ...]


def import_register(
    folder: Path, policy: Policy, store: Path | str, lock_timeout: float, vault: Vault, answers: Path | None = None
) -> ImportSummary:
    """Import the complete register or nothing. Raises DataError with every fault, and StoreUnavailableError.

    A company that is stored already gets newer indicators and further months; results of earlier runs stay. Of two
    imports at the same time, the last one counts. answers: the results of a run over this register, Parquet.
    """
    company_register = register_reader.read(folder)
    results = (
        None
        if answers is None
        else _read_results(answers, company_register, [grade.name for grade in policy.risk.grades])
    )
    source = IndicatorSource(
        PRODUCT, folder.name, register_reader.register_digest(folder), company_register.simulated, utc_now()
    )
    engine, scratch_parent = open_store(store, lock_timeout), store.parent if isinstance(store, Path) else None
    try:
        with engine.begin() as connection:
            bind_store(connection, vault)
        # Prepared and encrypted in files first: while the store is written, no decision can be recorded.
        with tempfile.TemporaryDirectory(prefix="register-", dir=scratch_parent) as scratch:
            chunks = list(
                _prepare_chunks(
                    company_register, policy.signals, results, EncryptionContext(engine, vault, source), Path(scratch)
                )
            )
            with engine.begin() as connection:
                for indicators, months in chunks:
                    _insert_chunk(connection, pl.read_ipc(indicators), pl.read_ipc(months))
    except sa.exc.SQLAlchemyError as error:
        raise to_store_error(error) from error
    finally:
        engine.dispose()
    return ImportSummary(
        company_register.frame.height, company_register.history.height, company_register.month, company_register.remarks
    )


@dataclass(frozen=True, slots=True)
class EncryptionContext:
    """What encrypting a chunk needs: the store, the vault and the origin of the values."""

    engine: sa.Engine
    vault: Vault
    source: IndicatorSource


def _prepare_chunks(
    company_register: Register,
    signals: tuple[WarningSignal, ...],
    results: pl.DataFrame | None,
    context: EncryptionContext,
    scratch: Path,
) -> Iterator[tuple[Path, Path]]:
    """(file of encrypted indicators, file of encrypted months) for each COMPANIES_PER_CHUNK companies."""
    reader, vault, network_index = StoreReader(context.engine), context.vault, NetworkIndex(company_register)
    for index, (companies, month_rows) in enumerate(_month_chunks(company_register, signals, results)):
        pseudonyms = {company: vault.pseudonym(PRODUCT, company) for company in companies["company_id"]}
        with context.engine.begin() as connection:  # a key alone discloses nothing about a company
            subject_keys = ensure_keys(connection, vault, pseudonyms.values())
        pseudonyms = {company: name for company, name in pseudonyms.items() if name in subject_keys}  # not the erased
        is_stored = pl.col("company_id").is_in(list(pseudonyms))
        companies, month_rows = companies.filter(is_stored), month_rows.filter(is_stored)
        stored = months_of(reader, list(pseudonyms.values()))
        earlier = {
            company: decode_months(vault.open(subject_keys[name], stored[name], name))
            for company, name in pseudonyms.items()
            if name in stored
        }
        latest = max((months[0]["month"] for months in earlier.values()), default="")
        if latest > company_register.month:
            raise DataError(
                f"The register is of {company_register.month}, and the store has {latest} for its companies. Import a "
                "register of that month or later, as decisions use the newest indicators."
            )
        subject_rows = ingestion.rows_by_group(
            companies,
            register.TABLE,
            context.source.source,
            parse_day(company_register.month),
            [*columns_by_group(register.TABLE)],
        )
        indicator_rows = [
            row
            for company, true_at, groups in subject_rows
            for row in encrypt_rows(
                vault, subject_keys[pseudonyms[company]], pseudonyms[company], true_at, groups, context.source
            )
        ]
        months = [
            {
                "pseudonym": (name := pseudonyms[company]),
                "months": vault.seal(subject_keys[name], _merge_months(rows, earlier.get(company)), name),
                **company_network.encrypt_network(
                    vault, subject_keys[name], company, network_index, company_register.month
                ),
            }
            for company, rows in _by_company(month_rows)
        ]
        paths = scratch / f"{index:06d}.indicators", scratch / f"{index:06d}.months"
        pl.DataFrame(indicator_rows).write_ipc(paths[0])
        pl.DataFrame(months, schema_overrides={"network": pl.Binary}).write_ipc(paths[1])
        yield paths


def _by_company(rows: pl.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(company, its months, newest first)."""
    for company, group in groupby(rows.iter_rows(named=True), itemgetter("company_id")):
        months = [
            {
                "month": row["month"],
                "warnings": orjson.Fragment(row["warnings"]),
                **{name: row[name] for name in RESULT_FIELDS},
            }
            for row in group
        ]
        yield company, months[::-1]


def _merge_months(months: list[dict[str, Any]], stored: list[dict[str, Any]] | None) -> bytes:
    """Encode the months with those stored before; where a month has no results, it keeps those of an earlier run."""
    if stored is None:
        return encode_months(months)
    stored_by_month = {month["month"]: month for month in stored}
    for month in months:
        earlier = stored_by_month.pop(month["month"], None)
        if earlier is not None and month["gate"] is None:
            month |= {name: earlier[name] for name in RESULT_FIELDS}
    return encode_months(sorted([*months, *stored_by_month.values()], key=itemgetter("month"), reverse=True))


def _read_results(path: Path, company_register: Register, grades: Sequence[str]) -> pl.DataFrame:
    """company_id and RESULT_FIELDS of a run over this register. Raises DataError with every fault."""
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableFileError(
            f"{path}: cannot be read as Parquet: {error}. Name the answers of a run over the register."
        ) from error
    month = "month" if "month" in frame.columns else "as_of"
    field_error = partial(FieldError, file=path.name)
    faults = [
        field_error(name, "absent", "a column of a run's answers", "批量结果的一列")
        for name in ("company_id", month, *RESULT_FIELDS)
        if name not in frame.columns
    ]
    if faults:
        raise InvalidTableError(faults)
    other_months = frame.filter(pl.col(month).ne_missing(company_register.month))[month].unique().sort().to_list()
    faults += [
        field_error(
            month, repr(name), f"the register's, {company_register.month}", f"名录月份 {company_register.month}"
        )
        for name in other_months
    ]
    try:
        typed = frame.select("company_id", *(pl.col(name).cast(kind) for name, kind in RESULT_TYPES.items()))
    except pl.exceptions.PolarsError as error:
        raise UnreadableFileError(
            f"{path}: its columns have other types than the answers of a run: {error}."
        ) from error
    rows = typed.with_row_index("row", 1)
    is_repeated = ~pl.col("company_id").is_first_distinct()
    is_unknown = ~pl.col("company_id").is_in(company_register.frame["company_id"].implode()).fill_null(False)
    for is_invalid, expected, expected_zh in (
        (is_repeated, "in one row only", "每家企业一行"),
        (is_unknown, "a company of the register", "名录中的企业"),
    ):
        faults += [
            field_error("company_id", repr(name), expected, expected_zh, row)
            for row, name in rows.filter(is_invalid).select("row", "company_id").iter_rows()
        ]
    for name, is_valid, expected, expected_zh in (
        ("pd", pl.col("pd").is_between(0, 1), "from 0 to 1", "0 至 1"),
        ("limit", pl.col("limit") >= 0, "0 or more", "不小于 0"),
        ("innovation", pl.col("innovation").is_between(0, 100), "from 0 to 100", "0 至 100"),
        ("gate", pl.col("gate").is_in(VERDICTS), f"one of {', '.join(VERDICTS)}", f"{'、'.join(VERDICTS)} 之一"),
        ("grade", pl.col("grade").is_in(grades), f"one of {', '.join(grades)}", f"{'、'.join(grades)} 之一"),
    ):
        faults += [
            field_error(name, repr(value), expected, expected_zh, row)
            for row, value in rows.filter(~is_valid).select("row", name).iter_rows()
        ]
    if faults:
        raise InvalidTableError(faults[:MAX_ERRORS], len(faults))
    return typed


def _month_chunks(
    company_register: Register, signals: tuple[WarningSignal, ...], results: pl.DataFrame | None
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """(companies, their sorted months with warnings as JSON and RESULT_FIELDS), for COMPANIES_PER_CHUNK at a time."""
    encode_warnings = _WarningEncoder(signals)
    result_rows = pl.DataFrame(schema={"company_id": pl.String, **RESULT_TYPES}) if results is None else results
    for companies in company_register.frame.sort("company_id").iter_slices(COMPANIES_PER_CHUNK):
        ids = companies["company_id"]
        in_chunk = pl.col("company_id").is_between(pl.lit(ids[0]), pl.lit(ids[-1]))
        history = rolling_early_warnings(company_register.history.filter(in_chunk)).filter(
            pl.col("month") < company_register.month
        )
        current = companies.with_columns(month=pl.lit(company_register.month))
        months = pl.concat([_signal_values(history, signals), _signal_values(current, signals)]).sort(
            "company_id", "month"
        )
        current_results = result_rows.filter(in_chunk).with_columns(month=pl.lit(company_register.month))
        month_rows = months.select("company_id", "month", warnings=encode_warnings(months))
        yield companies, month_rows.join(current_results, on=["company_id", "month"], how="left", maintain_order="left")


def _signal_values(frame: pl.DataFrame, signals: tuple[WarningSignal, ...]) -> pl.DataFrame:
    """The indicators that the signals read, by month; those that only the current register has are missing before."""
    indicators = sorted({signal.indicator for signal in signals})
    values = [
        (pl.col(name) if name in frame.columns else pl.lit(None, pl.Float64)).cast(pl.Float64).alias(name)
        for name in indicators
    ]
    return frame.select("company_id", "month", *values)


class _WarningEncoder:
    """Encodes the warnings of many rows as JSON: few combinations occur, and each is worded once."""

    def __init__(self, signals: tuple[WarningSignal, ...]):
        self.signals = signals
        self.cache: dict[bytes, bytes] = {}
        self.descriptions = [_describe_signal(signal) for signal in signals]

    def __call__(self, rows: pl.DataFrame) -> pl.Series:
        arrays = {name: rows[name].to_numpy() for name in rows.columns if name not in ("company_id", "month")}
        with np.errstate(invalid="ignore"):
            is_raised = early_warnings.active_warnings(self.signals, arrays, ArrayOps)
        flags = np.zeros((rows.height, len(self.signals)), bool)
        for index, signal in enumerate(self.signals):
            flags[:, index] = is_raised[signal.code]
        return pl.Series([self._json(row) for row in flags], dtype=pl.Binary)

    def _json(self, row: np.ndarray) -> bytes:
        key = row.tobytes()
        if key not in self.cache:
            self.cache[key] = orjson.dumps([self.descriptions[index] for index in np.flatnonzero(row)])
        return self.cache[key]


def _describe_signal(signal: WarningSignal) -> dict[str, str]:
    """The warning's text with the signal's threshold, where a decision would have the company's own value."""
    is_minimum = signal.at_least is not None
    threshold = signal.at_least if signal.at_least is not None else signal.at_most
    assert threshold is not None  # a Condition has one of the two
    text, text_zh = format_value(threshold, find_column(signal.indicator, {}))
    return {
        "code": signal.code,
        "severity": signal.severity,
        "en": signal.en.format(value=f"{text} or {'more' if is_minimum else 'less'}"),
        "zh": signal.zh.format(value=f"{text_zh} 或以{'上' if is_minimum else '下'}"),
    }


def _insert_chunk(connection: sa.Connection, indicators: pl.DataFrame, months: pl.DataFrame) -> None:
    """Add the indicators to those in the store, and replace the months."""
    connection.execute(sa.insert(INDICATORS), indicators.to_dicts())
    connection.execute(sa.delete(COMPANIES).where(COMPANIES.c.pseudonym.in_(months["pseudonym"].to_list())))
    connection.execute(sa.insert(COMPANIES), months.to_dicts())
