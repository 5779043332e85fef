"""Run benchmarks one after the other and store their results: python -m benchmarks [NAME ... | all].

Without a name the quick ones run. Each prints its figures, which are stored under benchmarks/results with the date, the
commit and the machine; `make docs-reference` then updates docs/benchmarks.md.
"""

import subprocess
import sys
import time

from benchmarks.results import module_name, write_result

QUICK = (
    "reasons", "county", "batch", "console", "deepzoom", "effects", "network", "register", "serving", "shells",
    "subjects", "stored", "training", "trust",
)  # fmt: skip
LONG = ("quality", "herlev", "heatmap", "slides", "wsinfer")  # three need YUHENG_DATA, slides a model in var


def main(names: list[str]) -> int:
    """Run the named benchmarks (`all` for the long ones too); the exit status is the worst of theirs."""
    selected = (*QUICK, *LONG) if names == ["all"] else tuple(names) or QUICK
    unknown = [name for name in selected if name not in QUICK + LONG]
    if unknown:
        print(f"{', '.join(unknown)}: not a benchmark; choose from {', '.join(QUICK + LONG)} or all.", file=sys.stderr)
        return 2
    return max(_run(name) for name in selected)


def _run(name: str) -> int:
    """Run one benchmark, print and store what it prints; its exit status."""
    print(f"\n== {name} ==", flush=True)
    lines, started = [], time.monotonic()
    command = [sys.executable, "-u", "-m", module_name(name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    write_result(name, lines, time.monotonic() - started, process.returncode)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
