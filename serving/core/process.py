"""The process that the service runs in."""

from __future__ import annotations

import signal
import sys


def exit_with_parent() -> None:
    """A worker whose supervisor was killed would hold the port and answer on, with nobody to stop it."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
