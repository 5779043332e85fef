"""Build the entries of the audit log. Entries never contain personal data.

Content that could be guessed is stored as a digest under a random salt, which stays beside the record. Without the
salt, as after an erasure, the digest reveals nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import orjson
import sqlalchemy as sa

from serving.core.audit.log import Entry, make_entry
from serving.core.audit.verify import canonical_json, leaf_hash, salted_digest
from serving.core.billing.prices import Price
from serving.core.db.schema import DATASET_ROWS
from serving.core.db.tables.decisions import BatchRow, UnloggedBatchChunkRow, UnloggedDecisionRow
from serving.core.db.tables.slides import SlideEventRow, SlideRow, UnloggedSlideReportRow
from serving.core.identifiers import RandomBytes, utc_now

SALT_BYTES = 16
# Columns of a decision under one digest, beside the answer: all that no other field of its entry covers.
DECISION_FIELDS = (
    "scope", "idempotency_key", "request_sha256", "subject", "model", "version", "created", "by", "reference",
)  # fmt: skip
# Columns of a batch that the entry of each chunk digests: those fixed since its first chunk, and those that grow.
BATCH_FIELDS = ("scope", "request_sha256", "owner", "format", "model", "version", "created", "retry_of")
BATCH_COUNT_FIELDS = ("rows", "answered", "faulty", "simulated", "faults")
# Columns of a slide that each of its entries digests: all that no other field covers, and those that change while it is
# read.
SLIDE_FIELDS = (
    *("name", "sha256", "bytes", "accession", "specimen", "stain", "preparation", "request", "mpp", "created", "audit"),
    *("code", "reasons", "notes", "triage", "priority", "model", "version", "bundle"),
)
SLIDE_PROGRESS_FIELDS = ("done", "total", "updated")

new_salt = RandomBytes(SALT_BYTES)  # used in one thread


def decision_entry(
    row: UnloggedDecisionRow,
    product: str,
    indicators: Mapping[str, Any],
    provenance_sha256: str,
    price: Price,
    grants: Sequence[str],
    request: Mapping[str, Any],
) -> Entry:
    """The entry of a decision, made on `indicators` under `grants`. `request`: the fields of its body."""
    salt = row["salt"]
    assert salt is not None, "only an erasure deletes the salt"
    columns: Mapping[str, Any] = row
    record = [columns[name] for name in DECISION_FIELDS]
    return make_entry(
        "decision",
        row["created"],
        row["tenant"],
        row["id"],
        product=product,
        answer=salted_digest(salt, row["answer"]),
        inputs=salted_digest(salt, orjson.dumps(indicators, option=orjson.OPT_SORT_KEYS)),
        record=salted_digest(salt, orjson.dumps(record)),
        request=request_digests(salt, request),
        bundle=row["bundle"],
        policy=row["policy"],
        lineage=provenance_sha256,
        authorisations=list(grants),
        price=price.describe(),
    )


def request_digests(salt: bytes, fields: Mapping[str, Any]) -> dict[str, str]:
    """Field of a request -> digest of its value, so that a receipt proves each wish, and that there was no other."""
    return {
        name: salted_digest(salt, name.encode() + b"\0" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
        for name, value in fields.items()
    }


def retained_decision_digest(answer: bytes, record: Sequence[Any]) -> str:
    """The digest of a decision's answer and of its DECISION_FIELDS, which the certificate of an erasure names: once the
    salt is deleted, the digests in the decision's entry prove nothing any more."""
    return sha256_hex(answer + b"\0" + orjson.dumps(list(record), default=repr))


def chunk_entry(row: UnloggedBatchChunkRow, tenant: str, root: bytes, timestamp: str, **fields: Any) -> Entry:
    """The entry of a chunk. `root`: of the Merkle tree over its rows; `fields`: as in a decision's entry."""
    ref = f"{row['batch']}-{row['first_row']}"
    location = {"batch": row["batch"], "first": row["first_row"], "rows": row["rows"]}
    content = salted_digest(row["salt"], row["content"])
    return make_entry("chunk", timestamp, tenant, ref, **location, root=root.hex(), content=content, **fields)


def read_entry(operation: str, timestamp: str, tenant: str, ref: str, product: str, grants: Collection[str]) -> Entry:
    """The entry of a query about a stored company without a decision: its history, network or stress test."""
    return make_entry("read", timestamp, tenant, ref, what=operation, product=product, authorisations=sorted(grants))


def batch_digests(row: BatchRow | Mapping[str, Any], salt: bytes) -> dict[str, str | None]:
    """Digests of a batch's row as of one chunk, under the chunk's salt. The idempotency key has a digest of its own,
    since a later attempt takes it over from an aborted batch."""
    values = cast(Mapping[str, Any], row)
    *counts, faults = (values[name] for name in BATCH_COUNT_FIELDS)
    key = values["idempotency_key"]
    return {
        "record": salted_digest(salt, canonical_json([values[name] for name in BATCH_FIELDS])),
        "counts": salted_digest(salt, canonical_json(counts) + faults),
        "key": None if key is None else salted_digest(salt, canonical_json(key)),
    }


