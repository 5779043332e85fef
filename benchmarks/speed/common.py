"""Share a signed champion of about the shipped size, and processes to measure in, between the speed benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from datasets.schema import ColumnSchema

ROOT = Path(__file__).parents[2]
TELEMETRY_OFF = {"ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
FIELD_COUNT = 60  # of a household's request
BOOSTERS, TREES = 5, 120  # about what configs/credit_limit.toml ends with


def var_dir() -> Path:
    """The folder on the disk of the real store, so that syncing costs what it really costs."""
    folder = ROOT / "var"
    folder.mkdir(exist_ok=True)
    return folder


def threads(count: int) -> dict[str, str]:
    """Environment variables that limit a process to so many threads."""
    return dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count))


def rerun(module: str, *args: str) -> int:
    """Run a benchmark's module again in a process of its own, on one thread; its exit status."""
    command = [sys.executable, "-m", module, *args]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **threads(1)}, check=False).returncode


def run_json(module: str, *args: str, thread_count: int) -> Any:
    """Run a benchmark's module in a process of its own and parse the last line that it prints as JSON."""
    command = [sys.executable, "-m", module, *args]
    environment = {**os.environ, **TELEMETRY_OFF, **threads(thread_count)}
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SystemExit(completed.stderr)
    return json.loads(completed.stdout.splitlines()[-1])


def build_households(folder: Path, households: int = 6_000) -> dict[str, Any]:
    """Publish a credit-limit champion trained on a simulated county filled up to 60 fields; returns one applicant."""
    import numpy as np
    import polars as pl

    from datasets.credit_limit.county import schema
    from datasets.credit_limit.county.simulator import simulate_county
    from datasets.schema import ColumnSchema

    table, frame = schema.TABLE, simulate_county(households, seed=1)
    moral_columns = [column for column in table.indicators if column.group in schema.MORAL_GROUPS]
    inputs = [column for column in table.indicators if column not in moral_columns and column.kind != "text"]
    text_columns = [column for column in table.indicators if column.kind == "text"]
    decision_only_columns = [*moral_columns, *text_columns, table["age"]]
    rng = np.random.default_rng(1)
    filler_columns = [
        ColumnSchema(name=f"filling_{i}", low=-10, high=10, unit="standard deviations")
        for i in range(FIELD_COUNT - len(inputs) - len(decision_only_columns))
    ]
    frame = frame.with_columns(pl.Series(column.name, rng.normal(size=households)) for column in filler_columns)
    return publish(folder, "credit_limit", frame, [*inputs, *filler_columns], decision_only_columns, table.target.name)


def build_companies(folder: Path, frame: pl.DataFrame | None = None) -> dict[str, Any]:
    """Publish a company-risk champion trained on `frame`, or on a simulated zone; returns one company."""
    from datasets.scitech_risk.register import reader, schema
    from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS
    from models.scitech_risk.policy import BACKING

    table = schema.TABLE
    policy_groups = {*GATE_GROUPS, *BACKING_GROUPS}
    decision_only_columns = [
        c for c in table.indicators if c.group in policy_groups or c.name in BACKING or c.kind == "text"
    ]
    inputs = sorted(
        (c for c in table.indicators if c not in decision_only_columns), key=lambda column: column.derived is not None
    )
    frame = reader.sample(6_000, seed=1).frame if frame is None else frame
    return publish(folder, "scitech_risk", frame, inputs, decision_only_columns, table.target.name)


def publish(
    folder: Path,
    product: str,
    frame: pl.DataFrame,
    inputs: list[ColumnSchema],
    decision_only_columns: list[ColumnSchema],
    target: str,
) -> dict[str, Any]:
    """Fit a forest, sign its bundle as the champion under `folder`, and save forest.txt and applicants.parquet.

    Returns the fields of one applicant.
    """
    import lightgbm
    import numpy as np

    from models import bundle
    from models.card import Card, ContributionReference, ScoreHead
    from models.evaluation_summary import GateVerdict
    from models.feature_encoder import encode, order_levels
    from models.scorecard.scaling import ScoreScale
    from models.scorecard.unknown_inputs import assumed_codes, assumed_values
    from models.trees.forest import assume_values, merge_boosters
    from models.trees.onnx_graph import compile_graph, expected_raw_score
    from models.trees.onnx_session import TabularSession

    columns = order_levels(frame, inputs, target)
    x, y = encode(frame, columns), frame[target].to_numpy()
    params = {
        **{"objective": "binary", "max_depth": 3, "num_leaves": 8, "verbosity": -1, "num_threads": 1, "seed": 1},
        **{"learning_rate": 0.05, "feature_fraction": 0.5},
    }
    boosters = [lightgbm.train(params | {"seed": seed}, lightgbm.Dataset(x, y), TREES) for seed in range(BOOSTERS)]
    policy = (ROOT / f"configs/policies/{product}.toml").read_bytes()
    unknown = import_module(f"models.{product}.policy").Policy.load(policy).unknown
    assumed = assumed_values(columns, unknown)
    forest, scale = assume_values(merge_boosters(boosters), assumed_codes(columns, assumed)), ScoreScale()
    compiled = compile_graph(forest, slope=1.0, intercept=0.0, scale=scale, n_features=len(columns))
    graph = compiled.SerializeToString()
    scores = TabularSession(graph).run(x, reasons=True)
    assert scores.contributions is not None
    score_bins = np.array_split(np.argsort(scores.points), 16)
    card = Card(
        verdict=GateVerdict(passed=True, checks=()),  # else it is not served
        product=product,
        model=product,
        version="benchmark",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="benchmark",
        not_for="decisions",
        inputs=columns,
        also=tuple(decision_only_columns),
        target=target,
        assumed=assumed,
        head=ScoreHead(slope=1.0, intercept=0.0, bias=expected_raw_score(forest)),
        reference=ContributionReference(
            points=tuple(float(scores.points[rows].mean()) for rows in score_bins),
            contributions=tuple(tuple(scores.contributions[rows].mean(axis=0).tolist()) for rows in score_bins),
        ),
    )
    private_key, _ = bundle.create_signing_keys(folder / "keys")
    bundles_dir = folder / "bundles" / product
    bundle.write_bundle(bundles_dir / "benchmark", graph=graph, card=card, policy=policy, private_key=private_key)
    bundle.set_alias(bundles_dir, "champion", "benchmark")
    forest.save_model(folder / "forest.txt")
    stated_columns = [column for column in (*columns, *decision_only_columns) if column.derived is None]
    applicants = frame.select(column.name for column in stated_columns)
    applicants.write_parquet(folder / "applicants.parquet")
    integers = {column.name for column in stated_columns if column.integer}
    applicant = applicants.row(7, named=True)
    return {name: int(v) if name in integers else v for name, v in applicant.items() if v is not None}
