"""Heartbeats of the processes that read slides, and eviction of those that died.

heartbeat = Heartbeat(engine, interval=2.0, timeout=10.0, on_beat=recover, on_evicted=exit_process)
heartbeat.register(); heartbeat.start(); ...; heartbeat.stop()

Each process increments a counter in the store. A process counts as dead if its counter has not changed for `timeout`
seconds by the observer's own clock, or at once if it ran on this machine and no longer exists. An evicted worker cannot
change a slide any more; one that was only suspended learns of its eviction at its next beat, and ends.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from serving.core.db.errors import StoreUnavailableError
from serving.core.identifiers import new_id
from serving.pathology.slides import workers
from serving.pathology.slides.states import WorkerEvictedError
from serving.pathology.slides.workers import Worker

logger = logging.getLogger("yuheng.jobs")


class Heartbeat:
    """on_beat: called after each beat with the ids of all live workers. on_evicted: called when this worker finds that
    another has evicted it."""

    def __init__(
        self,
        engine: sa.Engine,
        interval: float,
        timeout: float,
        on_beat: Callable[[set[str]], None],
        on_evicted: Callable[[], None],
    ):
        self.engine, self.interval, self.timeout = engine, interval, timeout
        self.on_beat, self.on_evicted = on_beat, on_evicted
        self.worker_id = new_id()
        self._last_beats: dict[str, tuple[int, float]] = {}  # worker -> its counter, and when it was seen to change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_loop, name="heartbeat", daemon=True)

    def register(self) -> None:
        """Enter this worker in the store. Raises StoreUnavailableError."""
        workers.register(self.engine, self.worker_id, host_id(), os.getpid(), process_start_time(os.getpid()))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and evict this worker, so that others take over its slides at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(StoreUnavailableError):  # the others then evict it after `timeout`
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
                logger.exception("the heartbeat failed; trying again")
            if self._stop.wait(self.interval):
                return

    def evict_dead(self) -> set[str]:
        """Evict dead workers and return the ids of live ones."""
        alive, host, now = set(), host_id(), time.monotonic()
        for worker in workers.list_workers(self.engine):
            beat, since = self._last_beats.get(worker.id, (-1, now))
            if beat != worker.beat:
                since = now
            self._last_beats[worker.id] = worker.beat, since
            process_ended = worker.host_id == host and process_start_time(worker.pid) != worker.start_time
            if worker.id != self.worker_id and (process_ended or now - since > self.timeout) and self._evict(worker):
                continue
            alive.add(worker.id)
        self._last_beats = {
            worker_id: last_beat for worker_id, last_beat in self._last_beats.items() if worker_id in alive
        }
        return alive

    def _evict(self, worker: Worker) -> bool:
        if not workers.evict(self.engine, worker.id, worker.beat):
            return False
        logger.warning("worker %s (process %d) is dead; its slides continue here", worker.id, worker.pid)
        return True


def host_id() -> str:
    """Identify this boot of the machine and its namespace of process ids; "" if they are unknown."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot_id} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot; 0 if there is none.

    Together with the process id it identifies a process, because ids are used again.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
