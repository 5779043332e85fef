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


def measure(most: int, rounds: int) -> None:
    import numpy as np
    import polars as pl

    from datasets.scitech_risk import shell_features
    from datasets.scitech_risk.register.simulator import zone

    def sums(links: pl.DataFrame, invoices: pl.DataFrame) -> None:
        links.group_by("kind", "party").len()
        for end in ("seller", "buyer"):
            invoices.group_by(end).agg(pl.col("amount").sum())

    def best(work: object, *given: object) -> float:
        took = []
        for _ in range(rounds):
            start = time.perf_counter()
            work(*given)  # type: ignore[operator]
            took.append(time.perf_counter() - start)
        return min(took)

    shell_features.columns(*_parts(zone(100, 0)))  # what is loaded once is not measured
    print(f"{'edges':>10}  {'network':>9}  {'edges/s':>9}  {'sums':>9}  {'ratio':>6}  {'in loops':>8}  {'peak MiB':>8}")
    seen: list[tuple[int, float, float]] = []
    for size in (size for size in SIZES if size <= most):
        companies, links, invoices = _parts(zone(-(-size // EDGES_PER_COMPANY), 7))
        edges = links.height + invoices.height
        whole, plain = best(shell_features.columns, companies, links, invoices), best(sums, links, invoices)
        looped = shell_features.columns(companies, links, invoices)["loop_path"].count()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seen.append((edges, whole, plain))
        print(f"{edges:>10,}  {whole:>7.3f} s  {edges / whole:>9,.0f}  {plain:>7.3f} s  {whole / plain:>6.1f}  "
              f"{looped:>8,}  {peak:>8,.0f}", flush=True)  # fmt: skip
    if len(seen) > 1:
        edges_, *took = np.log(np.array(seen)).T
        for name, seconds in zip(("network", "sums"), took, strict=True):
            print(f"exponent of {name:<8} {np.polyfit(edges_, seconds, 1)[0]:.2f}")
        print("SIMULATED zones; the best of", rounds, "rounds, one thread")


def _parts(made: dict) -> tuple:  # type: ignore[type-arg]
    return made["companies"].select("company_id", "insured_staff"), made["links"], made["invoices"]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--edges", type=int, default=SIZES[-1], help="the largest register")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--here", action="store_true", help="in this process, on the threads it has")
    asked = words.parse_args()
    if asked.here:
        measure(asked.edges, asked.rounds)
        return
    again = [sys.executable, "-m", "benchmarks.network", "--here", "--edges", str(asked.edges)]
    again += ["--rounds", str(asked.rounds)]
    raise SystemExit(subprocess.run(again, cwd=ROOT, env={**os.environ, **ONE_THREAD}).returncode)


if __name__ == "__main__":
    main()
