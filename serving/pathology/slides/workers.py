"""The registry of the processes that read slides: registration, heartbeats, eviction.

Each function takes an engine, and then is a transaction of its own, or a connection. `assert_active` is called in the
transaction of every state change, so an evicted worker cannot change a slide any more, however late it wakes up.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from serving.core.db.engine import EngineOrConnection, read_connection, write_transaction
from serving.core.db.schema import SLIDE_WORKERS as WORKERS
from serving.core.identifiers import utc_now
from serving.pathology.slides.states import WorkerEvictedError


class Worker(NamedTuple):
    """beat: a counter of its heartbeats. host_id, start_time: see workflow/heartbeat.py."""

    id: str
    host_id: str
    pid: int
    start_time: int
    beat: int


def register(bind: EngineOrConnection, worker_id: str, host_id: str, pid: int, start_time: int) -> None:
    """Enter a new worker."""
    row = {"id": worker_id, "place": host_id, "pid": pid, "born": start_time, "beat": 0, "started": utc_now()}
    with write_transaction(bind) as connection:
        connection.execute(sa.insert(WORKERS).values(row))


def heartbeat(bind: EngineOrConnection, worker_id: str) -> None:
    """Increment the worker's counter. Raises WorkerEvictedError."""
    with write_transaction(bind) as connection:
        stmt = sa.update(WORKERS).where(WORKERS.c.id == worker_id)
        if not connection.execute(stmt.values(beat=WORKERS.c.beat + 1)).rowcount:
            raise WorkerEvictedError(worker_id)


def list_workers(bind: EngineOrConnection) -> list[Worker]:
    """All workers that were not evicted, the oldest first."""
    columns = WORKERS.c.id, WORKERS.c.place, WORKERS.c.pid, WORKERS.c.born, WORKERS.c.beat
    with read_connection(bind) as connection:
        return [Worker(*row) for row in connection.execute(sa.select(*columns).order_by(WORKERS.c.id))]


def evict(bind: EngineOrConnection, worker_id: str, beat: int | None = None) -> bool:
    """Bar the worker from changing slides. False, and nothing done, if it is gone or has beaten since `beat`."""
    stmt = sa.delete(WORKERS).where(WORKERS.c.id == worker_id)
    with write_transaction(bind) as connection:
        return bool(connection.execute(stmt if beat is None else stmt.where(WORKERS.c.beat == beat)).rowcount)


def assert_active(connection: sa.Connection, worker_id: str) -> None:
    """Raise WorkerEvictedError if the worker was evicted; "" stands for no worker and always passes.

    Locks the worker's row until the end of the transaction, so that nobody evicts it in between.
    """
    stmt = sa.select(WORKERS.c.id).where(WORKERS.c.id == worker_id).with_for_update(read=True)
    if worker_id and connection.execute(stmt).first() is None:
        raise WorkerEvictedError(worker_id)
