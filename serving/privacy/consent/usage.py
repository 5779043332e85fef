"""List the uses of an authorisation: the log entries that name it, and the models trained under it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import log
from serving.core.db.schema import GRANT_USES, GRANTS, LOG_LEAVES, PROVENANCE
from serving.privacy.consent.grants import to_json
from serving.privacy.consent.rules import ConsentRevokedError, expired_grants

MAX_USES = 200  # of one page
Row = dict[str, Any]


def usage_page(
    connection: sa.Connection, grant_id: str, tenant: str | None, before: int | None, limit: int = MAX_USES
) -> Row | None:
    """A page of uses, newest first; None where it was not granted to the tenant (None: any tenant).

    before: index of a log entry; only older ones are listed.
    """
    statement = sa.select(GRANTS).where(
        GRANTS.c.id == grant_id, *([] if tenant is None else [GRANTS.c.tenant == tenant])
    )
    grant = connection.execute(statement).mappings().first()
    if grant is None:
        return None
    uses_grant = GRANT_USES.c.authorisation == grant_id
    use_count = connection.execute(sa.select(sa.func.count()).where(uses_grant)).scalar_one()
    page_stmt = sa.select(LOG_LEAVES.c.index, LOG_LEAVES.c.body).join(
        GRANT_USES, GRANT_USES.c.leaf == LOG_LEAVES.c.index
    )
    page_stmt = page_stmt.where(uses_grant, *([] if before is None else [GRANT_USES.c.leaf < before]))
    rows = connection.execute(page_stmt.order_by(GRANT_USES.c.leaf.desc()).limit(limit)).all()
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
    """Record a use that did not produce a decision. Raises ConsentRevokedError where a grant is no longer valid."""
    log.acquire_append_lock(connection)  # nothing is revoked from here to the commit
    if expired := expired_grants(connection, set(entry.grants)):
        raise ConsentRevokedError(sorted(expired))
    log.append(connection, [entry])


def _use_json(index: int, leaf: Row, provenance: dict[str, Row]) -> Row:
    """One use. `decision`: id of the decision or slide, or batch and first row of a chunk; null for a query, which has
    `what`. `rows`: number of rows of a chunk."""
    model = provenance.get(leaf.get("lineage", ""), {})
    return {
        "leaf": index,
        "kind": leaf["kind"],
        "decision": None if leaf["kind"] in ("read", "export") else leaf["ref"],
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
    """The models that answered and were trained on data used under the grant. A store has only tens of lineages."""
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
