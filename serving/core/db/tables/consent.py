"""Authorisations, and the log entries that used them."""

from __future__ import annotations

from typing import TypedDict

import sqlalchemy as sa

from serving.core.db.tables.base import METADATA


class GrantRow(TypedDict):
    id: str
    kind: str
    grantor: str
    tenant: str
    subject: str | None
    purpose: str
    groups: list[str]
    valid_from: str
    valid_to: str
    revoked_at: str | None
    document_sha256: str
    created: str
    by: str


GRANTS = sa.Table(
    "grants",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("kind", sa.String(16), nullable=False),  # government, personal
    sa.Column("grantor", sa.String(255), nullable=False),  # the authority; for a person the pseudonym
    sa.Column("tenant", sa.String(64), nullable=False),  # the grantee
    sa.Column("subject", sa.String(64)),  # pseudonym; null: every subject
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("groups", sa.JSON(none_as_null=True), nullable=False),
    sa.Column("valid_from", sa.String(32), nullable=False),
    sa.Column("valid_to", sa.String(32), nullable=False),  # exclusive
    sa.Column("revoked_at", sa.String(32)),
    sa.Column("document_sha256", sa.String(64), nullable=False),  # of the signed document
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),  # the operator who entered it
    info={"row": GrantRow},
)
sa.Index("grants_asked_for", GRANTS.c.tenant, GRANTS.c.purpose, GRANTS.c.subject)


class GrantUseRow(TypedDict):
    authorisation: str
    leaf: int


# An index of the log: which entries name an authorisation.
GRANT_USES = sa.Table(
    "grant_uses",
    METADATA,
    sa.Column("authorisation", sa.String(40), primary_key=True),
    sa.Column("leaf", sa.BigInteger, primary_key=True, autoincrement=False),  # index of the log entry
    info={"row": GrantUseRow},
)
sa.Index("grant_uses_by_leaf", GRANT_USES.c.leaf)
