"""The processes that read slides, in the store: who is there, whose heart beats, who was given up.

Each function takes an engine, and then is a transaction of its own, or a connection. A worker that was given up cannot
move a slide any more, however late it wakes: `still` is asked in the transaction of each move.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.db.engine import Where, reading, writing
from serving.core.db.schema import SLIDE_WORKERS as WORKERS
from serving.core.identifiers import now
from serving.pathology.slides.states import GivenUp


def enter(where: Where, worker: str, place: str, pid: int, born: int) -> None:
    row = {"id": worker, "place": place, "pid": pid, "born": born, "beat": 0, "started": now()}
    with writing(where) as connection:
        connection.execute(sa.insert(WORKERS).values(row))


def beat(where: Where, worker: str) -> None:
    """Raises GivenUp."""
    with writing(where) as connection:
        chosen = sa.update(WORKERS).where(WORKERS.c.id == worker)
        if not connection.execute(chosen.values(beat=WORKERS.c.beat + 1)).rowcount:
            raise GivenUp(worker)


def present(where: Where) -> list[dict[str, Any]]:
    with reading(where) as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(WORKERS).order_by(WORKERS.c.id))]


def give_up(where: Where, worker: str, beat: int | None = None) -> bool:
    """From now on it moves no slide; False where it is gone, or its heart has beaten since `beat`."""
    chosen = sa.delete(WORKERS).where(WORKERS.c.id == worker)
    with writing(where) as connection:
        return bool(connection.execute(chosen if beat is None else chosen.where(WORKERS.c.beat == beat)).rowcount)


def still(connection: sa.Connection, worker: str) -> None:
    """Holds until the transaction's end, so that nobody gives the worker up in the midst. Raises GivenUp."""
    chosen = sa.select(WORKERS.c.id).where(WORKERS.c.id == worker).with_for_update(read=True)
    if worker and connection.execute(chosen).first() is None:
        raise GivenUp(worker)
