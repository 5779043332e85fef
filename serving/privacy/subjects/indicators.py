"""A subject's indicators in the store: sealed group by group, with the day for which they are true and that of loading.

Nothing is overwritten: the newest is what a decision reads, the others say what was known when.
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

from datasets.schema import Table
from serving.core.db.engine import parted
from serving.core.db.schema import INDICATORS, SUBJECT_KEYS
from serving.privacy.subjects.vault import Tampered, Vault, keys

OTHER = "other"  # the group of what a contract puts into none
HELD_BACK = ("target", "leak", "weight", "id", "time", "group")  # roles that are no indicator of a subject
DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")

Groups = Mapping[str, Mapping[str, Any]]  # group -> name -> value


@dataclass(frozen=True, slots=True)
class Made:
    """Where rows come from: the product, the file, its digest, whether it is simulated, and when it was loaded."""

    product: str
    source: str
    source_sha256: str
    simulated: bool
    loaded: str


def groups_of(table: Table) -> dict[str, list[str]]:
    """Group -> the names of its columns that say something of a subject."""
    found: dict[str, list[str]] = {}
    for column in table.columns:
        if column.role not in HELD_BACK and column.derived is None:
            found.setdefault(column.group or OTHER, []).append(column.name)
    return found


def day(text: str) -> str:
    """YYYY-MM-DD; a month stands for its last day. Raises ValueError."""
    if not DAY.fullmatch(text):
        raise ValueError(text)
    year, month, *rest = (int(part) for part in text.split("-"))
    last = monthrange(year, month)[1]
    if rest and rest[0] > last:
        raise ValueError(text)
    return text if rest else f"{text}-{last:02d}"


def sealed(
    vault: Vault, key: bytes, pseudonym: str, true_at: str, groups: Groups, made: Made
) -> Iterable[dict[str, Any]]:
    """Rows of INDICATORS."""
    for group, values in groups.items():
        told = {name: value for name, value in values.items() if value is not None}
        row = {"pseudonym": pseudonym, "group": group, "true_at": true_at, "loaded": made.loaded,
               "product": made.product, "source": made.source, "source_sha256": made.source_sha256,
               "simulated": made.simulated}  # fmt: skip
        yield row | {"sealed": vault.seal(key, orjson.dumps(told), identity(row))}


def identity(row: Mapping[str, Any] | sa.RowMapping) -> str:
    """What a row is, in one line: its values open in no other."""
    names = ("pseudonym", "group", "true_at", "loaded", "source_sha256", "simulated")
    return _identity(*(row[name] for name in names))


def _identity(pseudonym: str, group: str, true_at: str, loaded: str, source: str, simulated: bool) -> str:
    return f"{pseudonym}\0{group}\0{true_at}\0{loaded}\0{source}\0{int(simulated)}"


def put(connection: sa.Connection, vault: Vault, rows: Sequence[tuple[str, str, Groups]], made: Made) -> None:
    """Of (subject's id, true at, groups)."""
    named = [(vault.pseudonym(made.product, subject), true_at, groups) for subject, true_at, groups in rows]
    held = keys(connection, vault, dict.fromkeys(name for name, _, _ in named))
    lines = [row for name, true_at, groups in named for row in sealed(vault, held[name], name, true_at, groups, made)]
    if lines:
        connection.execute(sa.insert(INDICATORS), lines)


@dataclass(frozen=True, slots=True)
class Found:
    values: dict[str, Any]
    simulated: bool


def newest(connection: sa.Connection, vault: Vault, pseudonym: str, groups: Sequence[str], at: str) -> Found | None:
    """What is newest of each of these groups, and of no other, true at `at` (a day) or before; None where the store
    knows nobody of that name. Raises Tampered."""
    wrapped = connection.execute(_KEY, {"pseudonym": pseudonym}).scalar()
    if wrapped is None:
        return None
    key = vault.unwrap(wrapped, pseudonym)
    values: dict[str, Any] = {}
    simulated = False
    if groups:
        asked = {"pseudonym": pseudonym, "at": at} | {f"g{i}": group for i, group in enumerate(groups)}
        for row in connection.execute(_newest(len(groups)), asked).mappings():
            values |= orjson.loads(vault.open(key, row["sealed"], identity(row)))
            simulated = simulated or row["simulated"]
    return Found(values, bool(simulated))


def newest_of(
    connection: sa.Connection, vault: Vault, subjects: Mapping[str, bytes], groups: Sequence[str], at: str
) -> dict[str, Found | Tampered]:
    """The same of many subjects, each with its key: of every one of them, and where its values do not open, why."""
    values: dict[str, dict[str, Any]] = {name: {} for name in subjects}
    simulated: set[str] = set()
    tampered: dict[str, Tampered] = {}
    for part in parted([*subjects]) if groups else ():
        told = connection.execute(_NEWEST_OF, {"pseudonyms": part, "groups": groups, "at": at}).all()
        for name, group, true_at, loaded, source, invented, sealed_ in told:
            try:
                line = vault.open(subjects[name], sealed_, _identity(name, group, true_at, loaded, source, invented))
                values[name] |= orjson.loads(line)
            except Tampered as error:
                tampered[name] = error
            if invented:
                simulated.add(name)
    return {name: tampered.get(name) or Found(told, name in simulated) for name, told in values.items()}


def known(connection: sa.Connection, pseudonym: str) -> bool | None:
    """Whether the newest of a subject's rows is simulated; None where the store has nothing of it."""
    found: bool | None = connection.execute(_KNOWN, {"pseudonym": pseudonym}).scalar()
    return found


_KEY = sa.select(SUBJECT_KEYS.c.wrapped).where(SUBJECT_KEYS.c.pseudonym == sa.bindparam("pseudonym"))
_KNOWN = (
    sa.select(INDICATORS.c.simulated)
    .join(SUBJECT_KEYS, SUBJECT_KEYS.c.pseudonym == INDICATORS.c.pseudonym)
    .where(INDICATORS.c.pseudonym == sa.bindparam("pseudonym"))
    .order_by(INDICATORS.c.true_at.desc(), INDICATORS.c.loaded.desc())
    .limit(1)
)


# Which row is the newest is told by the index alone; only that one is fetched.
_DATED = (
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
_TOLD = ("pseudonym", "group", "true_at", "loaded", "source_sha256", "simulated", "sealed")
_NEWEST_OF = sa.select(*(INDICATORS.c[name] for name in _TOLD)).join(
    _DATED,
    sa.and_(
        _DATED.c.age == 1,
        *(INDICATORS.c[name] == _DATED.c[name] for name in ("pseudonym", "group", "true_at", "loaded")),
    ),
)


@cache
def _newest(groups: int) -> sa.Executable:
    """One seek in the key's index for each group, whatever the months that the store holds."""
    wanted = [column for column in INDICATORS.c if column.name not in ("product", "source")]
    each = [
        sa.select(*wanted)
        .where(INDICATORS.c.pseudonym == sa.bindparam("pseudonym"), INDICATORS.c.group == sa.bindparam(f"g{i}"))
        .where(INDICATORS.c.true_at <= sa.bindparam("at"))
        .order_by(INDICATORS.c.true_at.desc(), INDICATORS.c.loaded.desc())
        .limit(1)
        .subquery()
        for i in range(groups)
    ]
    return sa.union_all(*(sa.select(one) for one in each))


class SubjectGone(Exception):
    """The subject was erased while the answer was made; nothing was recorded of it."""


def with_keys(connection: sa.Connection, subjects: set[str]) -> set[str]:
    """Those that are not erased."""
    found: set[str] = set()
    for part in parted(sorted(subjects)):
        chosen = sa.select(SUBJECT_KEYS.c.pseudonym).where(SUBJECT_KEYS.c.pseudonym.in_(part))
        found |= set(connection.execute(chosen).scalars())
    return found
