"""Compare the network features with plain sums over the same edges: does their time grow linearly with the edges?

    python -m benchmarks.speed.network [--edges 1000000] [--rounds 3]

Links and invoices of simulated zones, from 10,000 edges up. The same run computes
`datasets.scitech_risk.shell_features` and, for comparison, groups the same edges by company and sums them, which is the
least that any use of them costs. Prints the seconds of both, edges a second, memory, and the exponent of the fitted
curve seconds = a * edges ** exponent (1 is linear). One thread.
"""

from __future__ import annotations

import argparse
import resource
import time

from benchmarks.speed.common import rerun

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
EDGES_PER_COMPANY = 12  # links and invoices


def measure(max_edges: int, rounds: int) -> None:
    """Measure registers of growing size, and fit the exponents."""
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

    shell_features.shell_feature_columns(*_tables(simulate_zone(100, 0)))  # warm-up
    print(f"{'edges':>10}  {'network':>9}  {'edges/s':>9}  {'sums':>9}  {'ratio':>6}  {'in loops':>8}  {'peak MiB':>8}")
    measurements: list[tuple[int, float, float]] = []
    for size in (size for size in SIZES if size <= max_edges):
        companies, links, invoices = _tables(simulate_zone(-(-size // EDGES_PER_COMPANY), 7))
        edges = links.height + invoices.height
        network_seconds, sum_seconds = (
            best(shell_features.shell_feature_columns, companies, links, invoices),
            best(sums, links, invoices),
        )
        in_loops = shell_features.shell_feature_columns(companies, links, invoices)["loop_path"].count()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        measurements.append((edges, network_seconds, sum_seconds))
        print(
            f"{edges:>10,}  {network_seconds:>7.3f} s  {edges / network_seconds:>9,.0f}  "
            f"{sum_seconds:>7.3f} s  {network_seconds / sum_seconds:>6.1f}  "
            f"{in_loops:>8,}  {peak:>8,.0f}",
            flush=True,
        )
    if len(measurements) > 1:
        log_edges, *log_seconds = np.log(np.array(measurements)).T
        for name, seconds in zip(("network", "sums"), log_seconds, strict=True):
            print(f"exponent of {name:<8} {np.polyfit(log_edges, seconds, 1)[0]:.2f}")
        print("SIMULATED zones; the best of", rounds, "rounds, one thread")


def _tables(tables: dict) -> tuple:  # type: ignore[type-arg]
    return tables["companies"].select("company_id", "insured_staff"), tables["links"], tables["invoices"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=SIZES[-1], help="the largest register")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="measure in this process, on all its threads")
    args = parser.parse_args()
    if args.here:
        measure(args.edges, args.rounds)
        return
    arguments = ("--here", "--edges", str(args.edges), "--rounds", str(args.rounds))
    raise SystemExit(rerun("benchmarks.speed.network", *arguments))


if __name__ == "__main__":
    main()
