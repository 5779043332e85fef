"""Who used an authorisation: each answer and each look whose leaf in the log names it, and the models made under it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import log
from serving.core.db.schema import GRANT_USES, GRANTS, LOG_LEAVES, PROVENANCE
from serving.privacy.consent.grants import to_json
from serving.privacy.consent.rules import ConsentRevokedError, expired_grants

MAX_USES = 200  # told at once
Row = dict[str, Any]


def usage_page(
    connection: sa.Connection, grant_id: str, tenant: str | None, before: int | None, limit: int = MAX_USES
) -> Row | None:
    """A page, the newest first; None where the tenant (None: any) was not granted it. `before`: a leaf's index."""
    statement = sa.select(GRANTS).where(
        GRANTS.c.id == grant_id, *([] if tenant is None else [GRANTS.c.tenant == tenant])
    )
    grant = connection.execute(statement).mappings().first()
    if grant is None:
        return None
    uses_grant = GRANT_USES.c.authorisation == grant_id
    use_count = connection.execute(sa.select(sa.func.count()).where(uses_grant)).scalar_one()
    statement_of_page = sa.select(LOG_LEAVES.c.index, LOG_LEAVES.c.body).join(
        GRANT_USES, GRANT_USES.c.leaf == LOG_LEAVES.c.index
    )
    statement_of_page = statement_of_page.where(uses_grant, *([] if before is None else [GRANT_USES.c.leaf < before]))
    rows = connection.execute(statement_of_page.order_by(GRANT_USES.c.leaf.desc()).limit(limit)).all()
    leaves: list[tuple[int, Row]] = [(index, orjson.loads(body)) for index, body in rows]
    provenance = _load_provenance(connection, {leaf.get("lineage") for _, leaf in leaves})
    return {
        **to_json(grant),
        "used": use_count,
        "uses": [_use_json(index, leaf, provenance) for index, leaf in leaves],
        "next": leaves[-1][0] if len(leaves) == limit else None,
        "models": _trained_models(connection, grant_id),
    }


def record(connection: sa.Connection, entry: log.Entry) -> None:
    """A use that is no answer's. Raises GrantsGone where an authorisation ended meanwhile."""
    log.acquire_append_lock(connection)  # from here on nothing is revoked
    if expired := expired_grants(connection, set(entry.grants)):
        raise ConsentRevokedError(sorted(expired))
    log.append(connection, [entry])


def _use_json(index: int, leaf: Row, provenance: dict[str, Row]) -> Row:
    """`decision`: its id, its slide's, or its batch's with a chunk's first row, null for what was only looked at;
    `what`: was looked at; `rows`: of a chunk, how many."""
    model = provenance.get(leaf.get("lineage", ""), {})
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


def _load_provenance(connection: sa.Connection, digests: Iterable[str | None]) -> dict[str, Row]:
    statement = sa.select(PROVENANCE.c.sha256, PROVENANCE.c.body).where(
        PROVENANCE.c.sha256.in_([*filter(None, digests)])
    )
    return {sha256: orjson.loads(body) for sha256, body in connection.execute(statement).all()}


def _trained_models(connection: sa.Connection, grant_id: str) -> list[Row]:
    """Those that answered and were trained on data taken under it. A store knows some tens of lineages."""
    provenances = [orjson.loads(body) for body in connection.execute(sa.select(PROVENANCE.c.body)).scalars()]
    models = [
        {
            "model": provenance["model"],
            "version": provenance["version"],
            "bundle": provenance["bundle"],
            "data": [data["name"] for data in provenance["data"] if grant_id in data["authorisations"]],
        }
        for provenance in provenances
    ]
    return sorted((model for model in models if model["data"]), key=lambda model: (model["model"], model["version"]))
