"""Control the process that the service runs in."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any

log = logging.getLogger("yuheng.process")

RESTART_SECONDS = 1.0  # before a loop that ended runs again
QUIET_SECONDS = 60.0  # without another end, after which its alarm is over


Loop = Callable[[], Coroutine[Any, Any, None]]


async def keep_running(name: str, loop: Loop, failures: MutableMapping[str, str]) -> None:
    """Run an endless loop until cancelled, and again whenever it ends. `failures`: name -> why it ended last."""
    all_clear: asyncio.TimerHandle | None = None
    while True:
        try:
            await loop()
            reason = "it returned"
        except Exception as error:
            log.exception("the loop %s ended and starts again", name)
            reason = f"{type(error).__name__}: {error}"
        if all_clear is not None:
            all_clear.cancel()
        failures[name] = f"the loop {name!r} ended and was started again: {reason}"
        all_clear = asyncio.get_running_loop().call_later(QUIET_SECONDS, failures.pop, name, None)
        await asyncio.sleep(RESTART_SECONDS)


def exit_with_parent() -> None:
    """Ask Linux to end this process with its parent: a worker whose supervisor was killed would keep the port open and
    continue to serve, with nothing to stop it."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
