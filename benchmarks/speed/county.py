"""Compare simulating a county with reading the same rows back and checking them against their schema.

    python -m benchmarks.speed.county [--households 1000000]

One process on one thread. Prints rows a second of both and their ratio, the seconds (goal: under 60 for a million), and
the peak memory of writing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.speed.common import rerun


def measure(households: int, seed: int = 7) -> None:
    """Write a county to a file, then read it by its schema."""
    import resource

    from datasets.credit_limit.county import reader
    from datasets.credit_limit.county.simulator import write

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "county_simulated.parquet"
        start = time.perf_counter()
        write(path, households, seed)
        write_seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
        start = time.perf_counter()
        rows = reader.read(path).height
        read_seconds = time.perf_counter() - start
        size = path.stat().st_size / 2**20
    print(
        f"simulate and write   {rows / write_seconds:>12,.0f} rows/s   {write_seconds:6.1f} s   peak {memory:,.0f} MiB"
    )
    print(f"read and check       {rows / read_seconds:>12,.0f} rows/s   {read_seconds:6.1f} s   file {size:,.0f} MiB")
    print(f"ratio                {read_seconds / write_seconds:>12.2f}   SIMULATED, {rows:,} households, one thread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--households", type=int, default=1_000_000)
    parser.add_argument("--here", action="store_true", help="measure in this process, on all its threads")
    args = parser.parse_args()
    if args.here:
        measure(args.households)
        return
    raise SystemExit(rerun("benchmarks.speed.county", "--here", "--households", str(args.households)))


if __name__ == "__main__":
    main()
