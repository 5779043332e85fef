"""Store a subject's indicators, encrypted by group, with the day that they describe and the time of their import.

Nothing is overwritten: a decision reads the newest values, and older ones show what was known when.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.schema import TableSchema
from serving.core.db.engine import chunked
from serving.core.db.schema import INDICATORS, SUBJECT_KEYS
from serving.core.db.tables.subjects import IndicatorRow
from serving.privacy.subjects.errors import TamperedError
from serving.privacy.subjects.vault import Vault, ensure_keys

OTHER_GROUP = "other"  # group of the columns without one
EXCLUDED_ROLES = ("target", "leak", "weight", "id", "time", "group")  # roles of columns that are not indicators
DAY_OR_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")

GroupValues = Mapping[str, Mapping[str, Any]]  # group -> name -> value


@dataclass(frozen=True, slots=True)
class IndicatorSource:
    """The origin of rows: product, file name and digest, whether it is simulated, and the time of the import."""

    product: str
    source: str
    source_sha256: str
    simulated: bool
    loaded: str


def columns_by_group(table: TableSchema) -> dict[str, list[str]]:
    """Group -> names of its indicator columns."""
    groups: dict[str, list[str]] = {}
    for column in table.columns:
        if column.role not in EXCLUDED_ROLES and column.derived is None:
            groups.setdefault(column.group or OTHER_GROUP, []).append(column.name)
    return groups


def parse_day(text: str) -> str:
    """A day as YYYY-MM-DD from a day, or from a month, which means its last day. Raises ValueError."""
    if not DAY_OR_MONTH.fullmatch(text):
        raise ValueError(text)
    year, month, *day_numbers = (int(number) for number in text.split("-"))
    last_day = monthrange(year, month)[1]
    if day_numbers and day_numbers[0] > last_day:
        raise ValueError(text)
    return text if day_numbers else f"{text}-{last_day:02d}"


def encrypt_rows(
    vault: Vault, key: bytes, pseudonym: str, true_at: str, groups: GroupValues, source: IndicatorSource
) -> Iterable[IndicatorRow]:
    """Rows of INDICATORS, one per group, encrypted with the subject's key. Nulls are left out."""
    for group, values in groups.items():
        present = {name: value for name, value in values.items() if value is not None}
        context = _associated_data(pseudonym, group, true_at, source.loaded, source.source_sha256, source.simulated)
        yield {
            "pseudonym": pseudonym,
            "group": group,
            "true_at": true_at,
            "loaded": source.loaded,
            "product": source.product,
            "sealed": vault.seal(key, orjson.dumps(present), context),
            "source": source.source,
            "source_sha256": source.source_sha256,
            "simulated": source.simulated,
        }


def associated_data(row: Mapping[str, Any] | sa.RowMapping) -> str:
    """The identity of a row; its values cannot be decrypted in any other row."""
    names = ("pseudonym", "group", "true_at", "loaded", "source_sha256", "simulated")
    return _associated_data(*(row[name] for name in names))


def _associated_data(pseudonym: str, group: str, true_at: str, loaded: str, source: str, simulated: bool) -> str:
    return f"{pseudonym}\0{group}\0{true_at}\0{loaded}\0{source}\0{int(simulated)}"


def insert(
    connection: sa.Connection, vault: Vault, rows: Sequence[tuple[str, str, GroupValues]], source: IndicatorSource
) -> int:
    """Insert rows (subject's id, day that they describe, groups), with a key for each new subject, except those of
    erased subjects. Returns the number of subjects."""
    pseudonymised = [(vault.pseudonym(source.product, subject), true_at, groups) for subject, true_at, groups in rows]
    subject_keys = ensure_keys(connection, vault, dict.fromkeys(name for name, _, _ in pseudonymised))
    encrypted_rows = [
        row
        for name, true_at, groups in pseudonymised
        if name in subject_keys
        for row in encrypt_rows(vault, subject_keys[name], name, true_at, groups, source)
    ]
    if encrypted_rows:
        connection.execute(sa.insert(INDICATORS), encrypted_rows)
    return len(subject_keys)


@dataclass(frozen=True, slots=True)
class StoredIndicators:
    values: dict[str, Any]
    simulated: bool


def latest_as_of(
    connection: sa.Connection, vault: Vault, pseudonym: str, groups: Sequence[str], as_of: str
) -> StoredIndicators | None:
    """The newest values of each of these groups, and no other, that describe the day `as_of` or an earlier one.

    None where the store has no such subject. Raises TamperedError.
    """
    wrapped = connection.execute(_KEY, {"pseudonym": pseudonym}).scalar()
    if wrapped is None:
        return None
    key = vault.unwrap(wrapped, pseudonym)
    values: dict[str, Any] = {}
    simulated = False
    if groups:
        params = {"pseudonym": pseudonym, "at": as_of} | {f"g{i}": group for i, group in enumerate(groups)}
        for row in connection.execute(_latest_statement(len(groups)), params).mappings():
            values |= orjson.loads(vault.open(key, row["sealed"], associated_data(row)))
            simulated = simulated or row["simulated"]
    return StoredIndicators(values, bool(simulated))


