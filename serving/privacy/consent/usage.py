"""Who used an authorisation: each answer and each look whose leaf in the log names it, and the models made under it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import log
from serving.core.db.schema import GRANT_USES, GRANTS, LINEAGES, LOG_LEAVES
from serving.privacy.consent.grants import shown
from serving.privacy.consent.rules import GrantsGone, ended

MOST = 200  # told at once
Row = dict[str, Any]


def of(connection: sa.Connection, grant: str, tenant: str | None, before: int | None, most: int = MOST) -> Row | None:
    """A page, the newest first; None where the tenant (None: any) was not granted it. `before`: a leaf's index."""
    chosen = sa.select(GRANTS).where(GRANTS.c.id == grant, *([] if tenant is None else [GRANTS.c.tenant == tenant]))
    found = connection.execute(chosen).mappings().first()
    if found is None:
        return None
    mine = GRANT_USES.c.authorisation == grant
    many = connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one()
    page = sa.select(LOG_LEAVES.c.index, LOG_LEAVES.c.body).join(GRANT_USES, GRANT_USES.c.leaf == LOG_LEAVES.c.index)
    page = page.where(mine, *([] if before is None else [GRANT_USES.c.leaf < before]))
    rows = connection.execute(page.order_by(GRANT_USES.c.leaf.desc()).limit(most)).all()
    leaves: list[tuple[int, Row]] = [(index, orjson.loads(body)) for index, body in rows]
    made = _made(connection, {leaf.get("lineage") for _, leaf in leaves})
    return {
        **shown(found),
        "used": many,
        "uses": [_use(index, leaf, made) for index, leaf in leaves],
        "next": leaves[-1][0] if len(leaves) == most else None,
        "models": _models(connection, grant),
    }


def note(connection: sa.Connection, entry: log.Entry) -> None:
    """A use that is no answer's. Raises GrantsGone where an authorisation ended meanwhile."""
    log.lock(connection)  # from here on nothing is revoked
    if gone := ended(connection, set(entry.grants)):
        raise GrantsGone(sorted(gone))
    log.append(connection, [entry])


def _use(index: int, leaf: Row, made: dict[str, Row]) -> Row:
    """`decision`: its id, its slide's, or its batch's with a chunk's first row, null for what was only looked at;
    `what`: was looked at; `rows`: of a chunk, how many."""
    model = made.get(leaf.get("lineage", ""), {})
    return {
        "leaf": index,
        "kind": leaf["kind"],
        "decision": None if leaf["kind"] == "read" else leaf["ref"],
        "what": leaf.get("what"),
        "at": leaf["at"],
        "tenant": leaf["tenant"],
        "product": leaf.get("product"),
        "model": model.get("model"),
        "version": model.get("version"),
        "rows": leaf.get("rows"),
    }


def _made(connection: sa.Connection, wanted: Iterable[str | None]) -> dict[str, Row]:
    chosen = sa.select(LINEAGES.c.sha256, LINEAGES.c.body).where(LINEAGES.c.sha256.in_([*filter(None, wanted)]))
    return {sha256: orjson.loads(body) for sha256, body in connection.execute(chosen).all()}


def _models(connection: sa.Connection, grant: str) -> list[Row]:
    """Those that answered and were trained on data taken under it. A store knows some tens of lineages."""
    found = [orjson.loads(body) for body in connection.execute(sa.select(LINEAGES.c.body)).scalars()]
    told = [
        {
            "model": one["model"],
            "version": one["version"],
            "bundle": one["bundle"],
            "data": [data["name"] for data in one["data"] if grant in data["authorisations"]],
        }
        for one in found
    ]
    return sorted((one for one in told if one["data"]), key=lambda one: (one["model"], one["version"]))
