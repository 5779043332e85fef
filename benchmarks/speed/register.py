"""Compare a register's way from its folder to the committee's report with LightGBM's predict on the same rows.

    python -m benchmarks.speed.register [--companies 100000] [--zone FOLDER]

Two simulated months are generated once under var/ and stored there; the champion has about the shipped size. Ours reads
and checks the folder, derives the columns of history and network, answers each company with reasons and gate, applies
three shocks, compares with the month before, and writes and records answers and report; LightGBM predicts from a
prepared matrix. Prints seconds (goal: under 60), peak memory (goal: under 2 GB), and the ratio of rows a second.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.common import BOOSTERS, ROOT, TREES, build_companies, run_json

TRAINING_ROWS = 6_000


def build(var: Path, months: list[Path]) -> None:
    """Publish a champion under `var`, and save the second month's matrix for LightGBM."""
    import numpy as np
    import polars as pl

    from datasets.scitech_risk.register.reader import read
    from datasets.scitech_risk.register.schema import TABLE
    from models.bundle import load_bundle
    from models.feature_encoder import encode

    frame = read(months[0]).frame.filter(pl.col(TABLE.target.name).is_not_null()).head(TRAINING_ROWS)
    build_companies(var, frame)
    card = load_bundle(var / "bundles/scitech_risk/benchmark", var / "keys/signing.pub.pem").card
    np.save(var / "x.npy", encode(read(months[1]).frame, card.inputs))


def measure_pipeline(var: Path, month: Path, previous: Path | None, out: Path) -> dict[str, Any]:
    """Seconds of the command and of its steps, CPU seconds of the process, and its peak memory."""
    import resource

    from training.portfolio.run import PortfolioRequest, run_portfolio
    from training.progress import ProgressReporter

    started = time.perf_counter()
    with ProgressReporter(quiet=True) as reporter:
        result = run_portfolio(
            PortfolioRequest(month, previous=previous, stress=ROOT / "configs/stress.toml", out=out, var=var), reporter
        )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time()
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
    return {"seconds": seconds, "cpu": cpu_seconds, "memory": memory_mib, "steps": result.step_seconds}


def measure_lightgbm(var: Path) -> dict[str, Any]:
    """Seconds of the prediction alone."""
    import lightgbm
    import numpy as np

    forest, x = lightgbm.Booster(model_file=str(var / "forest.txt")), np.load(var / "x.npy")
    started, cpu_started = time.perf_counter(), time.process_time()
    forest.predict(x, num_threads=2)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu_started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--companies", type=int, default=100_000)
    parser.add_argument("--zone", type=Path, help="folder of the two months, generated if needed")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        mode, *paths = args.run
        var, *other_paths = (Path(path) for path in paths)
        if mode == "build":
            build(var, other_paths)
            print("{}")
        elif mode == "lightgbm":
            print(json.dumps(measure_lightgbm(var)))
        else:
            print(
                json.dumps(
                    measure_pipeline(
                        var, other_paths[0], other_paths[2] if len(other_paths) > 2 else None, other_paths[1]
                    )
                )
            )
        return
    from datasets.scitech_risk.register import simulator

    zone_dir = args.zone or ROOT / "var" / f"zone_{args.companies}"
    months = [zone_dir / f"month_{index}" for index in (0, 1)]
    for index, month in enumerate(months):
        if not (month / "invoices.parquet").exists():
            simulator.write(month, args.companies, seed=7, month=index)
    run = partial(run_json, "benchmarks.speed.register", "--run", thread_count=2)
    with tempfile.TemporaryDirectory(dir=zone_dir) as name:
        var = Path(name)
        run("build", str(var), *map(str, months))
        first_output, second_output = var / "first", var / "second"
        run("ours", str(var), str(months[0]), str(first_output))
        own = run("ours", str(var), str(months[1]), str(second_output), str(first_output / "answers.parquet"))
        baseline = run("lightgbm", str(var))
    print(f"SIMULATED, {args.companies:,} companies, {BOOSTERS * TREES} trees, two threads")
    for step, seconds in own["steps"].items():
        print(f"  {step:<28} {seconds:6.1f} s")
    print(f"register to report           {own['seconds']:6.1f} s (goal: under 60), peak {own['memory']:,.0f} MiB")
    print(f"  CPU of both threads        {own['cpu']:6.1f} s (independent of other load)")
    print(f"LightGBM's predict alone     {baseline['seconds']:6.1f} s")
    print(f"rows/s, register to report / LightGBM's predict alone: {baseline['seconds'] / own['seconds']:.3f}; "
          f"by CPU {baseline['cpu'] / own['cpu']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
