"""A person makes a version the champion: recorded with a leaf in the log first, then the pointer is moved.

In this order no version serves by somebody's hand without a record; a record whose move failed is told as such.
"""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.db.schema import INPUT_COUNTS, PROMOTIONS, SLIDES
from serving.core.http.principal import Principal
from serving.core.http.validation import RequestModel, line
from serving.core.identifiers import new_id, utc_now
from serving.registry.versions import StoredVersion

Row = dict[str, Any]
MAX_REASON_CHARS, MAX_VERSION_CHARS = 2_000, 128  # characters
MAX_HISTORY = 50  # promotions of a model


class Promotion(RequestModel):
    version: Annotated[str, line(MAX_VERSION_CHARS, ", in one line", "的单行文本")]
    reason: Annotated[str, line(MAX_REASON_CHARS, ", in one line", "的单行文本")]


def previously_served(connection: sa.Connection, digests: list[str]) -> set[str]:
    """Which of these bundles have served: answered, read a slide, or served until another was made the champion."""
    columns = (PROMOTIONS.c.before_bundle, INPUT_COUNTS.c.bundle, SLIDES.c.bundle)
    queries = (sa.select(column).where(column.in_(digests)).distinct() for column in columns)
    return {digest for query in queries for digest in connection.execute(query).scalars()}


def record_promotion(
    connection: sa.Connection,
    version: StoredVersion,
    previous: tuple[str, str] | None,
    reason: str,
    principal: Principal,
    kind: str,
) -> Row:
    """before: (version, digest) of what served until now."""
    row: Row = {"id": new_id(), "tenant": principal.tenant, "model": version.model, "version": version.version}
    row |= {"bundle": version.digest, "kind": kind, "gate": version.gate_passed, "reason": reason}
    row |= {"before": previous[0] if previous else None, "before_bundle": previous[1] if previous else None}
    row |= {"by": principal.subject, "at": utc_now()}
    connection.execute(sa.insert(PROMOTIONS).values(row))
    log.append(connection, [entries.row_entry("promotion", row["at"], PROMOTIONS, row)])
    summary = {name: row[name] for name in ("model", "version", "kind", "gate", "before", "reason", "by", "at")}
    return {"promotion_id": row["id"], **summary}


def promotion_history(connection: sa.Connection, model: str, tenant: str) -> list[Row]:
    """The newest first. Who decided and why is their own tenant's."""
    stmt = sa.select(PROMOTIONS).where(PROMOTIONS.c.model == model).order_by(PROMOTIONS.c.id.desc()).limit(MAX_HISTORY)
    promotions = []
    for row in connection.execute(stmt).mappings():
        names = ("id", "version", "kind", "gate", "before", "at")
        is_own = row["tenant"] == tenant
        promotions.append(
            {name: row[name] for name in names}
            | {"own": is_own, "by": row["by"] if is_own else None, "reason": row["reason"] if is_own else None}
        )
    return promotions
