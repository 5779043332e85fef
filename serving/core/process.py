"""Control the process that the service runs in."""

from __future__ import annotations

import signal
import sys


def exit_with_parent() -> None:
    """Ask Linux to end this process with its parent: a worker whose supervisor was killed would keep the port open and
    continue to serve, with nothing to stop it."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
