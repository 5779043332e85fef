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

from serving.core.audit.log import Entry, entry
from serving.core.audit.verify import canonical, leaf_hash, salted
from serving.core.billing.prices import Price
from serving.core.identifiers import RandomBytes

SALT = 16  # bytes
# Of a decision's row, what its leaf digests as one beside the answer: all that is told nowhere else.
RECORD = ("scope", "idempotency_key", "request_sha256", "subject", "model", "version", "created")
# Of a batch's own line, what each of its chunks' leaves digests: what stays from its first chunk on, and what grows.
BATCH = ("scope", "request_sha256", "owner", "format", "model", "version", "created", "retry_of")
COUNTS = ("rows", "answered", "faulty", "simulated", "faults")
# Of a slide's row, the same for each of its leaves: all that is told nowhere else, and what moves while it is read.
SLIDE = (
    *("name", "sha256", "bytes", "accession", "specimen", "stain", "preparation", "request", "mpp", "created", "audit"),
    *("code", "reasons", "notes", "triage", "priority", "model", "version", "bundle"),
)
PROGRESS = ("done", "total", "updated")


def decision(
    row: Mapping[str, Any],
    product: str,
    indicators: Mapping[str, Any],
    lineage: str,
    price: Price,
    grants: Sequence[str],
) -> Entry:
    """`row`: of DECISIONS, with its salt."""
    salt = row["salt"]
    return entry(
        "decision",
        row["created"],
        row["tenant"],
        row["id"],
        product=product,
        answer=salted(salt, row["answer"]),
        inputs=salted(salt, orjson.dumps(indicators, option=orjson.OPT_SORT_KEYS)),
        record=salted(salt, packed([row[name] for name in RECORD])),
        bundle=row["bundle"],
        policy=row["policy"],
        lineage=lineage,
        authorisations=list(grants),
        price=price.told(),
    )


def packed(record: Sequence[str | None]) -> bytes:
    """The columns of RECORD."""
    return orjson.dumps(record)


def chunk(row: Mapping[str, Any], tenant: str, root: bytes, at: str, **told: Any) -> Entry:
    """`row`: of CHUNKS, with its salt. `root`: of the tree over its rows. `told`: as a decision's leaf tells."""
    ref = f"{row['batch']}-{row['first_row']}"
    place = {"batch": row["batch"], "first": row["first_row"], "rows": row["rows"]}
    return entry(
        "chunk", at, tenant, ref, **place, root=root.hex(), content=salted(row["salt"], row["content"]), **told
    )


def read(what: str, at: str, tenant: str, ref: str, product: str, grants: Collection[str]) -> Entry:
    """Of a look at a stored company without a decision: at its history, its network, its answer under stress."""
    return entry("read", at, tenant, ref, what=what, product=product, authorisations=sorted(grants))


def batch(row: Mapping[str, Any], salt: bytes) -> dict[str, str | None]:
    """`row`: of BATCHES, as it stands with a chunk. `salt`: the chunk's. Its key for itself: a later try takes it away
    from a batch that broke off."""
    *told, faults = (row[name] for name in COUNTS)
    key = row["idempotency_key"]
    return {
        "record": salted(salt, canonical([row[name] for name in BATCH])),
        "counts": salted(salt, canonical(told) + faults),
        "key": None if key is None else salted(salt, canonical(key)),
    }


def batch_end(batch: str, tenant: str, state: str, at: str) -> Entry:
    return entry("batch_end", at, tenant, batch, state=state)


def named(subjects: Mapping[int, str]) -> bytes:
    """Which rows of a chunk are about whom, by pseudonym."""
    return orjson.dumps(sorted(subjects.items()))


def row_hashes(salt: bytes, lines: Sequence[bytes]) -> list[bytes]:
    """Of a chunk's rows as leaves of its tree, each under a salt of its own: to give one away tells of no other."""
    salts = row_salts(salt, len(lines))
    return [leaf_hash(mine + line) for mine, line in zip(salts, lines, strict=True)]


def row_salts(salt: bytes, rows: int) -> list[bytes]:
    drawn = hashlib.shake_256(b"rows" + salt).digest(rows * SALT)
    return [drawn[at : at + SALT] for at in range(0, len(drawn), SALT)]


def slide(kind: str, row: Mapping[str, Any], moments: Sequence[Mapping[str, Any]], since: int, **told: Any) -> Entry:
    """Of a state that a slide came to (slide_state), or of a note on it (slide_note). `row`: of SLIDES, as it stands
    then, with its salt. `moments`: rows of SLIDE_EVENTS, those after `since` up to the one that it tells of."""
    salt, event = row["salt"], moments[-1]
    told |= {
        "detail": salted(salt, canonical(event["detail"])),
        "reading": salted(salt, canonical(row["reading"])),
        "way": way(moments, salt),
        **slide_digests(row, salt),
    }
    place = {"state": event["state"], "event": event["id"], "since": since, "bundle": row["bundle"]}
    return entry(kind, event["at"], row["tenant"], row["id"], **place, **told)


def slide_digests(row: Mapping[str, Any] | sa.RowMapping, salt: bytes) -> dict[str, str]:
    parts = {"record": SLIDE, "progress": PROGRESS}
    return {part: salted(salt, canonical([row[name] for name in names])) for part, names in parts.items()}


def way(moments: Sequence[Mapping[str, Any]], salt: bytes) -> str:
    told = [[moment[name] for name in ("id", "at", "kind", "state", "detail")] for moment in moments]
    return salted(salt, canonical(told))


def report(row: Mapping[str, Any], salt: bytes, tenant: str) -> Entry:
    """`row`: of SLIDE_REPORTS. `salt`: its slide's."""
    place = {"slide": row["slide"], "version": row["version"], "report": row["kind"]}
    return entry("report", row["at"], tenant, f"{row['slide']}-{row['version']}", **place, **report_digests(row, salt))


def report_digests(row: Mapping[str, Any], salt: bytes) -> dict[str, str]:
    told = [row["body"], row["signer"], row["kind"], row["at"]]
    return {"pdf": salted(salt, row["sha256"].encode()), "record": salted(salt, canonical(told))}


def kept(kind: str, at: str, table: sa.Table, row: Mapping[str, Any]) -> Entry:
    """Of a row that is never altered but for what a leaf of its own tells: of a table of KEPT in audit_rows.py."""
    return entry(kind, at, row["tenant"], row["id"], row=digest(table, row))


def digest(table: sa.Table, row: Mapping[str, Any] | sa.RowMapping) -> str:
    """Of all but a revocation. Unsalted: each holds what cannot be guessed from the log (a document's digest, a PD, a
    text), and none names a person."""
    told = {column.name: row[column.name] for column in table.c if column.name != "revoked_at"}
    return sha256(canonical(told))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


new_salt = RandomBytes(SALT)  # in one thread
