"""UTF-8 for what a command prints and for the processes that it starts, whatever the locale says."""

from __future__ import annotations

import io
import os
import sys


def use_utf8() -> None:
    """Called once by a command's entry point. Files name their encoding where they are opened."""
    os.environ.setdefault("PYTHONUTF8", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
