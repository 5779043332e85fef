"""Results of benchmarks as files: the figures, the date, the commit and the machine.

`python -m benchmarks` writes one file per benchmark under benchmarks/results. They are what docs/benchmarks.md shows.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS_DIR = ROOT / "benchmarks" / "results"


def write_result(name: str, lines: list[str], seconds: float, exit_status: int, folder: Path = RESULTS_DIR) -> Path:
    """Write what a benchmark printed, with where and when it ran."""
    result = {
        "benchmark": name,
        "description": _description(name),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "machine": describe_machine(),
        "seconds": round(seconds, 1),
        "exit_status": exit_status,
        "source_sha256": source_digest(name),
        "figures": [line.rstrip() for line in lines if line.strip()],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def module_name(name: str) -> str:
    """The module to run with python -m, in benchmarks/speed or benchmarks/quality."""
    for package in ("speed", "quality"):
        folder = ROOT / "benchmarks" / package
        if (folder / f"{name}.py").exists() or (folder / name).is_dir():
            return f"benchmarks.{package}.{name}"
    return f"benchmarks.{name}"


def source_files(name: str) -> list[Path]:
    """The files of a benchmark: its module, or every module of its folder."""
    path = ROOT.joinpath(*module_name(name).split("."))
    return [path.with_suffix(".py")] if path.with_suffix(".py").exists() else sorted(path.glob("*.py"))


def source_digest(name: str) -> str:
    """SHA-256 of the benchmark's files, by which a result is known to be outdated."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in source_files(name))).hexdigest()


def describe_machine() -> dict[str, Any]:
    """The machine, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30),
        "python": platform.python_version(),
    }


def _description(name: str) -> str:
    """The first paragraph of the benchmark's docstring."""
    file = next(path for path in source_files(name) if path.stem in (name, "__main__"))
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _commit() -> str:
    """The commit, with a + where tracked files other than the results differ from it."""
    try:
        commit = subprocess.check_output(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, text=True).strip()
        files = (".", ":!benchmarks/results", ":!docs/benchmarks.md")
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *files], cwd=ROOT, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")
