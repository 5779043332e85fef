"""Let a version serve only once its promotion is recorded in the audit log, whatever the champion's pointer says.

    loader.authorise = DeploymentGuard(lambda: engine, settings.champion).authorise

The pointer is a file that nobody signs. A version whose signed card says that the gate passed is recorded here when the
pointer names it, unless the operator wants an approval; any other needs the record of a person, or of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import sqlalchemy as sa

from models.bundle import BundleError
from models.card import BaseCard
from serving.core.audit import entries, log
from serving.core.audit.authenticator import authenticator_of
from serving.core.audit.verify import leaf_hash
from serving.core.db.engine import write_transaction
from serving.core.db.schema import LOG_LEAVES, PROMOTIONS
from serving.core.identifiers import new_id, utc_now
from serving.registry.loader import Loadable
from serving.settings import ChampionSettings

AUTOMATIC = "automatic"  # kind of a row that records what the pointer named
FORCE = "force"  # kind of a row of two people, past a gate that did not pass
FORCE_REQUEST = "force_request"  # kind of a row that lets nothing serve: the first of two people


class DeploymentGuard:
    """engine: of the store; raises StoreUnavailableError while it cannot be opened."""

    def __init__(self, engine: Callable[[], sa.Engine], settings: ChampionSettings):
        self.engine, self.settings = engine, settings

    def authorise(self, deployed: Loadable) -> None:
        """Raises BundleError where it may not serve, StoreUnavailableError where that cannot be looked up."""
        with write_transaction(self.engine()) as connection:
            log.acquire_append_lock(connection)
            self._authorise(connection, deployed.card, deployed.digest)

    def _authorise(self, connection: sa.Connection, card: BaseCard, digest: str) -> None:
        record = newest_record(connection, card.model)
        if record is not None and record["bundle"] == digest:
            return
        verdict = getattr(card, "verdict", None)
        if verdict is None or not verdict.passed:
            state = "has no verdict of the promotion gate" if verdict is None else "says that the promotion gate failed"
            raise BundleError(
                f"the champion's pointer names {card.version}, whose card {state}, and no promotion of it is recorded. "
                f"Two scientists can force it: POST /v1/models/{card.model}/champion."
            )
        if self.settings.approval_required:
            raise BundleError(
                f"the champion's pointer names {card.version}, which waits for approval: [champion] "
                f"approval_required is true. Promote it: POST /v1/models/{card.model}/champion."
            )
        row: dict[str, Any] = {"id": new_id(), "tenant": "", "model": card.model, "version": card.version}
        row |= {"bundle": digest, "kind": AUTOMATIC, "gate": True, "by": "service", "confirmed_by": None}
        row |= {"before": record["version"] if record else None, "before_bundle": record["bundle"] if record else None}
        row |= {"reason": "named by the champion's pointer; its signed card says that the gate passed", "at": utc_now()}
        connection.execute(sa.insert(PROMOTIONS).values(row))
        log.append(connection, [entries.row_entry("promotion", row["at"], PROMOTIONS, row)])


def newest_record(connection: sa.Connection, model: str) -> dict[str, Any] | None:
    """The row of PROMOTIONS that decides which version of a model serves. Raises BundleError for a forged one."""
    condition = PROMOTIONS.c.model == model, PROMOTIONS.c.kind != FORCE_REQUEST
    row = connection.execute(_records(*condition).order_by(LOG_LEAVES.c.index.desc()).limit(1)).mappings().first()
    if row is not None and not _is_authentic(connection, row):
        raise BundleError(
            f"the newest promotion of {model} in the store was not recorded by this service, or was changed. "
            "Run python -m serving audit verify."
        )
    return None if row is None else dict(row)


def authentic_records(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    """The rows of PROMOTIONS that the log proves, oldest first."""
    rows = connection.execute(_records(condition).order_by(LOG_LEAVES.c.index)).mappings()
    return [dict(row) for row in rows if _is_authentic(connection, row)]


def _records(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Promotions with the entries that record them."""
    is_entry = sa.and_(LOG_LEAVES.c.ref == PROMOTIONS.c.id, LOG_LEAVES.c.kind == sa.literal_column("'promotion'"))
    entry = LOG_LEAVES.c.index, LOG_LEAVES.c.body, LOG_LEAVES.c.tag
    return sa.select(PROMOTIONS, *entry).join_from(PROMOTIONS, LOG_LEAVES, is_entry).where(*conditions)


def _is_authentic(connection: sa.Connection, row: sa.RowMapping) -> bool:
    body = bytes(row["body"])
    is_own = authenticator_of(connection).is_authentic(row["index"], leaf_hash(body), row["tag"])
    return is_own and bool(orjson.loads(body)["row"] == entries.row_digest(PROMOTIONS, row))
