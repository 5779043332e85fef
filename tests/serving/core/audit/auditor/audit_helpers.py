"""What an audit finds in a store that somebody altered."""

from __future__ import annotations

import contextlib

import orjson
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import Auditor
from serving.core.audit.verify import canonical_json, leaf_hash, salted_digest
from serving.core.db.schema import LOG_CHECKPOINTS, LOG_LEAVES, LOG_NODES, SLIDE_EVENTS, SLIDES
from serving.core.security import keys

LATER = {"record", "counts", "key", "event", "since", "way", "progress"}  # what leaves did not tell at first
NEW = ("batch_end", "slide_note")


def findings(connection, settings, before=False) -> list[str]:
    """`before`: as if the log were of a version whose leaves told less."""
    if before:
        for table in (LOG_CHECKPOINTS, LOG_NODES):
            connection.execute(sa.delete(table))
        for leaf in connection.execute(sa.select(LOG_LEAVES.c.index, LOG_LEAVES.c.kind, LOG_LEAVES.c.body)).all():
            told = orjson.loads(leaf.body)
            if leaf.kind not in ("chunk", "slide_state", *NEW):
                continue
            if new := leaf.kind in NEW or told.get("state") == "uploading":
                told["kind"] = "test"
            elif leaf.kind == "slide_state":
                chosen = sa.select(SLIDE_EVENTS.c.detail, SLIDES.c.salt).join(
                    SLIDES, SLIDES.c.id == SLIDE_EVENTS.c.slide
                )
                event = connection.execute(chosen.where(SLIDE_EVENTS.c.id == told["event"])).one_or_none()
                if event is not None and event.detail == {}:  # of which they told as of null
                    told["detail"] = salted_digest(event.salt, b"null")
            body = canonical_json({name: value for name, value in told.items() if name not in LATER})
            changed = {"kind": told["kind"], "body": body, "hash": leaf_hash(body)}
            connection.execute(sa.update(LOG_LEAVES).where(LOG_LEAVES.c.index == leaf.index).values(changed))
            assert new or set(told) & LATER
    key = keys.load_private_key(settings.paths.log_key).public_key()
    return [str(one) for one in Auditor(connection, key, None).run().findings]


@contextlib.contextmanager
def altered(engine):
    """A transaction of which nothing stays."""
    with engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def edited(engine, settings, statement, before=False) -> list[str]:
    with altered(engine) as connection:
        connection.execute(statement)
        return findings(connection, settings, before)
