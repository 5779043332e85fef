"""What the log's leaves tell: which record was made, by what, from what, on whose consent, at what price. No person.

Content that could be guessed stands in them as a digest under a random salt, which is kept beside the record: without
it, as after an erasure, the digest tells nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit.log import Entry, make_entry
from serving.core.audit.verify import canonical_json, leaf_hash, salted_digest
from serving.core.billing.prices import Price
from serving.core.identifiers import RandomBytes

SALT_BYTES = 16  # bytes
# Of a decision's row, what its leaf digests as one beside the answer: all that is told nowhere else.
DECISION_FIELDS = ("scope", "idempotency_key", "request_sha256", "subject", "model", "version", "created")
# Of a batch's own line, what each of its chunks' leaves digests: what stays from its first chunk on, and what grows.
BATCH_FIELDS = ("scope", "request_sha256", "owner", "format", "model", "version", "created", "retry_of")
BATCH_COUNT_FIELDS = ("rows", "answered", "faulty", "simulated", "faults")
# Of a slide's row, the same for each of its leaves: all that is told nowhere else, and what moves while it is read.
SLIDE_FIELDS = (
    *("name", "sha256", "bytes", "accession", "specimen", "stain", "preparation", "request", "mpp", "created", "audit"),
    *("code", "reasons", "notes", "triage", "priority", "model", "version", "bundle"),
)
SLIDE_PROGRESS_FIELDS = ("done", "total", "updated")


def decision_entry(
    row: Mapping[str, Any],
    product: str,
    indicators: Mapping[str, Any],
    provenance_sha256: str,
    price: Price,
    grants: Sequence[str],
) -> Entry:
    """`row`: of DECISIONS, with its salt."""
    salt = row["salt"]
    return make_entry(
        "decision",
        row["created"],
        row["tenant"],
        row["id"],
        product=product,
        answer=salted_digest(salt, row["answer"]),
        inputs=salted_digest(salt, orjson.dumps(indicators, option=orjson.OPT_SORT_KEYS)),
        record=salted_digest(salt, encode_record([row[name] for name in DECISION_FIELDS])),
        bundle=row["bundle"],
        policy=row["policy"],
        lineage=provenance_sha256,
        authorisations=list(grants),
        price=price.describe(),
    )


def encode_record(record: Sequence[str | None]) -> bytes:
    """The columns of RECORD."""
    return orjson.dumps(record)


def chunk_entry(row: Mapping[str, Any], tenant: str, root: bytes, timestamp: str, **fields: Any) -> Entry:
    """`row`: of CHUNKS, with its salt. `root`: of the tree over its rows. `told`: as a decision's leaf tells."""
    ref = f"{row['batch']}-{row['first_row']}"
    location = {"batch": row["batch"], "first": row["first_row"], "rows": row["rows"]}
    return make_entry(
        "chunk",
        timestamp,
        tenant,
        ref,
        **location,
        root=root.hex(),
        content=salted_digest(row["salt"], row["content"]),
        **fields,
    )


def read_entry(operation: str, timestamp: str, tenant: str, ref: str, product: str, grants: Collection[str]) -> Entry:
    """Of a look at a stored company without a decision: at its history, its network, its answer under stress."""
    return make_entry("read", timestamp, tenant, ref, what=operation, product=product, authorisations=sorted(grants))


def batch_digests(row: Mapping[str, Any], salt: bytes) -> dict[str, str | None]:
    """`row`: of BATCHES, as it stands with a chunk. `salt`: the chunk's. Its key for itself: a later try takes it away
    from a batch that broke off."""
    *counts, faults = (row[name] for name in BATCH_COUNT_FIELDS)
    key = row["idempotency_key"]
    return {
        "record": salted_digest(salt, canonical_json([row[name] for name in BATCH_FIELDS])),
        "counts": salted_digest(salt, canonical_json(counts) + faults),
        "key": None if key is None else salted_digest(salt, canonical_json(key)),
    }


