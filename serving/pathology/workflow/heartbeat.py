"""Which of the processes that read slides live: each beats in the store, and looks whether the others do.

heart = Heart(engine, beat=2.0, dead=10.0, look=recover, given_up=end)
heart.start(); heart.stop()

A process is dead when its heart has not beaten for `dead` seconds by the looker's own clock, or at once where it was on
this machine and is gone. What was given up cannot move a slide any more; one that was only asleep learns it at its next
beat, and ends.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serving.core.db.errors import StoreUnavailableError
from serving.core.identifiers import new_id
from serving.pathology.slides import workers
from serving.pathology.slides.states import WorkerEvictedError

logger = logging.getLogger("yuheng.jobs")


class Heartbeat:
    """look: called after each beat with the ids of all that live. given_up: called when others gave this one up."""

    def __init__(
        self,
        engine: sa.Engine,
        interval: float,
        timeout: float,
        on_beat: Callable[[set[str]], None],
        on_evicted: Callable[[], None],
    ):
        self.engine, self.interval, self.timeout, self.on_beat, self.on_evicted = (
            engine,
            interval,
            timeout,
            on_beat,
            on_evicted,
        )
        self.worker_id = new_id()
        self._last_beats: dict[str, tuple[int, float]] = {}  # worker -> its beat, and when we saw it change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_loop, name="heart", daemon=True)

    def register(self) -> None:
        """From now on the others see it. Raises StoreUnavailable."""
        workers.register(self.engine, self.worker_id, host_id(), os.getpid(), process_start_time(os.getpid()))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Its slides are another's from now on, at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(StoreUnavailableError):  # then the others find out by themselves
            workers.evict(self.engine, self.worker_id)

    def _beat_loop(self) -> None:
        while True:
            try:
                workers.heartbeat(self.engine, self.worker_id)
                self.on_beat(self.evict_dead())
            except WorkerEvictedError:
                self.on_evicted()
                return
            except Exception:
                logger.exception("the heartbeat failed; it is tried again")
            if self._stop.wait(self.interval):
                return

    def evict_dead(self) -> set[str]:
        """Give up who is dead; the ids of those that live."""
        alive, host, timestamp = set(), host_id(), time.monotonic()
        for row in workers.list_workers(self.engine):
            beat, since = self._last_beats.get(row["id"], (-1, timestamp))
            if beat != row["beat"]:
                since = timestamp
            self._last_beats[row["id"]] = row["beat"], since
            process_ended = row["place"] == host and process_start_time(row["pid"]) != row["born"]
            if row["id"] != self.worker_id and (process_ended or timestamp - since > self.timeout) and self._evict(row):
                continue
            alive.add(row["id"])
        self._last_beats = {
            worker_id: last_beat for worker_id, last_beat in self._last_beats.items() if worker_id in alive
        }
        return alive

    def _evict(self, row: dict[str, Any]) -> bool:
        if not workers.evict(self.engine, row["id"], row["beat"]):
            return False
        logger.warning("worker %s (process %d) is dead; its slides go on here", row["id"], row["pid"])
        return True


def host_id() -> str:
    """Where a process id means something: this start of the machine, and the name space of process ids."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot_id} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start_time(pid: int) -> int:
    """When the process began, in the machine's ticks; 0 where there is none. Process ids are given again."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
