"""Run code in a confined process, as what a hostile file made of a decoder would run."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from datasets.confinement.process import child_environment, kernel_support
from tests.paths import ROOT

needs_confinement = pytest.mark.skipif(
    not kernel_support().is_complete, reason=f"this kernel confines no process: it has {kernel_support()}"
)

PRELUDE = """
import json, os, resource, signal, socket, sys, threading, time
from pathlib import Path
from datasets.confinement.process import ProcessLimits, confine
LIMITS = ProcessLimits(memory_bytes=2**31, cpu_seconds=60)
results = {}
def attempt(name, do):
    try:
        results[name] = f"done: {do()}"
    except BaseException as error:
        results[name] = type(error).__name__
"""


def run_confined(code: str, folder: Path, read: Sequence[Path] = (), write: Sequence[Path] = ()) -> dict[str, str]:
    """What each attempt of `code` came to: 'done: RESULT', or the name of the exception."""
    read_names, write_names = ([str(each) for each in paths] for paths in (read, write))
    confine = f"confine(LIMITS, [*map(Path, {read_names})], [*map(Path, {write_names})])"
    script = f"{PRELUDE}\n{confine}\n{textwrap.dedent(code)}\nprint(json.dumps(results))"
    environment = child_environment(str(folder))
    completed = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert completed.returncode == 0, completed.stderr
    return dict(json.loads(completed.stdout))