def batch_end_entry(batch: str, tenant: str, state: str, timestamp: str) -> Entry:
    return make_entry("batch_end", timestamp, tenant, batch, state=state)


def encode_subjects(subjects: Mapping[int, str]) -> bytes:
    """Which rows of a chunk are about whom, by pseudonym."""
    return orjson.dumps(sorted(subjects.items()))


def row_hashes(salt: bytes, lines: Sequence[bytes]) -> list[bytes]:
    """Of a chunk's rows as leaves of its tree, each under a salt of its own: to give one away tells of no other."""
    salts = row_salts(salt, len(lines))
    return [leaf_hash(row_salt + line) for row_salt, line in zip(salts, lines, strict=True)]


def row_salts(salt: bytes, rows: int) -> list[bytes]:
    stream = hashlib.shake_256(b"rows" + salt).digest(rows * SALT_BYTES)
    return [stream[offset : offset + SALT_BYTES] for offset in range(0, len(stream), SALT_BYTES)]


def slide_entry(
    kind: str, row: Mapping[str, Any], events: Sequence[Mapping[str, Any]], since: int, **fields: Any
) -> Entry:
    """Of a state that a slide came to (slide_state), or of a note on it (slide_note). `row`: of SLIDES, as it stands
    then, with its salt. `moments`: rows of SLIDE_EVENTS, those after `since` up to the one that it tells of."""
    salt, event = row["salt"], events[-1]
    fields |= {
        "detail": salted_digest(salt, canonical_json(event["detail"])),
        "reading": salted_digest(salt, canonical_json(row["reading"])),
        "way": history_digest(events, salt),
        **slide_digests(row, salt),
    }
    location = {"state": event["state"], "event": event["id"], "since": since, "bundle": row["bundle"]}
    return make_entry(kind, event["at"], row["tenant"], row["id"], **location, **fields)


def slide_digests(row: Mapping[str, Any] | sa.RowMapping, salt: bytes) -> dict[str, str]:
    parts = {"record": SLIDE_FIELDS, "progress": SLIDE_PROGRESS_FIELDS}
    return {part: salted_digest(salt, canonical_json([row[name] for name in names])) for part, names in parts.items()}


def history_digest(events: Sequence[Mapping[str, Any]], salt: bytes) -> str:
    rows = [[event[name] for name in ("id", "at", "kind", "state", "detail")] for event in events]
    return salted_digest(salt, canonical_json(rows))


def report_entry(row: Mapping[str, Any], salt: bytes, tenant: str) -> Entry:
    """`row`: of SLIDE_REPORTS. `salt`: its slide's."""
    location = {"slide": row["slide"], "version": row["version"], "report": row["kind"]}
    return make_entry(
        "report", row["at"], tenant, f"{row['slide']}-{row['version']}", **location, **report_digests(row, salt)
    )


def report_digests(row: Mapping[str, Any], salt: bytes) -> dict[str, str]:
    values = [row["body"], row["signer"], row["kind"], row["at"]]
    return {"pdf": salted_digest(salt, row["sha256"].encode()), "record": salted_digest(salt, canonical_json(values))}


def row_entry(kind: str, timestamp: str, table: sa.Table, row: Mapping[str, Any]) -> Entry:
    """Of a row that is never altered but for what a leaf of its own tells: of a table of KEPT in audit_rows.py."""
    return make_entry(kind, timestamp, row["tenant"], row["id"], row=row_digest(table, row))


def row_digest(table: sa.Table, row: Mapping[str, Any] | sa.RowMapping) -> str:
    """Of all but a revocation. Unsalted: each holds what cannot be guessed from the log (a document's digest, a PD, a
    text), and none names a person."""
    values = {column.name: row[column.name] for column in table.c if column.name != "revoked_at"}
    return sha256_hex(canonical_json(values))


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


new_salt = RandomBytes(SALT_BYTES)  # in one thread
