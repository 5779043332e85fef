"""Decisions on single applicants, and batches with their rows."""

from __future__ import annotations

from typing import TypedDict

import sqlalchemy as sa

from serving.core.db.tables.base import METADATA


class UnloggedDecisionRow(TypedDict):
    """A row of DECISIONS before its log entry has an index."""

    id: str
    scope: str
    idempotency_key: str | None
    request_sha256: str
    tenant: str
    subject: str | None
    answer: bytes
    model: str
    version: str
    bundle: str
    policy: str
    created: str
    by: str | None
    reference: str | None
    salt: bytes | None


class DecisionRow(UnloggedDecisionRow):
    leaf: int


DECISIONS = sa.Table(
    "decisions",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),  # ascends with time
    sa.Column("scope", sa.String(64), nullable=False),  # the route; an idempotency key is unique within it
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_sha256", sa.String(64), nullable=False),  # of the body, keyed by the vault
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(255)),  # pseudonym; null where the indicators name nobody
    sa.Column("answer", sa.LargeBinary, nullable=False),  # JSON, exactly the bytes that were sent
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),  # digest
    sa.Column("policy", sa.String(128), nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("by", sa.String(128)),  # subject of the token that asked
    sa.Column("reference", sa.String(64)),  # keyed hash of the caller's own id of the applicant, where it stated one
    sa.Column("salt", sa.LargeBinary),  # of the digests in its log entry; null once the subject was erased
    sa.Column("leaf", sa.BigInteger, nullable=False),  # index of its log entry
    info={"row": DecisionRow},
)
# Partial: a request without a key adds nothing to the index.
sa.Index(
    "one_answer_per_key",
    DECISIONS.c.tenant,
    DECISIONS.c.scope,
    DECISIONS.c.idempotency_key,
    unique=True,
    sqlite_where=DECISIONS.c.idempotency_key.is_not(None),
    postgresql_where=DECISIONS.c.idempotency_key.is_not(None),
)
# By which an erasure finds the answers about somebody whose indicators a caller stated.
sa.Index(
    "decisions_of_a_reference",
    DECISIONS.c.reference,
    sqlite_where=DECISIONS.c.reference.is_not(None),
    postgresql_where=DECISIONS.c.reference.is_not(None),
)
# A tenant's decisions, newest last.
sa.Index("decisions_of_a_tenant", DECISIONS.c.tenant, DECISIONS.c.id)
# One subject's decisions for one tenant, newest last. Partial: most decisions name no subject.
sa.Index(
    "decisions_of_a_subject",
    DECISIONS.c.tenant,
    DECISIONS.c.scope,
    DECISIONS.c.subject,
    DECISIONS.c.id,
    sqlite_where=DECISIONS.c.subject.is_not(None),
    postgresql_where=DECISIONS.c.subject.is_not(None),
)


class BatchRow(TypedDict):
    id: str
    tenant: str
    scope: str
    idempotency_key: str | None
    request_sha256: str
    state: str
    owner: int
    format: str
    rows: int
    answered: int
    faulty: int
    faults: bytes
    model: str
    version: str
    bundle: str
    policy: str
    simulated: bool
    created: str
    finished: str | None
    retry_of: str | None


BATCHES = sa.Table(
    "batches",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("scope", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_sha256", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # running, done, broken
    sa.Column("owner", sa.Integer, nullable=False),  # process id; a start aborts the batches of dead processes
    sa.Column("format", sa.String(16), nullable=False),  # of the response
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("answered", sa.Integer, nullable=False),
    sa.Column("faulty", sa.Integer, nullable=False),
    sa.Column("faults", sa.LargeBinary, nullable=False),  # JSON array of the first faults
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("policy", sa.String(128), nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("finished", sa.String(32)),  # null while it runs
    sa.Column("retry_of", sa.String(40)),  # the aborted batch that this one repeats; its answers are not charged again
    info={"row": BatchRow},
)
sa.Index(
    "one_batch_per_key",
    BATCHES.c.tenant,
    BATCHES.c.scope,
    BATCHES.c.idempotency_key,
    unique=True,
    sqlite_where=BATCHES.c.idempotency_key.is_not(None),
    postgresql_where=BATCHES.c.idempotency_key.is_not(None),
)


class UnloggedBatchChunkRow(TypedDict):
    """A row of BATCH_CHUNKS before its log entry has an index."""

    batch: str
    first_row: int
    rows: int
    content: bytes
    salt: bytes


class BatchChunkRow(UnloggedBatchChunkRow):
    leaf: int


BATCH_CHUNKS = sa.Table(
    "batch_chunks",
    METADATA,
    sa.Column("batch", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
    sa.Column("first_row", sa.Integer, primary_key=True),  # counts from 1
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),  # the answered rows: Arrow IPC, zstd
    sa.Column("salt", sa.LargeBinary, nullable=False),  # of the digests in its log entry
    sa.Column("leaf", sa.BigInteger, nullable=False),  # index of its log entry
    info={"row": BatchChunkRow},
)


class BatchSubjectRow(TypedDict):
    batch: str
    row: int
    pseudonym: str


# The rows of batches that are about a stored subject. The log entry of each chunk holds their digest.
BATCH_SUBJECTS = sa.Table(
    "batch_subjects",
    METADATA,
    sa.Column("batch", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),  # counts from 1
    sa.Column("pseudonym", sa.String(64), nullable=False),
    info={"row": BatchSubjectRow},
)
sa.Index("batch_rows_of_a_subject", BATCH_SUBJECTS.c.pseudonym, BATCH_SUBJECTS.c.batch, BATCH_SUBJECTS.c.row)
