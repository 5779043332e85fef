"""Rows for training out of the store: pseudonyms and what was known at each row's time, as far as grants reach.

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

from datasets import external_files, point_in_time
from datasets.errors import DataError
from datasets.manifest import Manifest
from datasets.schema import Table, conform, read
from serving.core.db.engine import reading, writing
from serving.core.db.schema import INDICATORS, SUBJECT_KEYS
from serving.core.identifiers import now
from serving.governance.lineage.erasure import erased
from serving.governance.lineage.trace import note_rows
from serving.privacy.consent.rules import Grant, Rules, live, opened
from serving.privacy.subjects.indicators import day, groups_of, identity
from serving.privacy.subjects.ingestion import product_of
from serving.privacy.subjects.vault import Vault, held_keys

AT_ONCE = 5_000  # rows: what is known of them is held together
PER_STATEMENT = 500
SIMULATED_KEY = "yuheng.simulated"  # Parquet metadata, as the simulators write it


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an export is asked for. `rows`: pseudonym, at and the outcome; else every subject, now."""

    table: Table
    product: str
    tenant: str
    rows: pl.DataFrame


def asked_of(file: Path | None, table: Table, engine: sa.Engine, vault: Vault) -> pl.DataFrame:
    """subject (pseudonym), at, and the outcome where the file tells it. A day is over before its row is asked for."""
    [name] = [column.name for column in table.role("id")]
    product = product_of(table.name)
    if file is None:
        query = sa.select(INDICATORS.c.pseudonym).where(INDICATORS.c.product == product).distinct()
        with reading(engine) as connection:
            found = sorted(connection.execute(query).scalars())
        return pl.DataFrame(
            {"subject": found, "at": [now()] * len(found)}, schema={"subject": pl.String, "at": pl.String}
        )
    told = tuple(column for column in table.columns if column.role in ("id", "time", "target"))
    frame = read(file, Table(name=table.name, columns=told, missing=table.missing))
    times = [column.name for column in table.role("time")]
    if frame[name].null_count() or not times or frame[times[0]].null_count():
        raise DataError(f"{file.name}: each row needs {name} and {times[0] if times else 'a time'}, as 2026-06-30.")
    try:
        ends = [f"{day(found)}T23:59:59.999Z" for found in frame[times[0]]]
    except ValueError as error:
        raise DataError(f"{file.name}: {times[0]} is {error}; a day or month is needed, as 2026-06-30.") from error
    named = [vault.pseudonym(product, subject) for subject in frame[name]]
    outcome = frame.select(column.name for column in table.role("target"))
    return pl.DataFrame({"subject": named, "at": ends}).hstack(outcome)


def export(engine: sa.Engine, vault: Vault, rules: Rules, wanted: Wanted, out: Path) -> Manifest:
    """The manifest, beside the file once the store knows whose rows are in it. Raises DataError where nothing
    may be taken."""
    used: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    shut: Counter[str] = Counter()
    parts = []
    with reading(engine) as connection:
        stamp = now()
        everyone = live(connection, wanted.tenant, "training", "", stamp)
        for asked in wanted.rows.iter_slices(AT_ONCE):
            own = _own(connection, wanted.tenant, stamp, asked["subject"].unique().to_list())
            may = {
                name: opened(rules, wanted.product, groups_of(wanted.table), [*everyone, *own.get(name, [])])
                for name in asked["subject"].unique()
            }
            gone = erased(connection, wanted.product, may)  # for good, also where they were loaded again
            keys = held_keys(connection, vault, sorted(set(may) - gone))
            fine = [name in keys and bool(may[name].groups) for name in asked["subject"]]
            lost["unknown or erased"] += sum(name not in keys for name in asked["subject"])
            lost["not authorised"] += sum(name in keys and not may[name].groups for name in asked["subject"])
            kept = asked.filter(pl.Series(fine, dtype=pl.Boolean))
            for name in kept["subject"]:
                used.update(may[name].grants)
                shut.update((*may[name].silent, *may[name].lacking))
            open_ = {name: set(one.groups) for name, one in may.items() if name in keys}
            if kept.height:
                parts.append(_values(connection, vault, kept, open_, keys, wanted.table))
    if not parts:
        raise DataError(
            f"No row may be taken for training by {wanted.tenant!r}: {_counts(lost)}. Grants with the purpose training "
            "are needed: python -m serving grant create --purpose training."
        )
    frame = _conformed(pl.concat(parts, how="diagonal_relaxed"), wanted.table)
    simulated = bool(frame["simulated"].any()) or wanted.table.origin.simulated
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.drop("simulated").write_parquet(out, metadata={SIMULATED_KEY: "true"} if simulated else None)
    manifest = Manifest(
        name=out.name, rows=frame.height, sha256=external_files.digest(out), product=wanted.product,
        table=wanted.table.name, purpose="training", tenant=wanted.tenant, simulated=simulated, authorisations=tuple(sorted(used)),
        left_out={why: rows for why, rows in lost.items() if rows}, missing=dict(sorted(shut.items())), created=now(),
    )  # fmt: skip
    [name] = [column.name for column in wanted.table.role("id")]
    with writing(engine) as connection:
        note_rows(connection, manifest.sha256, sorted(set(frame[name])))
    manifest.write(out)
    return manifest


