"""Exports rows for training: pseudonyms, and the indicators known at each row's time, as far as grants allow.

python -m serving export-training --table county --out var/exports/county.parquet
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from datasets.errors import DataError
from datasets.export import point_in_time
from datasets.export.manifest import Manifest
from datasets.files import external_files
from datasets.schema import TableSchema
from datasets.simulation import SIMULATED_KEY
from datasets.validation import read_table, validate
from serving.core.audit import entries, log
from serving.core.audit.events import new_event, record_events
from serving.core.db.engine import read_connection, write_transaction
from serving.core.db.schema import INDICATORS, SUBJECT_KEYS
from serving.core.identifiers import utc_now
from serving.governance.lineage.erasure import erased_subjects
from serving.governance.lineage.trace import record_dataset_rows
from serving.privacy.consent.rules import ConsentRules, Grant, active_grants, evaluate_consent
from serving.privacy.subjects.indicators import associated_data, columns_by_group, parse_day
from serving.privacy.subjects.ingestion import product_for_table
from serving.privacy.subjects.vault import Vault, existing_keys

ROWS_PER_CHUNK = 5_000  # whose stored indicators are in memory together
NAMES_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export. rows: `subject` (pseudonym), `at` (time) and the outcome, where it is known."""

    table: TableSchema
    product: str
    tenant: str
    rows: pl.DataFrame


def requested_rows(file: Path | None, table: TableSchema, engine: sa.Engine, vault: Vault) -> pl.DataFrame:
    """The rows of a file: subject (pseudonym), at and the outcome; without a file, every subject as of now.

    A date means the end of that day. Raises DataError where a row has no id or no time.
    """
    [name] = [column.name for column in table.columns_with_role("id")]
    product = product_for_table(table.name)
    if file is None:
        query = sa.select(INDICATORS.c.pseudonym).where(INDICATORS.c.product == product).distinct()
        with read_connection(engine) as connection:
            pseudonyms = sorted(connection.execute(query).scalars())
        return pl.DataFrame(
            {"subject": pseudonyms, "at": [utc_now()] * len(pseudonyms)}, schema={"subject": pl.String, "at": pl.String}
        )
    columns = tuple(column for column in table.columns if column.role in ("id", "time", "target"))
    frame = read_table(file, TableSchema(name=table.name, columns=columns, missing=table.missing))
    times = [column.name for column in table.columns_with_role("time")]
    if frame[name].null_count() or not times or frame[times[0]].null_count():
        raise DataError(f"{file.name}: each row needs {name} and {times[0] if times else 'a time'}, as 2026-06-30.")
    try:
        timestamps = [f"{parse_day(text)}T23:59:59.999Z" for text in frame[times[0]]]
    except ValueError as error:
        raise DataError(f"{file.name}: {times[0]} is {error}; a date or month is expected, as 2026-06-30.") from error
    subjects = [vault.pseudonym(product, subject) for subject in frame[name]]
    outcome = frame.select(column.name for column in table.columns_with_role("target"))
    return pl.DataFrame({"subject": subjects, "at": timestamps}).hstack(outcome)


def export(
    engine: sa.Engine, vault: Vault, rules: ConsentRules, request: ExportRequest, out: Path, by: str = "operator"
) -> Manifest:
    """Write the rows to a Parquet file, record whose they are, then write the manifest beside it. `by`: who exports.

    Raises DataError where no row may be exported.
    """
    grant_counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    withheld: Counter[str] = Counter()
    frames = []
    with read_connection(engine) as connection:
        timestamp = utc_now()
        shared_grants = active_grants(connection, request.tenant, "training", "", timestamp)
        for chunk in request.rows.iter_slices(ROWS_PER_CHUNK):
            own_grants = _own_grants(connection, request.tenant, timestamp, chunk["subject"].unique().to_list())
            consents = {
                name: evaluate_consent(
                    rules, request.product, columns_by_group(request.table), [*shared_grants, *own_grants.get(name, [])]
                )
                for name in chunk["subject"].unique()
            }
            erased = erased_subjects(connection, request.product, consents)  # even where they were loaded again
            keys = existing_keys(connection, vault, sorted(set(consents) - erased))
            is_allowed = [name in keys and bool(consents[name].allowed_groups) for name in chunk["subject"]]
            dropped["unknown or erased"] += sum(name not in keys for name in chunk["subject"])
            dropped["not authorised"] += sum(
                name in keys and not consents[name].allowed_groups for name in chunk["subject"]
            )
            selected = chunk.filter(pl.Series(is_allowed, dtype=pl.Boolean))
            for name in selected["subject"]:
                grant_counts.update(consents[name].grants)
                withheld.update((*consents[name].withheld, *consents[name].missing))
            allowed_groups = {name: set(consent.allowed_groups) for name, consent in consents.items() if name in keys}
            if selected.height:
                frames.append(_known_values(connection, vault, selected, allowed_groups, keys, request.table))
    if not frames:
        raise DataError(
            f"No row may be exported for training by {request.tenant!r}: {_describe_dropped(dropped)}. Enter grants "
            "for training: python -m serving grant create --purpose training."
        )
    frame = _validate_frame(pl.concat(frames, how="diagonal_relaxed"), request.table)
    simulated = bool(frame["simulated"].any()) or request.table.origin.simulated
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.drop("simulated").write_parquet(out, metadata={SIMULATED_KEY: "true"} if simulated else None)
    manifest = Manifest(
        name=out.name,
        rows=frame.height,
        sha256=external_files.file_sha256(out),
        product=request.product,
        table=request.table.name,
        purpose="training",
        tenant=request.tenant,
        simulated=simulated,
        authorisations=tuple(sorted(grant_counts)),
        left_out={reason: rows for reason, rows in dropped.items() if rows},
        missing=dict(sorted(withheld.items())),
        created=utc_now(),
    )
    [name] = [column.name for column in request.table.columns_with_role("id")]
    with write_transaction(engine) as connection:
        log.acquire_append_lock(connection)
        record_dataset_rows(connection, manifest.sha256, sorted(set(frame[name])))
        log.append(connection, [entries.export_entry(connection, manifest.sha256, request.tenant, grant_counts)])
        record_events(connection, [new_event("export", request.tenant, by, manifest.sha256, "export-training")])
    manifest.write(out)
    return manifest


