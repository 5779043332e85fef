"""The network columns beside plain sums over the same edges: does the graph step grow as the edges do?

    python -m benchmarks.network [--edges 1000000] [--rounds 3]

Registers of simulated zones' links and invoices, from 10,000 edges up. Beside
`datasets.scitech_risk.shell_features` the same run groups the same edges by company and sums them, which any reading of them must. Prints the seconds of both, edges a
second, memory, and the exponent of the fitted curve seconds = a * edges ** exponent (1 is linear). One thread.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
EDGES_PER_COMPANY = 12  # links and invoices of a zone


def measure(max_edges: int, rounds: int) -> None:
    import numpy as np
    import polars as pl

    from datasets.scitech_risk import shell_features
    from datasets.scitech_risk.register.simulator import simulate_zone

    def sums(links: pl.DataFrame, invoices: pl.DataFrame) -> None:
        links.group_by("kind", "party").len()
        for column in ("seller", "buyer"):
            invoices.group_by(column).agg(pl.col("amount").sum())

    def best(fn: object, *args: object) -> float:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            fn(*args)  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    shell_features.shell_feature_columns(*_parts(simulate_zone(100, 0)))  # what is loaded once is not measured
    print(f"{'edges':>10}  {'network':>9}  {'edges/s':>9}  {'sums':>9}  {'ratio':>6}  {'in loops':>8}  {'peak MiB':>8}")
    measurements: list[tuple[int, float, float]] = []
    for size in (size for size in SIZES if size <= max_edges):
        companies, links, invoices = _parts(simulate_zone(-(-size // EDGES_PER_COMPANY), 7))
        edges = links.height + invoices.height
        network_seconds, sum_seconds = (
            best(shell_features.shell_feature_columns, companies, links, invoices),
            best(sums, links, invoices),
        )
        in_loops = shell_features.shell_feature_columns(companies, links, invoices)["loop_path"].count()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        measurements.append((edges, network_seconds, sum_seconds))
        print(f"{edges:>10,}  {network_seconds:>7.3f} s  {edges / network_seconds:>9,.0f}  {sum_seconds:>7.3f} s  {network_seconds / sum_seconds:>6.1f}  "
              f"{in_loops:>8,}  {peak:>8,.0f}", flush=True)  # fmt: skip
    if len(measurements) > 1:
        log_edges, *log_seconds = np.log(np.array(measurements)).T
        for name, seconds in zip(("network", "sums"), log_seconds, strict=True):
            print(f"exponent of {name:<8} {np.polyfit(log_edges, seconds, 1)[0]:.2f}")
        print("SIMULATED zones; the best of", rounds, "rounds, one thread")


def _parts(tables: dict) -> tuple:  # type: ignore[type-arg]
    return tables["companies"].select("company_id", "insured_staff"), tables["links"], tables["invoices"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=SIZES[-1], help="the largest register")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="in this process, on the threads it has")
    args = parser.parse_args()
    if args.here:
        measure(args.edges, args.rounds)
        return
    command = [sys.executable, "-m", "benchmarks.network", "--here", "--edges", str(args.edges)]
    command += ["--rounds", str(args.rounds)]
    raise SystemExit(subprocess.run(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}).returncode)


if __name__ == "__main__":
    main()
