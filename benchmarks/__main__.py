"""`python -m benchmarks [NAME ...]`: every headline figure, each from its own command, printed one after the other."""

import subprocess
import sys

QUICK = (
    *(
        "reasons",
        "county",
        "batch",
        "console",
        "deepzoom",
        "effects",
        "network",
        "register",
        "serving",
        "shells",
        "subjects",
    ),
    *("stored", "training", "trust"),
)
LONG = ("quality", "herlev", "heatmap", "slides")  # the first three need YUHENG_DATA, the last a model in var


def main(names: list[str]) -> int:
    """Run the named benchmarks (`all` for the long ones too); the exit status is the worst of theirs."""
    selected = (*QUICK, *LONG) if names == ["all"] else tuple(names) or QUICK
    unknown = [name for name in selected if name not in QUICK + LONG]
    if unknown:
        print(f"{', '.join(unknown)}: not a benchmark; choose from {', '.join(QUICK + LONG)} or all.", file=sys.stderr)
        return 2
    worst_status = 0
    for name in selected:
        print(f"\n== {name} ==", flush=True)
        worst_status = max(
            worst_status, subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        )
    return worst_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
