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
TRAINED_ON, BOOSTERS, TREES = 6_000, 5, 120
TWO = {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}


def build(var: Path, months: list[Path]) -> None:
    """A signed champion under `var`, LightGBM's own forest beside it, and the first month's matrix."""
    import lightgbm
    import numpy as np

    from datasets.scitech_risk.register.schema import TABLE, read
    from models import bundle
    from models.card import Card, Head, Reference
    from models.feature_encoder import encode, learn_levels
    from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS
    from models.scitech_risk.policy import BACKING
    from models.scorecard.scaling import Scale
    from models.trees.forest import merge
    from models.trees.onnx_graph import bias, compile_graph
    from models.trees.onnx_session import Graph

    frame, target = read(months[0]).frame, TABLE.target.name
    unread = (*BACKING_GROUPS, *GATE_GROUPS)
    inputs = [c for c in TABLE.indicators if c.kind != "text" and c.name not in BACKING and c.group not in unread]
    columns = learn_levels(frame, inputs, target)
    x, y = encode(frame, columns), frame[target].to_numpy()
    known = np.flatnonzero(~np.isnan(y))[:TRAINED_ON]
    params = {
        **{"objective": "binary", "max_depth": 3, "num_leaves": 8, "verbosity": -1, "num_threads": 2, "seed": 1},
        **{"learning_rate": 0.03, "feature_fraction": 0.5},
    }
    data = lightgbm.Dataset(x[known], y[known], free_raw_data=False)
    forest = merge([lightgbm.train(params | {"seed": seed}, data, TREES) for seed in range(BOOSTERS)])
    graph = compile_graph(forest, slope=1.0, intercept=0.0, scale=Scale(), n_features=len(columns)).SerializeToString()
    scores = Graph(graph).run(x[:TRAINED_ON], reasons=True)
    assert scores.contributions is not None
    parts = np.array_split(np.argsort(scores.points), 16)
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
        head=Head(slope=1.0, intercept=0.0, bias=bias(forest)),
        reference=Reference(
            points=tuple(float(scores.points[part].mean()) for part in parts),
            contributions=tuple(tuple(scores.contributions[part].mean(axis=0).tolist()) for part in parts),
        ),
    )
    policy = (ROOT / "configs/policies/scitech_risk.toml").read_bytes()
    private, _ = bundle.make_keys(var / "keys")
    home = var / "bundles" / "scitech_risk"
    bundle.write(home / "benchmark", graph=graph, card=card, policy=policy, private_key=private)
    bundle.point(home, "champion", "benchmark")
    forest.save_model(str(var / "forest.txt"))
    np.save(var / "x.npy", encode(read(months[1]).frame, columns))


def ours(var: Path, month: Path, previous: Path | None, out: Path) -> dict[str, Any]:
    """Seconds of the command and of its steps, CPU seconds of the process, and the most memory that it needed."""
    import resource

    from training.portfolio.run import Asked, portfolio
    from training.progress import Watch

    began = time.perf_counter()
    with Watch(quiet=True) as watch:
        done = portfolio(Asked(month, previous=previous, stress=ROOT / "configs/stress.toml", out=out, var=var), watch)
    seconds, cpu = time.perf_counter() - began, time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
    return {"seconds": seconds, "cpu": cpu, "memory": memory, "steps": done.seconds}


def lightgbms(var: Path) -> dict[str, Any]:
    """Seconds of the prediction alone."""
    import lightgbm
    import numpy as np

    forest, x = lightgbm.Booster(model_file=str(var / "forest.txt")), np.load(var / "x.npy")
    began, cpu = time.perf_counter(), time.process_time()
    forest.predict(x, num_threads=2)
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def again(*words: str) -> dict[str, Any]:
    """A part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.register", "--run", *words]
    environ = {**os.environ, **TWO, "ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--companies", type=int, default=100_000)
    parser.add_argument("--zone", type=Path, help="where two months lie, or are made")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        which, *paths = given.run
        var, *others = (Path(path) for path in paths)
        if which == "build":
            build(var, others)
            print("{}")
        elif which == "lightgbm":
            print(json.dumps(lightgbms(var)))
        else:
            print(json.dumps(ours(var, others[0], others[2] if len(others) > 2 else None, others[1])))
        return
    from datasets.scitech_risk.register import simulator

    home = given.zone or ROOT / "var" / f"zone_{given.companies}"
    months = [home / f"month_{at}" for at in (0, 1)]
    for at, month in enumerate(months):
        if not (month / "invoices.parquet").exists():
            simulator.write(month, given.companies, seed=7, month=at)
    with tempfile.TemporaryDirectory(dir=home) as name:
        var = Path(name)
        again("build", str(var), *map(str, months))
        first, second = var / "first", var / "second"
        again("ours", str(var), str(months[0]), str(first))
        mine = again("ours", str(var), str(months[1]), str(second), str(first / "answers.parquet"))
        other = again("lightgbm", str(var))
    print(f"SIMULATED, {given.companies:,} companies, {BOOSTERS * TREES} trees, two threads")
    for step, seconds in mine["steps"].items():
        print(f"  {step:<28} {seconds:6.1f} s")
    print(f"register to report           {mine['seconds']:6.1f} s (under 60 are asked), peak {mine['memory']:,.0f} MiB")
    print(f"  CPU of both threads        {mine['cpu']:6.1f} s (what a busy machine cannot stretch)")
    print(f"LightGBM's predict alone     {other['seconds']:6.1f} s")
    print(f"rows/s, register to report / LightGBM's predict alone: {other['seconds'] / mine['seconds']:.3f}; "
          f"by CPU {other['cpu'] / mine['cpu']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
