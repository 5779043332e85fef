"""Make a command print UTF-8, and the processes that it starts too, whatever the locale."""

from __future__ import annotations

import io
import os
import sys


def use_utf8() -> None:
    """Call once in the entry point of a command. Files are opened with an explicit encoding instead."""
    os.environ.setdefault("PYTHONUTF8", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