def _own_grants(connection: sa.Connection, tenant: str, timestamp: str, names: list[str]) -> dict[str, list[Grant]]:
    """Subject -> the grants that name it."""
    grants: dict[str, list[Grant]] = {}
    for name in names:
        if own_grants := [
            grant
            for grant in active_grants(connection, tenant, "training", name, timestamp)
            if grant.subject is not None
        ]:
            grants[name] = own_grants
    return grants


def _known_values(
    connection: sa.Connection, vault: Vault, requested: pl.DataFrame, allowed_groups: Mapping[str, set[str]],
    keys: Mapping[str, bytes], table: TableSchema,
) -> pl.DataFrame:  # fmt: skip
    """The requested rows with the indicators known at their time; only those values are decrypted."""
    stored = [
        row
        for row in _stored_rows(connection, sorted(set(requested["subject"])))
        if row["group"] in allowed_groups[row["pseudonym"]]
    ]
    schema = dict.fromkeys(("subject", "group", "true_at", "loaded"), pl.String)
    frame = pl.DataFrame([{**row, "subject": row["pseudonym"]} for row in stored], schema=schema, strict=False)
    values: list[dict[str, Any]] = [{} for _ in range(requested.height)]
    for index, stored_index in point_in_time.as_of_join(requested, frame).iter_rows():
        row = stored[stored_index]
        decrypted = orjson.loads(vault.open(keys[row["pseudonym"]], row["sealed"], associated_data(row)))
        values[index] |= decrypted | {"simulated": values[index].get("simulated", False) or bool(row["simulated"])}
    [name] = [column.name for column in table.columns_with_role("id")]
    times = [column.name for column in table.columns_with_role("time")]
    rows = [
        {
            name: subject,
            **({times[0]: timestamp[:10]} if times else {}),
            **row_values,
            "simulated": row_values.get("simulated", False),
        }
        for subject, timestamp, row_values in zip(requested["subject"], requested["at"], values, strict=True)
    ]
    return pl.DataFrame(rows, infer_schema_length=None).hstack(requested.drop("subject", "at"))


def _stored_rows(connection: sa.Connection, names: list[str]) -> Iterator[Mapping[str, Any]]:
    for offset in range(0, len(names), NAMES_PER_STATEMENT):
        statement = sa.select(INDICATORS).join(SUBJECT_KEYS, SUBJECT_KEYS.c.pseudonym == INDICATORS.c.pseudonym)
        page = statement.where(INDICATORS.c.pseudonym.in_(names[offset : offset + NAMES_PER_STATEMENT]))
        yield from (dict(row) for row in connection.execute(page).mappings())


def _validate_frame(frame: pl.DataFrame, table: TableSchema) -> pl.DataFrame:
    """Validate the rows against the contract, and add the column `simulated`, which it does not have."""
    column_names = {column.name for column in table.columns}
    typed, _, _ = validate(frame.select(name for name in frame.columns if name in column_names), table)
    present = [name for name in typed.columns if name in frame.columns]
    return typed.select(present).with_columns(frame["simulated"])


def _describe_dropped(dropped: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{rows:,} rows are {reason}" for reason, rows in dropped.items() if rows) or "there are no subjects"
    )
