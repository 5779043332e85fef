"""Decide which groups of a subject's indicators may be read, for which purpose and under which grants."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.errors import DataError
from serving.core.db.engine import chunked
from serving.core.db.schema import GRANTS
from serving.core.identifiers import utc_now

CONFIG_FILE = Path(__file__).parents[3] / "configs" / "consent.toml"
PURPOSES = ("credit_limit", "scitech_risk", "pathology", "training")
GrantKind = Literal["government", "personal"]
GRANT_KINDS: tuple[GrantKind, ...] = ("government", "personal")
GRANT_KINDS_ZH = {"government": "政府授权", "personal": "个人授权"}


class ConsentRules(BaseModel):
    """configs/consent.toml.

    needs: product -> group -> the kinds of grants that it needs, all of them. conduct: the groups that are withheld
    without a grant, instead of refusing the request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conduct: frozenset[str]
    needs: dict[str, dict[str, tuple[GrantKind, ...]]]

    def groups(self, purpose: str) -> list[str]:
        """The groups that a grant for a purpose may name; for training those of every product."""
        products = self.needs if purpose == "training" else [purpose]
        return sorted({group for product in products for group in self.needs.get(product, {})})


def load_rules(file: Path = CONFIG_FILE) -> ConsentRules:
    """Read the rules. Raises DataError."""
    try:
        return ConsentRules.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise DataError(f"{file}: {error}. Correct it, or restore configs/consent.toml.") from error


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant that is valid at the time in question."""

    id: str
    kind: str
    subject: str | None  # pseudonym; None: all
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class ConsentDecision:
    """`allowed_groups` may be read under `grants`. `withheld`: groups of conduct that may not be read and are left out.
    `missing`: other groups that may not be read, with the kinds of grants that they lack."""

    allowed_groups: tuple[str, ...]
    grants: tuple[str, ...]
    withheld: tuple[str, ...]
    missing: Mapping[str, tuple[str, ...]]


def active_grants(connection: sa.Connection, tenant: str, purpose: str, pseudonym: str, timestamp: str) -> list[Grant]:
    """The grants to a tenant for a purpose that are valid for a subject at `timestamp`, oldest first."""
    params = {"tenant": tenant, "purpose": purpose, "subject": pseudonym, "at": timestamp}
    return [
        Grant(row.id, row.kind, row.subject, frozenset(row.groups))
        for row in connection.execute(_ACTIVE_GRANTS, params)
    ]


def active_grants_by_subject(
    connection: sa.Connection, tenant: str, purpose: str, pseudonyms: Sequence[str], timestamp: str
) -> dict[str | None, list[Grant]]:
    """Subject -> its own grants, oldest first, for those that have any; None -> the grants for every subject."""
    grants: dict[str | None, list[Grant]] = {}
    conditions = GRANTS.c.tenant == tenant, GRANTS.c.purpose == purpose, *_active_conditions(timestamp)
    statement = sa.select(GRANTS.c.id, GRANTS.c.kind, GRANTS.c.subject, GRANTS.c.groups).where(*conditions)
    statements = [statement.where(GRANTS.c.subject.is_(None))]
    statements += [statement.where(GRANTS.c.subject.in_(chunk)) for chunk in chunked(pseudonyms)]
    for query in statements:
        for row in connection.execute(query.order_by(GRANTS.c.id)):
            grant = Grant(row.id, row.kind, row.subject, frozenset(row.groups))
            grants.setdefault(row.subject, []).append(grant)
    return grants


def evaluate_consent(
    rules: ConsentRules, product: str, groups: Iterable[str], grants: Collection[Grant]
) -> ConsentDecision:
    """Which of the requested groups the grants allow."""
    allowed, used, withheld, missing = [], [], [], {}
    for group in groups:
        kinds = rules.needs.get(product, {}).get(group, GRANT_KINDS)
        by_kind = {
            kind: next((grant for grant in grants if grant.kind == kind and group in grant.groups), None)
            for kind in kinds
        }
        if all(by_kind.values()):
            allowed.append(group)
            used += [grant.id for grant in by_kind.values() if grant is not None]
        elif group in rules.conduct:
            withheld.append(group)
        else:
            missing[group] = tuple(kind for kind, grant in by_kind.items() if grant is None)
    return ConsentDecision(tuple(allowed), tuple(dict.fromkeys(used)), tuple(withheld), missing)


def expired_grants(connection: sa.Connection, grant_ids: set[str]) -> set[str]:
    """The grants among these that are no longer valid. Called in the transaction that records the answer, so that a
    revocation has to wait for its end."""
    active: set[str] = set()
    for chunk in chunked(sorted(grant_ids)):
        statement = sa.select(GRANTS.c.id).where(GRANTS.c.id.in_(chunk), *_active_conditions(utc_now()))
        active |= set(connection.execute(statement.with_for_update(read=True)).scalars())
    return grant_ids - active


def allows(
    connection: sa.Connection, rules: ConsentRules, grant_id: str, product: str, group: str, tenant: str
) -> bool:
    """Whether this one grant is valid now for the tenant, and is all that the rules ask for the group."""
    conditions = GRANTS.c.id == grant_id, GRANTS.c.purpose == product, GRANTS.c.tenant == tenant
    query = sa.select(GRANTS.c.id, GRANTS.c.kind, GRANTS.c.subject, GRANTS.c.groups)
    row = connection.execute(query.where(*conditions, *_active_conditions(utc_now()))).first()
    if row is None:
        return False
    grant = Grant(row.id, row.kind, row.subject, frozenset(row.groups))
    return evaluate_consent(rules, product, (group,), [grant]).allowed_groups == (group,)


def _active_conditions(timestamp: str | sa.BindParameter[str]) -> tuple[sa.ColumnElement[bool], ...]:
    """A revoked grant is never active: the clock that dated its revocation may be ahead of this one."""
    return GRANTS.c.valid_from <= timestamp, GRANTS.c.valid_to > timestamp, GRANTS.c.revoked_at.is_(None)


_ACTIVE_GRANTS = (
    sa.select(GRANTS.c.id, GRANTS.c.kind, GRANTS.c.subject, GRANTS.c.groups)
    .where(GRANTS.c.tenant == sa.bindparam("tenant"), GRANTS.c.purpose == sa.bindparam("purpose"))
    .where(sa.or_(GRANTS.c.subject == sa.bindparam("subject"), GRANTS.c.subject.is_(None)))
    .where(*_active_conditions(sa.bindparam("at")))
    .order_by(GRANTS.c.id)
)


class ConsentRevokedError(Exception):
    """These authorisations ended while the answer was computed, so nothing was recorded."""

    def __init__(self, ids: Sequence[str]):
        super().__init__(", ".join(ids))
