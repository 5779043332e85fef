"""Compare a batch of stored subjects with the same rows sent inline, in rows a second on SQLite.

    python -m benchmarks.speed.stored [--subjects 20000] [--rounds 3]

Both run through the service's own code from the input file to the output file: rows are read, checked, scored, decided
and recorded on disk. Stored subjects are also looked up, authorised, decrypted, and authorised again when they are
recorded: first under one authorisation for all, then with a personal one of each household as well.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import polars as pl
import sqlalchemy as sa

from benchmarks.speed.common import build_households, var_dir
from datasets.credit_limit.county import reader, schema
from serving import settings
from serving.core.db.schema import GRANTS
from serving.core.http.metrics import Metrics
from serving.core.http.principal import LOCAL_PRINCIPAL
from serving.core.identifiers import new_id, utc_now
from serving.decisions.batch.files.confined import FileReaders
from serving.decisions.batch.job import BatchJob
from serving.decisions.batch.request import BatchRequest
from serving.decisions.products.base import products
from serving.decisions.service import DecisionService
from serving.privacy.consent.rules import load_rules
from serving.privacy.subjects.ingestion import load_subjects


def build_grants(subjects: list[str | None]) -> list[dict[str, object]]:
    common = {
        "tenant": LOCAL_PRINCIPAL.tenant,
        "purpose": "credit_limit",
        "groups": load_rules().groups("credit_limit"),
        "by": "b",
        "valid_from": "2000",
        "valid_to": "2999",
        "document_sha256": "0" * 64,
        "grantor": "g",
    }
    kinds = ["government" if subject is None else "personal" for subject in subjects]
    return [
        common | {"created": utc_now(), "id": f"{n:032x}", "kind": kind, "subject": subject}
        for n, (kind, subject) in enumerate(zip(kinds, subjects, strict=True))
    ]


async def measure(folder: Path, args: argparse.Namespace) -> None:
    paths = {"STORE": "store.db", "SPOOL": ".", "LOG_KEY": "log.pem", "CHECKPOINTS": "log", "VAULT_KEY": "vault.key"}
    environ = {f"YUHENG_{name}": str(folder / path) for name, path in paths.items()}
    environ |= {"YUHENG_BUNDLES": str(folder / "bundles"), "YUHENG_PUBLIC_KEY": str(folder / "keys/signing.pub.pem")}
    service = DecisionService(settings.load_settings(environ=environ), Metrics())
    service.start()
    model = service.deployed_model(products()["credit_limit"], None)
    households = reader.sample(args.subjects, 7).drop("as_of")
    source_file = folder / "subjects.parquet"
    households.write_parquet(source_file)
    started = time.perf_counter()
    load_subjects(source_file, schema.TABLE, service.settings.store_location, 5.0, service.store.vault)
    print(f"{args.subjects:,} subjects loaded in {time.perf_counter() - started:.1f} s")
    ids, field_names = (
        households["household_id"],
        [column.name for column in model.fields if column.name in households.columns],
    )
    pseudonyms = [service.store.vault.pseudonym("credit_limit", household_id) for household_id in ids]
    files = {"inline": households.select(field_names), "stored": pl.DataFrame({"subject_id": ids})}
    for name, frame in files.items():
        frame.write_parquet(folder / f"{name}.parquet")

    def run(name: str) -> float:
        source = folder / f"{name}.parquet"
        order = BatchRequest(
            new_id(), LOCAL_PRINCIPAL.tenant, "benchmark", None, "", source, "parquet", "parquet", (), False
        )
        readers = FileReaders(folder / "readers")
        readers.prepare()  # as the service does
        job = BatchJob(service, order, model, readers)
        started = time.perf_counter()
        with (folder / "answer.parquet").open("wb") as out:
            out.writelines(job.stream())
        seconds = time.perf_counter() - started
        readers.close()
        assert job.recorder.faulty_rows == 0, job.recorder.faults[:3]
        return job.recorder.rows / seconds

    for label, entries in (
        ("one authorisation", build_grants([None])),
        ("and one for each", build_grants([None, *pseudonyms])[1:]),
    ):
        with service.store.engine.begin() as connection:
            connection.execute(sa.insert(GRANTS), entries)
        speeds: dict[str, list[float]] = {"inline": [], "stored": []}
        for _ in range(args.rounds):
            for name, rates in speeds.items():
                rates.append(await asyncio.to_thread(run, name))
        inline, stored = (statistics.median(rates) for rates in speeds.values())
        chunk_rows = service.settings.batch.chunk_subjects
        print(
            f"{label:>17}: inline {inline:,.0f} rows/s, stored {stored:,.0f} rows/s, {inline / stored:.1f} times; "
            f"a chunk of {chunk_rows:,} takes {chunk_rows / stored:.2f} s"
        )
    service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=var_dir()) as folder:
        build_households(Path(folder))
        asyncio.run(measure(Path(folder), args))


if __name__ == "__main__":
    main()
