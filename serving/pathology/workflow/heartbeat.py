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

from serving.core.db.engine import StoreUnavailable
from serving.core.http.request import new_id
from serving.pathology.slides import workers
from serving.pathology.slides.states import GivenUp

log = logging.getLogger("yuheng.jobs")


class Heart:
    """look: called after each beat with the ids of all that live. given_up: called when others gave this one up."""

    def __init__(
        self,
        engine: sa.Engine,
        beat: float,
        dead: float,
        look: Callable[[set[str]], None],
        given_up: Callable[[], None],
    ):
        self.engine, self.every, self.dead, self.look, self.given_up = engine, beat, dead, look, given_up
        self.worker = new_id()
        self._seen: dict[str, tuple[int, float]] = {}  # worker -> its beat, and when we saw it change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def enter(self) -> None:
        """From now on the others see it. Raises StoreUnavailable."""
        workers.enter(self.engine, self.worker, place(), os.getpid(), born(os.getpid()))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Its slides are another's from now on, at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(StoreUnavailable):  # then the others find out by themselves
            workers.give_up(self.engine, self.worker)

    def _run(self) -> None:
        while True:
            try:
                workers.beat(self.engine, self.worker)
                self.look(self.bury())
            except GivenUp:
                self.given_up()
                return
            except Exception:
                log.exception("the heartbeat failed; it is tried again")
            if self._stop.wait(self.every):
                return

    def bury(self) -> set[str]:
        """Give up who is dead; the ids of those that live."""
        alive, here, at = set(), place(), time.monotonic()
        for row in workers.present(self.engine):
            beat, since = self._seen.get(row["id"], (-1, at))
            if beat != row["beat"]:
                since = at
            self._seen[row["id"]] = row["beat"], since
            gone = row["place"] == here and born(row["pid"]) != row["born"]
            if row["id"] != self.worker and (gone or at - since > self.dead) and self._give_up(row):
                continue
            alive.add(row["id"])
        self._seen = {worker: seen for worker, seen in self._seen.items() if worker in alive}
        return alive

    def _give_up(self, row: dict[str, Any]) -> bool:
        if not workers.give_up(self.engine, row["id"], row["beat"]):
            return False
        log.warning("worker %s (process %d) is dead; its slides go on here", row["id"], row["pid"])
        return True


def place() -> str:
    """Where a process id means something: this start of the machine, and the name space of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def born(pid: int) -> int:
    """When the process began, in the machine's ticks; 0 where there is none. Process ids are given again."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
