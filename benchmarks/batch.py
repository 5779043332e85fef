"""A batch through the service's own code, beside LightGBM's predict on the same rows, one thread each.

    python -m benchmarks.batch [--rows 300000] [--rounds 3]

Both read the same Parquet file and write a Parquet file. Ours checks each value against the contract, scores, decides
each limit and records every answer on disk; LightGBM only predicts. Prints the ratio of rows a second (at least 1.5 is
asked).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALONE = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


def ours(folder: Path, source: Path, reasons: bool) -> float:
    """Seconds from the file that came to the file that goes."""
    import asyncio

    from serving import settings
    from serving.core.http.metrics import Metrics
    from serving.core.identifiers import new_id
    from serving.decisions.batch.job import Order, Run
    from serving.decisions.products.base import products
    from serving.decisions.service import DecisionService

    paths = {"YUHENG_BUNDLES": "bundles", "YUHENG_PUBLIC_KEY": "keys/signing.pub.pem", "YUHENG_STORE": "store.db"}
    paths |= {"YUHENG_SPOOL": ".", "YUHENG_LOG_KEY": "keys/log.pem", "YUHENG_CHECKPOINTS": "checkpoints"}
    environ = {name: str(folder / path) for name, path in paths.items()}

    async def main() -> float:
        service = DecisionService(settings.read(environ=environ), Metrics())
        service.start()
        try:
            order = Order(new_id(), "local", "benchmark", None, "", source, "parquet", "parquet", (), reasons)
            held = service.held(products()["credit_limit"], None)
            run = Run(order, held, service.settings, service.store.writer, service.metrics, service.prices)

            def whole() -> float:
                began = time.perf_counter()
                with (folder / "ours.parquet").open("wb") as out:
                    for part in run.parts():
                        out.write(part)
                return time.perf_counter() - began

            return await asyncio.to_thread(whole)
        finally:
            service.stop()

    return asyncio.run(main())


def lightgbms(folder: Path, source: Path) -> float:
    """Seconds from the file that came to the file that goes."""
    import lightgbm
    import polars as pl

    from models.bundle import load
    from models.feature_encoder import encode

    card = load(folder / "bundles/credit_limit/benchmark", folder / "keys/signing.pub.pem").card
    forest = lightgbm.Booster(model_file=str(folder / "forest.txt"))
    began = time.perf_counter()
    frame = pl.read_parquet(source)
    pd = forest.predict(encode(frame, card.inputs), num_threads=1)
    pl.DataFrame({"pd": pd}).write_parquet(folder / "lightgbm.parquet")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=2, metavar=("WHICH", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        which, name = given.run
        folder = Path(name)
        source = folder / "applicants.parquet"
        print(
            json.dumps(lightgbms(folder, source) if which == "lightgbm" else ours(folder, source, which == "reasons"))
        )
        return
    import polars as pl

    from benchmarks.serving import BOOSTERS, TREES, build, var

    with tempfile.TemporaryDirectory(dir=var()) as name:
        folder = Path(name)
        build(folder)
        people = pl.read_parquet(folder / "people.parquet")
        rows = pl.concat([people] * (given.rows // people.height + 1)).head(given.rows)
        rows.write_parquet(folder / "applicants.parquet", row_group_size=50_000)
        print(f"{given.rows:,} rows, {rows.width} columns, {BOOSTERS * TREES} trees, one thread each")
        found: dict[str, list[float]] = {"answers": [], "reasons": [], "lightgbm": []}
        for turn in range(given.rounds):
            for which, rates in found.items():
                rates.append(given.rows / seconds(which, folder))
            told = ", ".join(f"{which} {rates[-1]:,.0f} rows/s" for which, rates in found.items())
            print(f"round {turn + 1}: {told}")
        pairs = zip(found["answers"], found["lightgbm"], strict=True)
        ratio = statistics.median(mine / other for mine, other in pairs)
        with_reasons = statistics.median(
            mine / other for mine, other in zip(found["reasons"], found["lightgbm"], strict=True)
        )
        print(f"rows/s, recorded answers / LightGBM's predict: {ratio:.2f} (1.50 or more is asked)")
        print(f"rows/s, the same with reasons / LightGBM's predict: {with_reasons:.2f}")


def seconds(which: str, folder: Path) -> float:
    """Of one run, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.batch", "--run", which, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **ALONE}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
