"""Whether a group of a subject's indicators may be read: by whom, for what, under which grants."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.errors import DataError
from serving.core.db.engine import parted
from serving.core.db.schema import GRANTS
from serving.core.http.request import now

FILE = Path(__file__).parents[3] / "configs" / "consent.toml"
PURPOSES = ("credit_limit", "scitech_risk", "pathology", "training")
Kind = Literal["government", "personal"]
KINDS: tuple[Kind, ...] = ("government", "personal")
KINDS_ZH = {"government": "政府授权", "personal": "个人授权"}


class Rules(BaseModel):
    """configs/consent.toml. `needs`: product -> group -> each kind of grant that it takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conduct: frozenset[str]
    needs: dict[str, dict[str, tuple[Kind, ...]]]

    def groups(self, purpose: str) -> list[str]:
        """What a grant for a purpose may name: for training, any product's."""
        products = self.needs if purpose == "training" else [purpose]
        return sorted({group for product in products for group in self.needs.get(product, {})})


def rules(file: Path = FILE) -> Rules:
    """Raises DataError."""
    try:
        return Rules.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise DataError(f"{file}: {error}. Copy configs/consent.toml anew.") from error


@dataclass(frozen=True, slots=True)
class Grant:
    id: str
    kind: str
    subject: str | None  # pseudonym; None: all
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Opened:
    """`groups` may be read, under `grants`. `silent`: conduct that may not, and is left out. `lacking`: any other
    group that may not, with the kinds of grant that it wants."""

    groups: tuple[str, ...]
    grants: tuple[str, ...]
    silent: tuple[str, ...]
    lacking: Mapping[str, tuple[str, ...]]


def live(connection: sa.Connection, tenant: str, purpose: str, pseudonym: str, at: str) -> list[Grant]:
    """Those of a tenant for a purpose that hold at `at` for a subject, oldest first."""
    asked = {"tenant": tenant, "purpose": purpose, "subject": pseudonym, "at": at}
    return [Grant(row.id, row.kind, row.subject, frozenset(row.groups)) for row in connection.execute(_LIVE, asked)]


def live_of(
    connection: sa.Connection, tenant: str, purpose: str, pseudonyms: Sequence[str], at: str
) -> dict[str | None, list[Grant]]:
    """The same for many subjects, by subject, oldest first; under None those that name nobody. Nothing of a subject
    without its own."""
    found: dict[str | None, list[Grant]] = {}
    mine = GRANTS.c.tenant == tenant, GRANTS.c.purpose == purpose, *_holding(at)
    chosen = sa.select(GRANTS.c.id, GRANTS.c.kind, GRANTS.c.subject, GRANTS.c.groups).where(*mine)
    parts = [chosen.where(GRANTS.c.subject.is_(None))]
    parts += [chosen.where(GRANTS.c.subject.in_(part)) for part in parted(pseudonyms)]
    for part in parts:
        for row in connection.execute(part.order_by(GRANTS.c.id)):
            grant = Grant(row.id, row.kind, row.subject, frozenset(row.groups))
            found.setdefault(row.subject, []).append(grant)
    return found


def opened(told: Rules, product: str, groups: Iterable[str], grants: Collection[Grant]) -> Opened:
    """What the grants open of the groups that are asked for."""
    open_, used, silent, lacking = [], [], [], {}
    for group in groups:
        kinds = told.needs.get(product, {}).get(group, KINDS)
        found = {
            kind: next((one for one in grants if one.kind == kind and group in one.groups), None) for kind in kinds
        }
        if all(found.values()):
            open_.append(group)
            used += [one.id for one in found.values() if one is not None]
        elif group in told.conduct:
            silent.append(group)
        else:
            lacking[group] = tuple(kind for kind, one in found.items() if one is None)
    return Opened(tuple(open_), tuple(dict.fromkeys(used)), tuple(silent), lacking)


def ended(connection: sa.Connection, wanted: set[str]) -> set[str]:
    """Of these grants, those that are revoked, over or gone. In the transaction that records the answer, where a
    revocation waits for its end."""
    held: set[str] = set()
    for part in parted(sorted(wanted)):
        chosen = sa.select(GRANTS.c.id).where(GRANTS.c.id.in_(part), *_holding(now()))
        held |= set(connection.execute(chosen.with_for_update(read=True)).scalars())
    return wanted - held


def holds(connection: sa.Connection, grant: str, purpose: str, tenant: str) -> bool:
    """Whether one grant is live, for this purpose and to this tenant."""
    mine = GRANTS.c.id == grant, GRANTS.c.purpose == purpose, GRANTS.c.tenant == tenant
    query = sa.select(GRANTS.c.id).where(*mine, *_holding(now()))
    return connection.execute(query).first() is not None


def _holding(at: str | sa.BindParameter[str]) -> tuple[sa.ColumnElement[bool], ...]:
    """A revocation that lies ahead of `at` does not undo what was granted then."""
    unrevoked = sa.or_(GRANTS.c.revoked_at.is_(None), GRANTS.c.revoked_at > at)
    return GRANTS.c.valid_from <= at, GRANTS.c.valid_to > at, unrevoked


_LIVE = (
    sa.select(GRANTS.c.id, GRANTS.c.kind, GRANTS.c.subject, GRANTS.c.groups)
    .where(GRANTS.c.tenant == sa.bindparam("tenant"), GRANTS.c.purpose == sa.bindparam("purpose"))
    .where(sa.or_(GRANTS.c.subject == sa.bindparam("subject"), GRANTS.c.subject.is_(None)))
    .where(*_holding(sa.bindparam("at")))
    .order_by(GRANTS.c.id)
)