def latest_as_of_many(
    connection: sa.Connection, vault: Vault, subjects: Mapping[str, bytes], groups: Sequence[str], as_of: str
) -> dict[str, StoredIndicators | TamperedError]:
    """`latest_as_of` for many subjects (pseudonym -> key). A subject whose values cannot be decrypted has its error."""
    values: dict[str, dict[str, Any]] = {name: {} for name in subjects}
    simulated: set[str] = set()
    tampered: dict[str, TamperedError] = {}
    for chunk in chunked([*subjects]) if groups else ():
        rows = connection.execute(_LATEST_OF_MANY, {"pseudonyms": chunk, "groups": groups, "at": as_of}).all()
        for name, group, true_at, loaded, source, row_simulated, ciphertext in rows:
            try:
                plaintext = vault.open(
                    subjects[name], ciphertext, _associated_data(name, group, true_at, loaded, source, row_simulated)
                )
                values[name] |= orjson.loads(plaintext)
            except TamperedError as error:
                tampered[name] = error
            if row_simulated:
                simulated.add(name)
    return {
        name: tampered.get(name) or StoredIndicators(indicators, name in simulated)
        for name, indicators in values.items()
    }


def is_simulated(connection: sa.Connection, pseudonym: str) -> bool | None:
    """Whether the newest row of a subject is simulated; None where the store has none."""
    simulated: bool | None = connection.execute(_IS_SIMULATED, {"pseudonym": pseudonym}).scalar()
    return simulated


_KEY = sa.select(SUBJECT_KEYS.c.wrapped).where(SUBJECT_KEYS.c.pseudonym == sa.bindparam("pseudonym"))
_IS_SIMULATED = (
    sa.select(INDICATORS.c.simulated)
    .join(SUBJECT_KEYS, SUBJECT_KEYS.c.pseudonym == INDICATORS.c.pseudonym)
    .where(INDICATORS.c.pseudonym == sa.bindparam("pseudonym"))
    .order_by(INDICATORS.c.true_at.desc(), INDICATORS.c.loaded.desc())
    .limit(1)
)


# The index alone ranks the rows; only the newest is fetched.
_RANKED = (
    sa.select(
        INDICATORS.c.pseudonym,
        INDICATORS.c.group,
        INDICATORS.c.true_at,
        INDICATORS.c.loaded,
        sa.func.row_number()
        .over(
            partition_by=(INDICATORS.c.pseudonym, INDICATORS.c.group),
            order_by=(INDICATORS.c.true_at.desc(), INDICATORS.c.loaded.desc()),
        )
        .label("age"),
    )
    .where(INDICATORS.c.pseudonym.in_(sa.bindparam("pseudonyms", expanding=True)))
    .where(INDICATORS.c.group.in_(sa.bindparam("groups", expanding=True)))
    .where(INDICATORS.c.true_at <= sa.bindparam("at"))
    .subquery()
)
_COLUMNS = ("pseudonym", "group", "true_at", "loaded", "source_sha256", "simulated", "sealed")
_LATEST_OF_MANY = sa.select(*(INDICATORS.c[name] for name in _COLUMNS)).join(
    _RANKED,
    sa.and_(
        _RANKED.c.age == 1,
        *(INDICATORS.c[name] == _RANKED.c[name] for name in ("pseudonym", "group", "true_at", "loaded")),
    ),
)


@cache
def _latest_statement(groups: int) -> sa.Executable:
    """One index seek per group, however many months the store holds."""
    columns = [column for column in INDICATORS.c if column.name not in ("product", "source")]
    selects = [
        sa.select(*columns)
        .where(INDICATORS.c.pseudonym == sa.bindparam("pseudonym"), INDICATORS.c.group == sa.bindparam(f"g{i}"))
        .where(INDICATORS.c.true_at <= sa.bindparam("at"))
        .order_by(INDICATORS.c.true_at.desc(), INDICATORS.c.loaded.desc())
        .limit(1)
        .subquery()
        for i in range(groups)
    ]
    return sa.union_all(*(sa.select(select) for select in selects))


def subjects_with_keys(connection: sa.Connection, subjects: set[str]) -> set[str]:
    """The subjects that are not erased."""
    existing: set[str] = set()
    for chunk in chunked(sorted(subjects)):
        stmt = sa.select(SUBJECT_KEYS.c.pseudonym).where(SUBJECT_KEYS.c.pseudonym.in_(chunk))
        existing |= set(connection.execute(stmt).scalars())
    return existing
