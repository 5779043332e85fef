"""A register from its folder to the committee's report, beside LightGBM's predict alone on the same rows.

    python -m benchmarks.register [--companies 100000] [--zone FOLDER]

Two simulated months are made once under var/ and kept, with a champion of about the shipped size. Ours reads and checks
the folder, derives the months' and the network's columns, answers each company with reasons and gate, puts all to three
shocks, compares the month before, and writes and records answers and report; LightGBM predicts from a matrix that is
ready. Prints seconds (under 60 are asked), peak memory (under 2 GB), and the ratio of rows a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TRAINING_ROWS, BOOSTERS, TREES = 6_000, 5, 120
TWO_THREADS = {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}


def build(var: Path, months: list[Path]) -> None:
    """A signed champion under `var`, LightGBM's own forest beside it, and the first month's matrix."""
    import lightgbm
    import numpy as np

    from datasets.scitech_risk.register.reader import read
    from datasets.scitech_risk.register.schema import TABLE
    from models import bundle
    from models.card import Card, ContributionReference, ScoreHead
    from models.feature_encoder import encode, order_levels
    from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS
    from models.scitech_risk.policy import BACKING
    from models.scorecard.scaling import ScoreScale
    from models.trees.forest import merge_boosters
    from models.trees.onnx_graph import compile_graph, expected_raw_score
    from models.trees.onnx_session import TabularSession

    frame, target = read(months[0]).frame, TABLE.target.name
    excluded_groups = (*BACKING_GROUPS, *GATE_GROUPS)
    inputs = [
        c for c in TABLE.indicators if c.kind != "text" and c.name not in BACKING and c.group not in excluded_groups
    ]
    columns = order_levels(frame, inputs, target)
    x, y = encode(frame, columns), frame[target].to_numpy()
    labelled_rows = np.flatnonzero(~np.isnan(y))[:TRAINING_ROWS]
    params = {
        **{"objective": "binary", "max_depth": 3, "num_leaves": 8, "verbosity": -1, "num_threads": 2, "seed": 1},
        **{"learning_rate": 0.03, "feature_fraction": 0.5},
    }
    data = lightgbm.Dataset(x[labelled_rows], y[labelled_rows], free_raw_data=False)
    forest = merge_boosters([lightgbm.train(params | {"seed": seed}, data, TREES) for seed in range(BOOSTERS)])
    graph = compile_graph(
        forest, slope=1.0, intercept=0.0, scale=ScoreScale(), n_features=len(columns)
    ).SerializeToString()
    scores = TabularSession(graph).run(x[:TRAINING_ROWS], reasons=True)
    assert scores.contributions is not None
    score_bins = np.array_split(np.argsort(scores.points), 16)
    card = Card(
        product="scitech_risk",
        model="scitech_risk",
        version="benchmark",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="benchmark",
        not_for="anything else",
        inputs=columns,
        also=tuple(column for column in TABLE.indicators if column not in inputs),
        target=target,
        head=ScoreHead(slope=1.0, intercept=0.0, bias=expected_raw_score(forest)),
        reference=ContributionReference(
            points=tuple(float(scores.points[rows].mean()) for rows in score_bins),
            contributions=tuple(tuple(scores.contributions[rows].mean(axis=0).tolist()) for rows in score_bins),
        ),
    )
    policy = (ROOT / "configs/policies/scitech_risk.toml").read_bytes()
    private, _ = bundle.create_signing_keys(var / "keys")
    bundles_dir = var / "bundles" / "scitech_risk"
    bundle.write_bundle(bundles_dir / "benchmark", graph=graph, card=card, policy=policy, private_key=private)
    bundle.set_alias(bundles_dir, "champion", "benchmark")
    forest.save_model(str(var / "forest.txt"))
    np.save(var / "x.npy", encode(read(months[1]).frame, columns))


def measure_pipeline(var: Path, month: Path, previous: Path | None, out: Path) -> dict[str, Any]:
    """Seconds of the command and of its steps, CPU seconds of the process, and the most memory that it needed."""
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


def run_in_subprocess(*args: str) -> dict[str, Any]:
    """A part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.register", "--run", *args]
    environment = {**os.environ, **TWO_THREADS, "ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SystemExit(completed.stderr)
    result: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--companies", type=int, default=100_000)
    parser.add_argument("--zone", type=Path, help="where two months lie, or are made")
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
    with tempfile.TemporaryDirectory(dir=zone_dir) as name:
        var = Path(name)
        run_in_subprocess("build", str(var), *map(str, months))
        first_output, second_output = var / "first", var / "second"
        run_in_subprocess("ours", str(var), str(months[0]), str(first_output))
        own = run_in_subprocess(
            "ours", str(var), str(months[1]), str(second_output), str(first_output / "answers.parquet")
        )
        baseline = run_in_subprocess("lightgbm", str(var))
    print(f"SIMULATED, {args.companies:,} companies, {BOOSTERS * TREES} trees, two threads")
    for step, seconds in own["steps"].items():
        print(f"  {step:<28} {seconds:6.1f} s")
    print(f"register to report           {own['seconds']:6.1f} s (under 60 are asked), peak {own['memory']:,.0f} MiB")
    print(f"  CPU of both threads        {own['cpu']:6.1f} s (what a busy machine cannot stretch)")
    print(f"LightGBM's predict alone     {baseline['seconds']:6.1f} s")
    print(f"rows/s, register to report / LightGBM's predict alone: {baseline['seconds'] / own['seconds']:.3f}; "
          f"by CPU {baseline['cpu'] / own['cpu']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
