"""Receipts: proofs of a decision that serving/core/audit/verify.py checks with nothing but the log's public key."""

from __future__ import annotations

import base64
import textwrap
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit.checkpoints import SignedCheckpoint
from serving.core.audit.entries import row_hashes, row_salts
from serving.core.audit.log import MerkleTree, merkle_levels
from serving.core.audit.verify import BEGIN, END, canonical_json, summary_lines
from serving.core.db.codec import decode_frame, row_json
from serving.core.db.engine import read_connection
from serving.core.db.schema import BATCH_CHUNKS, DECISIONS, LOG_LEAVES, METER, PROVENANCE, SLIDES

Receipt = dict[str, Any]
CheckpointProvider = Callable[[int], SignedCheckpoint]  # leaf -> a checkpoint that covers it


def for_decision(
    engine: sa.Engine, checkpoint_for: CheckpointProvider, decision: str, tenant: str | None
) -> Receipt | None:
    """The receipt of a single decision; None where the tenant (None: any) has no such decision."""
    stmt = sa.select(DECISIONS.c.leaf, DECISIONS.c.salt).where(DECISIONS.c.id == decision)
    if tenant is not None:
        stmt = stmt.where(DECISIONS.c.tenant == tenant)
    with read_connection(engine) as connection:
        row = connection.execute(stmt).first()
    if row is None:
        return None
    return for_entry(engine, checkpoint_for, row.leaf) | {"salt": (row.salt or b"").hex()}  # no salt after an erasure


def for_batch_row(
    engine: sa.Engine, checkpoint_for: CheckpointProvider, batch: str, row: int, tenant: str | None
) -> Receipt | None:
    """The receipt of one row of a batch: a proof that its chunk contains it, and that the log contains the chunk."""
    stmt = sa.select(BATCH_CHUNKS).join(LOG_LEAVES, LOG_LEAVES.c.index == BATCH_CHUNKS.c.leaf)
    stmt = stmt.where(
        BATCH_CHUNKS.c.batch == batch,
        BATCH_CHUNKS.c.first_row <= row,
        BATCH_CHUNKS.c.first_row + BATCH_CHUNKS.c.rows > row,
    )
    if tenant is not None:
        stmt = stmt.where(LOG_LEAVES.c.tenant == tenant)
    with read_connection(engine) as connection:
        chunk = connection.execute(stmt).first() if row < 2**31 else None
    if chunk is None:
        return None
    position, hashes = row - chunk.first_row, row_hashes(chunk.salt, row_json(decode_frame(chunk.content), batch))
    path, node_index = [], position
    for level in merkle_levels(hashes):
        if node_index ^ 1 < len(level):
            path.append(level[node_index ^ 1].hex())
        node_index >>= 1
    salt = row_salts(chunk.salt, chunk.rows)[position]
    row_proof = {"row": row, "hash": hashes[position].hex(), "proof": path, "salt": salt.hex()}
    return for_entry(engine, checkpoint_for, chunk.leaf) | {"row": row_proof}


def for_slide(engine: sa.Engine, checkpoint_for: CheckpointProvider, slide: str, tenant: str | None) -> Receipt | None:
    """The receipt of a slide's reading, under the slide's id."""
    stmt = sa.select(METER.c.leaf, SLIDES.c.salt).join(SLIDES, SLIDES.c.id == METER.c.decision)
    stmt = stmt.where(METER.c.decision == slide)
    if tenant is not None:
        stmt = stmt.where(METER.c.tenant == tenant)
    with read_connection(engine) as connection:
        row = connection.execute(stmt).first()
    return None if row is None else for_entry(engine, checkpoint_for, row.leaf) | {"salt": row.salt.hex()}


def for_entry(engine: sa.Engine, checkpoint_for: CheckpointProvider, index: int) -> Receipt:
    """The receipt of any log entry, without the salt that its digests need."""
    checkpoint = checkpoint_for(index)
    with read_connection(engine) as connection:
        body = connection.execute(sa.select(LOG_LEAVES.c.body).where(LOG_LEAVES.c.index == index)).scalar_one()
        leaf = orjson.loads(body)
        proof = MerkleTree(connection).inclusion_path(index, checkpoint.size)
        stmt = sa.select(PROVENANCE.c.body).where(PROVENANCE.c.sha256 == leaf.get("lineage"))
        provenance = connection.execute(stmt).scalar()
    receipt: Receipt = {"receipt": 1, "leaf": leaf, "index": index, "proof": [item.hex() for item in proof]}
    receipt["checkpoint"] = checkpoint.note
    return receipt | ({} if provenance is None else {"lineage": orjson.loads(provenance)})


def render_text(receipt: Mapping[str, Any]) -> str:
    """The receipt for print: a summary, then the complete receipt in lines that can be typed or scanned back in."""
    encoded = base64.b64encode(zlib.compress(canonical_json(receipt), 9)).decode()
    lines = [*summary_lines(receipt), "", BEGIN, *textwrap.wrap(encoded, 76), END, ""]
    return "\n".join(["Yuheng receipt 玉衡凭证", "", *lines])