def batch_end_entry(batch: str, tenant: str, state: str, timestamp: str) -> Entry:
    """The entry of a batch that reached a final state."""
    return make_entry("batch_end", timestamp, tenant, batch, state=state)


def encode_subjects(subjects: Mapping[int, str]) -> bytes:
    """Row -> pseudonym for the rows of a chunk that are about a stored subject, as bytes to digest."""
    return orjson.dumps(sorted(subjects.items()))


def row_hashes(salt: bytes, lines: Sequence[bytes]) -> list[bytes]:
    """The rows of a chunk as leaf hashes, each under a salt of its own, so that a receipt reveals no other row."""
    salts = row_salts(salt, len(lines))
    return [leaf_hash(row_salt + line) for row_salt, line in zip(salts, lines, strict=True)]


def row_salts(salt: bytes, rows: int) -> list[bytes]:
    """The salt of each row of a chunk, derived from the chunk's."""
    stream = hashlib.shake_256(b"rows" + salt).digest(rows * SALT_BYTES)
    return [stream[offset : offset + SALT_BYTES] for offset in range(0, len(stream), SALT_BYTES)]


def slide_entry(kind: str, row: SlideRow, events: Sequence[SlideEventRow], since: int, **fields: Any) -> Entry:
    """The entry of a state that a slide reached (slide_state), or of a note on it (slide_note).

    row: the slide after the change. events: those after the event `since`, up to the one that the entry records.
    """
    salt, event = row["salt"], events[-1]
    fields |= {
        "detail": salted_digest(salt, canonical_json(event["detail"])),
        "reading": salted_digest(salt, canonical_json(row["reading"])),
        "way": history_digest(events, salt),
        **slide_digests(row, salt),
    }
    location = {"state": event["state"], "event": event["id"], "since": since, "bundle": row["bundle"]}
    return make_entry(kind, event["at"], row["tenant"], row["id"], **location, **fields)


def slide_digests(row: SlideRow | sa.RowMapping, salt: bytes) -> dict[str, str]:
    """Digests of a slide's columns: name of the digest -> hex."""
    values = cast(Mapping[str, Any], row)
    groups = {"record": SLIDE_FIELDS, "progress": SLIDE_PROGRESS_FIELDS}
    return {
        group: salted_digest(salt, canonical_json([values[name] for name in names])) for group, names in groups.items()
    }


def history_digest(events: Sequence[SlideEventRow], salt: bytes) -> str:
    """The digest of consecutive events of a slide."""
    rows = [[event["id"], event["at"], event["kind"], event["state"], event["detail"]] for event in events]
    return salted_digest(salt, canonical_json(rows))


def report_entry(row: UnloggedSlideReportRow, salt: bytes, tenant: str) -> Entry:
    """The entry of a signed report. `salt`: its slide's."""
    location = {"slide": row["slide"], "version": row["version"], "report": row["kind"]}
    ref = f"{row['slide']}-{row['version']}"
    return make_entry("report", row["at"], tenant, ref, **location, **report_digests(row, salt))


def report_digests(row: UnloggedSlideReportRow, salt: bytes) -> dict[str, str]:
    """Digests of a report's PDF and of its content."""
    values = [row["body"], row["signer"], row["kind"], row["at"]]
    return {"pdf": salted_digest(salt, row["sha256"].encode()), "record": salted_digest(salt, canonical_json(values))}


def row_entry(kind: str, timestamp: str, table: sa.Table, row: Mapping[str, Any]) -> Entry:
    """The entry of a row that is never altered, except that a grant may be revoked."""
    return make_entry(kind, timestamp, row["tenant"], row["id"], row=row_digest(table, row))


def row_digest(table: sa.Table, row: Mapping[str, Any] | sa.RowMapping) -> str:
    """The digest of all columns except `revoked_at`. It needs no salt: each row contains something that cannot be
    guessed from the log (a document's digest, a PD, a text), and none names a person."""
    values = {column.name: row[column.name] for column in table.c if column.name != "revoked_at"}
    return sha256_hex(canonical_json(values))


def export_entry(connection: sa.Connection, dataset_sha256: str, tenant: str, grants: Collection[str]) -> Entry:
    """The entry of a data set that was exported for training, with the digest of who is in it."""
    fields = {**dataset_digest(connection, dataset_sha256), "authorisations": sorted(grants)}
    return make_entry("export", utc_now(), tenant, dataset_sha256, **fields)


def dataset_digest(connection: sa.Connection, dataset_sha256: str) -> dict[str, Any]:
    """The number and the digest of the rows of DATASET_ROWS of one data set. Pseudonyms cannot be guessed."""
    stmt = sa.select(DATASET_ROWS.c.pseudonym).where(DATASET_ROWS.c.dataset_sha256 == dataset_sha256)
    digest, count = hashlib.sha256(), 0
    for pseudonym in connection.execute(stmt.order_by(DATASET_ROWS.c.pseudonym)).scalars():
        digest.update(str(pseudonym).encode() + b"\n")
        count += 1
    return {"rows": digest.hexdigest(), "count": count}


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
