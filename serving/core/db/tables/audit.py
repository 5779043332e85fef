"""The audit log: entries, subtree hashes, signed checkpoints, and the provenance of bundles."""

from __future__ import annotations

from typing import TypedDict

import sqlalchemy as sa

from serving.core.db.tables.base import BIG_INTEGER_KEY, METADATA


class LogLeafRow(TypedDict):
    index: int
    at: str
    kind: str
    tenant: str
    ref: str
    body: bytes
    hash: bytes
    tag: bytes | None


# The leaves of the Merkle tree, append-only. An entry names no person; its body is exactly the bytes that were hashed.
LOG_LEAVES = sa.Table(
    "log_leaves",
    METADATA,
    sa.Column("index", BIG_INTEGER_KEY, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("ref", sa.String(64), nullable=False),  # id of the row that it records
    sa.Column("body", sa.LargeBinary, nullable=False),  # canonical JSON
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("tag", sa.LargeBinary),  # HMAC over index and hash, with the key in paths.entry_key
    info={"row": LogLeafRow},
)


# Which version serves is decided by the newest entry about it.
sa.Index(
    "promotion_entries",
    LOG_LEAVES.c.ref,
    sqlite_where=LOG_LEAVES.c.kind == "promotion",
    postgresql_where=LOG_LEAVES.c.kind == "promotion",
)


class LogNodeRow(TypedDict):
    level: int
    index: int
    hash: bytes


# Hashes of complete subtrees of 256 leaves and more. A missing one is computed from the leaves.
LOG_NODES = sa.Table(
    "log_nodes",
    METADATA,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    info={"row": LogNodeRow},
)


class LogCheckpointRow(TypedDict):
    size: int
    root: bytes
    note: str
    at: str


LOG_CHECKPOINTS = sa.Table(
    "log_checkpoints",
    METADATA,
    sa.Column("size", BIG_INTEGER_KEY, primary_key=True, autoincrement=False),  # number of leaves
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),  # signed
    sa.Column("at", sa.String(32), nullable=False),
    info={"row": LogCheckpointRow},
)


class UnloggedEventRow(TypedDict):
    """A row of EVENTS before its log entry has an index."""

    id: str
    kind: str
    at: str
    tenant: str
    by: str
    about: str | None
    what: str
    reason: str


class EventRow(UnloggedEventRow):
    entry: str
    leaf: int


# Who signed in, who read personal data, which tokens and keys were issued. One log entry records several rows.
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("kind", sa.String(32), nullable=False),  # read, sign_in, sign_in_refused, sign_out, token, export, key
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("by", sa.String(128), nullable=False),  # subject of the token, or the account that ran a command
    sa.Column("about", sa.String(255)),  # pseudonym, or id of a record; null where it is about nobody
    sa.Column("what", sa.String(255), nullable=False),  # the route or the command
    sa.Column("reason", sa.String(255), nullable=False),  # as stated by the caller
    sa.Column("entry", sa.String(40), nullable=False),  # ref of its log entry
    sa.Column("leaf", sa.BigInteger, nullable=False),  # index of its log entry
    info={"row": EventRow},
)
sa.Index("events_about", EVENTS.c.about, EVENTS.c.id)
sa.Index("events_of_an_entry", EVENTS.c.entry)


class ProvenanceRow(TypedDict):
    sha256: str
    bundle: str
    body: bytes


# What each bundle was made from.
PROVENANCE = sa.Table(
    "lineages",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # canonical JSON
    info={"row": ProvenanceRow},
)
