"""A decision's receipt: what proves it by the log's public key alone, which serving/core/audit/verify.py does."""

from __future__ import annotations

import base64
import textwrap
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit.checkpoints import Signed
from serving.core.audit.entries import row_hashes, row_salts
from serving.core.audit.log import Tree, levels_of
from serving.core.audit.verify import BEGIN, END, canonical, summary
from serving.core.db.engine import reading
from serving.core.db.schema import CHUNKS, DECISIONS, LINEAGES, LOG_LEAVES, METER, SLIDES

Receipt = dict[str, Any]
Note = Callable[[int], Signed]  # a checkpoint that covers a leaf


def of_decision(engine: sa.Engine, note: Note, decision: str, tenant: str | None) -> Receipt | None:
    """None where the tenant (None: any) has no such decision, or it was made before the log began."""
    chosen = sa.select(DECISIONS.c.leaf, DECISIONS.c.salt).where(DECISIONS.c.id == decision)
    if tenant is not None:
        chosen = chosen.where(DECISIONS.c.tenant == tenant)
    with reading(engine) as connection:
        found = connection.execute(chosen).first()
    if found is None or found.leaf is None:
        return None
    return of_leaf(engine, note, found.leaf) | {"salt": (found.salt or b"").hex()}


def of_row(engine: sa.Engine, note: Note, batch: str, row: int, tenant: str | None) -> Receipt | None:
    """Of one row of a batch: proved to be in its chunk, whose leaf is in the log."""
    from serving.core.db.codec import lines, unpack

    chosen = sa.select(CHUNKS).join(LOG_LEAVES, LOG_LEAVES.c.index == CHUNKS.c.leaf)
    chosen = chosen.where(CHUNKS.c.batch == batch, CHUNKS.c.first_row <= row, CHUNKS.c.first_row + CHUNKS.c.rows > row)
    if tenant is not None:
        chosen = chosen.where(LOG_LEAVES.c.tenant == tenant)
    with reading(engine) as connection:
        chunk = connection.execute(chosen).first() if row < 2**31 else None
    if chunk is None or chunk.salt is None:
        return None
    place, hashes = row - chunk.first_row, row_hashes(chunk.salt, lines(unpack(chunk.content), batch))
    path, at = [], place
    for level in levels_of(hashes):
        if at ^ 1 < len(level):
            path.append(level[at ^ 1].hex())
        at >>= 1
    salt = row_salts(chunk.salt, chunk.rows)[place]
    proved = {"row": row, "hash": hashes[place].hex(), "proof": path, "salt": salt.hex()}
    return of_leaf(engine, note, chunk.leaf) | {"row": proved}


def of_reading(engine: sa.Engine, note: Note, slide: str, tenant: str | None) -> Receipt | None:
    """Of a slide's reading, under the slide's id."""
    chosen = sa.select(METER.c.leaf, SLIDES.c.salt).join(SLIDES, SLIDES.c.id == METER.c.decision)
    chosen = chosen.where(METER.c.decision == slide)
    if tenant is not None:
        chosen = chosen.where(METER.c.tenant == tenant)
    with reading(engine) as connection:
        found = connection.execute(chosen).first()
    return None if found is None else of_leaf(engine, note, found.leaf) | {"salt": (found.salt or b"").hex()}


def of_leaf(engine: sa.Engine, note: Note, index: int) -> Receipt:
    signed = note(index)
    with reading(engine) as connection:
        body = connection.execute(sa.select(LOG_LEAVES.c.body).where(LOG_LEAVES.c.index == index)).scalar_one()
        leaf = orjson.loads(body)
        proof = Tree(connection).path(index, signed.size)
        lineage = sa.select(LINEAGES.c.body).where(LINEAGES.c.sha256 == leaf.get("lineage"))
        made_from = connection.execute(lineage).scalar()
    receipt: Receipt = {"receipt": 1, "leaf": leaf, "index": index, "proof": [item.hex() for item in proof]}
    receipt["checkpoint"] = signed.note
    return receipt | ({} if made_from is None else {"lineage": orjson.loads(made_from)})


def printed(receipt: Mapping[str, Any]) -> str:
    """On paper: what it says, and the whole receipt in lines that can be typed or scanned back."""
    packed = base64.b64encode(zlib.compress(canonical(receipt), 9)).decode()
    lines = [*summary(receipt), "", BEGIN, *textwrap.wrap(packed, 76), END, ""]
    return "\n".join(["Yuheng receipt 玉衡凭证", "", *lines])
