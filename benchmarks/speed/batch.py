"""Compare a batch through the service's own code with LightGBM's predict on the same rows, one thread each.

    python -m benchmarks.speed.batch [--rows 300000] [--rounds 3]

Both read the same Parquet file and write a Parquet file. Ours checks each value against the schema, scores, decides
each limit and records every answer on disk; LightGBM only predicts. Prints the ratio of rows a second (goal: at least
1.5).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.speed.common import BOOSTERS, TREES, build_households, run_json, var_dir


def measure_service(folder: Path, source: Path, reasons: bool) -> float:
    """Seconds from the input file to the output file."""
    import asyncio

    from serving import settings
    from serving.core.http.metrics import Metrics
    from serving.core.identifiers import new_id
    from serving.decisions.batch.files.confined import FileReaders
    from serving.decisions.batch.job import BatchJob
    from serving.decisions.batch.request import BatchRequest
    from serving.decisions.products.base import products
    from serving.decisions.service import DecisionService

    paths = {"YUHENG_BUNDLES": "bundles", "YUHENG_PUBLIC_KEY": "keys/signing.pub.pem", "YUHENG_STORE": "store.db"}
    paths |= {
        "YUHENG_SPOOL": ".",
        "YUHENG_LOG_KEY": "keys/log.pem",
        "YUHENG_ENTRY_KEY": "entries.key",
        "YUHENG_CHECKPOINTS": "checkpoints",
    }
    environment = {name: str(folder / path) for name, path in paths.items()}

    async def main() -> float:
        service = DecisionService(settings.load_settings(environ=environment), Metrics())
        service.start()
        try:
            request = BatchRequest(new_id(), "local", "benchmark", None, "", source, "parquet", "parquet", (), reasons)
            model = service.deployed_model(products()["credit_limit"], None)
            readers = FileReaders(folder / "readers")
            readers.prepare()  # as the service does
            job = BatchJob(service, request, model, readers)

            def write_answers() -> float:
                started = time.perf_counter()
                with (folder / "ours.parquet").open("wb") as out:
                    for chunk in job.stream():
                        out.write(chunk)
                return time.perf_counter() - started

            try:
                return await asyncio.to_thread(write_answers)
            finally:
                readers.close()
        finally:
            service.stop()

    return asyncio.run(main())


def measure_lightgbm(folder: Path, source: Path) -> float:
    """Seconds from the input file to the output file."""
    import lightgbm
    import polars as pl

    from models.bundle import load_bundle
    from models.feature_encoder import encode

    card = load_bundle(folder / "bundles/credit_limit/benchmark", folder / "keys/signing.pub.pem").card
    forest = lightgbm.Booster(model_file=str(folder / "forest.txt"))
    started = time.perf_counter()
    frame = pl.read_parquet(source)
    pd = forest.predict(encode(frame, card.inputs), num_threads=1)
    pl.DataFrame({"pd": pd}).write_parquet(folder / "lightgbm.parquet")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=2, metavar=("WHICH", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        variant, name = args.run
        folder = Path(name)
        source = folder / "batch.parquet"
        print(
            json.dumps(
                measure_lightgbm(folder, source)
                if variant == "lightgbm"
                else measure_service(folder, source, variant == "reasons")
            )
        )
        return
    import polars as pl

    with tempfile.TemporaryDirectory(dir=var_dir()) as name:
        folder = Path(name)
        build_households(folder)
        applicants = pl.read_parquet(folder / "applicants.parquet")
        rows = pl.concat([applicants] * (args.rows // applicants.height + 1)).head(args.rows)
        rows.write_parquet(folder / "batch.parquet", row_group_size=50_000)
        print(f"{args.rows:,} rows, {rows.width} columns, {BOOSTERS * TREES} trees, one thread each")
        rates_by_variant: dict[str, list[float]] = {"answers": [], "reasons": [], "lightgbm": []}
        for round_index in range(args.rounds):
            for variant, rates in rates_by_variant.items():
                seconds = run_json("benchmarks.speed.batch", "--run", variant, str(folder), thread_count=1)
                rates.append(args.rows / seconds)
            summary = ", ".join(f"{variant} {rates[-1]:,.0f} rows/s" for variant, rates in rates_by_variant.items())
            print(f"round {round_index + 1}: {summary}")
        pairs = zip(rates_by_variant["answers"], rates_by_variant["lightgbm"], strict=True)
        ratio = statistics.median(own_rate / lightgbm_rate for own_rate, lightgbm_rate in pairs)
        ratio_with_reasons = statistics.median(
            own_rate / lightgbm_rate
            for own_rate, lightgbm_rate in zip(rates_by_variant["reasons"], rates_by_variant["lightgbm"], strict=True)
        )
        print(f"rows/s, recorded answers / LightGBM's predict: {ratio:.2f} (goal: at least 1.50)")
        print(f"rows/s, the same with reasons / LightGBM's predict: {ratio_with_reasons:.2f}")


if __name__ == "__main__":
    main()
