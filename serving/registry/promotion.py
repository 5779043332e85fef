"""A person makes a version the champion: recorded with a leaf in the log first, then the pointer is moved.

In this order no version serves by somebody's hand without a record; a record whose move failed is told as such.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from datasets.errors import Fault
from datasets.schema import unknown_names
from serving.core.audit import entries, log
from serving.core.db.schema import INPUT_COUNTS, PROMOTIONS, SLIDES
from serving.core.http import validation
from serving.core.http.principal import Caller
from serving.core.identifiers import new_id, now
from serving.registry.versions import Version

Row = dict[str, Any]
FIELDS = ("version", "reason")
REASON, NAMED = 2_000, 128  # characters
SHOWN = 50  # promotions of a model


def faults(body: Row) -> list[Fault]:
    found = unknown_names(body, FIELDS, f"one of {', '.join(FIELDS)}", "字段之一")
    for name, most in (("version", NAMED), ("reason", REASON)):
        if not validation.text(body.get(name), most):
            needed = f"text of 1 to {most:,} characters, in one line", f"1 至 {most:,} 个字符的单行文本"
            found.append(Fault(name, validation.kind(body.get(name)), *needed))
    return found


def served(connection: sa.Connection, digests: list[str]) -> set[str]:
    """Which of these bundles have served: answered, read a slide, or served until another was made the champion."""
    places = (PROMOTIONS.c.before_bundle, INPUT_COUNTS.c.bundle, SLIDES.c.bundle)
    asked = (sa.select(place).where(place.in_(digests)).distinct() for place in places)
    return {digest for each in asked for digest in connection.execute(each).scalars()}


def record(
    connection: sa.Connection, chosen: Version, before: tuple[str, str] | None, reason: str, caller: Caller, kind: str
) -> Row:
    """before: (version, digest) of what served until now."""
    row: Row = {"id": new_id(), "tenant": caller.tenant, "model": chosen.model, "version": chosen.version}
    row |= {"bundle": chosen.digest, "kind": kind, "gate": chosen.passed, "reason": reason}
    row |= {"before": before[0] if before else None, "before_bundle": before[1] if before else None}
    row |= {"by": caller.who, "at": now()}
    connection.execute(sa.insert(PROMOTIONS).values(row))
    log.append(connection, [entries.kept("promotion", row["at"], PROMOTIONS, row)])
    shown = {name: row[name] for name in ("model", "version", "kind", "gate", "before", "reason", "by", "at")}
    return {"promotion_id": row["id"], **shown}


def history(connection: sa.Connection, model: str, tenant: str) -> list[Row]:
    """The newest first. Who decided and why is their own tenant's."""
    chosen = sa.select(PROMOTIONS).where(PROMOTIONS.c.model == model).order_by(PROMOTIONS.c.id.desc()).limit(SHOWN)
    told = []
    for row in connection.execute(chosen).mappings():
        names = ("id", "version", "kind", "gate", "before", "at")
        own = row["tenant"] == tenant
        told.append(
            {name: row[name] for name in names}
            | {"own": own, "by": row["by"] if own else None, "reason": row["reason"] if own else None}
        )
    return told
