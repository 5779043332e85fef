"""docs/benchmarks.md: what `make bench` wrote under benchmarks/results, then earlier measurements with their dates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS_DIR, source_digest
from docs.generate.markdown import cell, page

EARLIER = Path(__file__).with_name("earlier_measurements.md")


def build_page() -> str:
    from benchmarks.__main__ import LONG, QUICK

    results = [_load(name) for name in (*QUICK, *LONG) if (RESULTS_DIR / f"{name}.json").exists()]
    measured = [build_section(result) for result in results]
    missing = [f"`{name}`" for name in (*QUICK, *LONG) if not (RESULTS_DIR / f"{name}.json").exists()]
    status = f"No result of {', '.join(missing)} is stored." if missing else ""
    return page(
        "Benchmarks",
        "`make bench` measures every headline figure, each as a ratio of two runs side by side on the same "
        "machine, and "
        "writes what it saw to `benchmarks/results`: the figures, the date, the commit and the machine. This page is "
        "generated from those files. A result whose benchmark has changed since is marked; a benchmark that no longer "
        "exists takes its figures with it. Trust the ratios: absolute speeds depend on the machine.",
        "## Results of make bench",
        status,
        *measured,
        EARLIER.read_text(encoding="utf-8"),
    )


def _load(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS_DIR / f"{name}.json").read_text(encoding="utf-8")))


def build_section(result: dict[str, Any]) -> str:
    """One benchmark: what it measures, when, on what, and what it printed."""
    name = result["benchmark"]
    machine = result["machine"]
    changed = "" if result["source_sha256"] == source_digest(name) else " **The benchmark has changed since.**"
    failed = "" if result["exit_status"] == 0 else f" **It ended with status {result['exit_status']}.**"
    figures = "\n".join(result["figures"])
    return (
        f"### {name}\n\n{cell(result['description'])}\n\n"
        f"{result['date']}, commit `{result['commit']}`, {machine['cpus']} cores ({cell(machine['processor'])}), "
        f"{machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}; {result['seconds']} s."
        f"{changed}{failed}\n\n```text\n{figures}\n```"
    )