def _own(connection: sa.Connection, tenant: str, stamp: str, names: list[str]) -> dict[str, list[Grant]]:
    """Subject -> the grants that are for it alone."""
    found: dict[str, list[Grant]] = {}
    for name in names:
        if own := [one for one in live(connection, tenant, "training", name, stamp) if one.subject is not None]:
            found[name] = own
    return found


def _values(
    connection: sa.Connection, vault: Vault, asked: pl.DataFrame, open_: Mapping[str, set[str]],
    keys: Mapping[str, bytes], table: Table,
) -> pl.DataFrame:  # fmt: skip
    """The rows that are asked for, with what was known of them; opened are those values alone."""
    known = [
        row for row in _stored(connection, sorted(set(asked["subject"]))) if row["group"] in open_[row["pseudonym"]]
    ]
    schema = dict.fromkeys(("subject", "group", "true_at", "loaded"), pl.String)
    frame = pl.DataFrame([{**row, "subject": row["pseudonym"]} for row in known], schema=schema, strict=False)
    values: list[dict[str, Any]] = [{} for _ in range(asked.height)]
    for at, n in point_in_time.choose(asked, frame).iter_rows():
        row = known[n]
        told = orjson.loads(vault.open(keys[row["pseudonym"]], row["sealed"], identity(row)))
        values[at] |= told | {"simulated": values[at].get("simulated", False) or bool(row["simulated"])}
    [name] = [column.name for column in table.role("id")]
    times = [column.name for column in table.role("time")]
    columns = pl.DataFrame(
        [{name: subject, **({times[0]: at[:10]} if times else {}), **told, "simulated": told.get("simulated", False)}
         for subject, at, told in zip(asked["subject"], asked["at"], values, strict=True)],
        infer_schema_length=None,
    )  # fmt: skip
    return columns.hstack(asked.drop("subject", "at"))


def _stored(connection: sa.Connection, names: list[str]) -> Iterator[Mapping[str, Any]]:
    for at in range(0, len(names), PER_STATEMENT):
        query = sa.select(INDICATORS).join(SUBJECT_KEYS, SUBJECT_KEYS.c.pseudonym == INDICATORS.c.pseudonym)
        chosen = query.where(INDICATORS.c.pseudonym.in_(names[at : at + PER_STATEMENT]))
        yield from (dict(row) for row in connection.execute(chosen).mappings())


def _conformed(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """By the contract, with what it does not tell of: whether a row is simulated."""
    known = {column.name for column in table.columns}
    typed, _, _ = conform(frame.select(name for name in frame.columns if name in known), table)
    given = [name for name in typed.columns if name in frame.columns]
    return typed.select(given).with_columns(frame["simulated"])


def _counts(lost: Mapping[str, int]) -> str:
    return ", ".join(f"{rows:,} rows are {why}" for why, rows in lost.items() if rows) or "there are no subjects"
