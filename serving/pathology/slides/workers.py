"""The processes that read slides, in the store: who is there, whose heart beats, who was given up.

Each function takes an engine, and then is a transaction of its own, or a connection. A worker that was given up cannot
move a slide any more, however late it wakes: `still` is asked in the transaction of each move.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.db.engine import EngineOrConnection, read_connection, write_transaction
from serving.core.db.schema import SLIDE_WORKERS as WORKERS
from serving.core.identifiers import utc_now
from serving.pathology.slides.states import WorkerEvictedError


def register(bind: EngineOrConnection, worker_id: str, host_id: str, pid: int, start_time: int) -> None:
    row = {"id": worker_id, "place": host_id, "pid": pid, "born": start_time, "beat": 0, "started": utc_now()}
    with write_transaction(bind) as connection:
        connection.execute(sa.insert(WORKERS).values(row))


def heartbeat(bind: EngineOrConnection, worker_id: str) -> None:
    """Raises GivenUp."""
    with write_transaction(bind) as connection:
        stmt = sa.update(WORKERS).where(WORKERS.c.id == worker_id)
        if not connection.execute(stmt.values(beat=WORKERS.c.beat + 1)).rowcount:
            raise WorkerEvictedError(worker_id)


def list_workers(bind: EngineOrConnection) -> list[dict[str, Any]]:
    with read_connection(bind) as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(WORKERS).order_by(WORKERS.c.id))]


def evict(bind: EngineOrConnection, worker_id: str, beat: int | None = None) -> bool:
    """From now on it moves no slide; False where it is gone, or its heart has beaten since `beat`."""
    stmt = sa.delete(WORKERS).where(WORKERS.c.id == worker_id)
    with write_transaction(bind) as connection:
        return bool(connection.execute(stmt if beat is None else stmt.where(WORKERS.c.beat == beat)).rowcount)


def assert_active(connection: sa.Connection, worker_id: str) -> None:
    """Holds until the transaction's end, so that nobody gives the worker up in the midst. Raises GivenUp."""
    stmt = sa.select(WORKERS.c.id).where(WORKERS.c.id == worker_id).with_for_update(read=True)
    if worker_id and connection.execute(stmt).first() is None:
        raise WorkerEvictedError(worker_id)
