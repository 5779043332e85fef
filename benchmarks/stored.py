"""A batch of stored subjects beside the same rows sent inline: rows a second, on SQLite.

    python -m benchmarks.stored [--subjects 20000] [--rounds 3]

Both go through the service's own code, from the file that came to the file that goes: read, checked, scored, decided,
recorded on disk. The stored ones are looked up, authorised, unsealed, and authorised again as they are recorded: under
one authorisation for all, then with a personal one of each household beside it.
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

from benchmarks.serving import build, var
from datasets.credit_limit.county import schema
from serving import settings
from serving.core.db.schema import GRANTS
from serving.core.http.metrics import Metrics
from serving.core.http.principal import OPEN
from serving.core.identifiers import new_id, now
from serving.decisions.batch.job import Order, Run
from serving.decisions.batch.subjects import Subjects
from serving.decisions.products.base import products
from serving.decisions.service import DecisionService
from serving.privacy.consent.rules import rules
from serving.privacy.subjects.ingestion import load_subjects


def grants(subjects: list[str | None]) -> list[dict[str, object]]:
    told = {"tenant": OPEN.tenant, "purpose": "credit_limit", "groups": rules().groups("credit_limit"), "by": "b",
            "valid_from": "2000", "valid_to": "2999", "document_sha256": "0" * 64, "grantor": "g"}  # fmt: skip
    kinds = ["government" if one is None else "personal" for one in subjects]
    return [
        told | {"created": now(), "id": f"{n:032x}", "kind": kind, "subject": one}
        for n, (kind, one) in enumerate(zip(kinds, subjects, strict=True))
    ]


async def measure(folder: Path, asked: argparse.Namespace) -> None:
    paths = {"STORE": "store.db", "SPOOL": ".", "LOG_KEY": "log.pem", "CHECKPOINTS": "log", "VAULT_KEY": "vault.key"}
    environ = {f"YUHENG_{name}": str(folder / path) for name, path in paths.items()}
    environ |= {"YUHENG_BUNDLES": str(folder / "bundles"), "YUHENG_PUBLIC_KEY": str(folder / "keys/signing.pub.pem")}
    service = DecisionService(settings.read(environ=environ), Metrics())
    service.start()
    held = service.held(products()["credit_limit"], None)
    people = schema.sample(asked.subjects, 7).drop("as_of")
    whole = folder / "whole.parquet"
    people.write_parquet(whole)
    began = time.perf_counter()
    load_subjects(whole, schema.TABLE, service.settings.store_place, 5.0, service.vault)
    print(f"{asked.subjects:,} subjects loaded in {time.perf_counter() - began:.1f} s")
    ids, known = people["household_id"], [column.name for column in held.fields if column.name in people.columns]
    own = [service.vault.pseudonym("credit_limit", one) for one in ids]
    files = {"inline": people.select(known), "stored": pl.DataFrame({"subject_id": ids})}
    for name, frame in files.items():
        frame.write_parquet(folder / f"{name}.parquet")

    def run(name: str) -> float:
        order = Order(new_id(), OPEN.tenant, "benchmark", None, "", folder / f"{name}.parquet", "parquet", "parquet",
                      (), False)  # fmt: skip
        one = Run(order, held, service.settings, service.store.writer, service.metrics, service.prices,
                  subjects=Subjects(service.store.reader, service.vault, service.rules, held, OPEN.tenant))  # fmt: skip
        began = time.perf_counter()
        with (folder / "answer.parquet").open("wb") as out:
            out.writelines(one.parts())
        took = time.perf_counter() - began
        assert one.faulty == 0, one.faults[:3]
        return one.rows / took

    for whose, entries in (("one authorisation", grants([None])), ("and one of each", grants([None, *own])[1:])):
        with service.store.engine.begin() as connection:
            connection.execute(sa.insert(GRANTS), entries)
        speeds: dict[str, list[float]] = {"inline": [], "stored": []}
        for _ in range(asked.rounds):
            for name, found in speeds.items():
                found.append(await asyncio.to_thread(run, name))
        inline, stored = (statistics.median(found) for found in speeds.values())
        together = service.settings.batch.chunk_subjects
        print(f"{whose:>17}: inline {inline:,.0f} rows/s, stored {stored:,.0f} rows/s, {inline / stored:.1f} times; "
              f"a piece of {together:,} takes {together / stored:.2f} s")  # fmt: skip
    service.stop()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--subjects", type=int, default=20_000)
    words.add_argument("--rounds", type=int, default=3)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(dir=var()) as folder:
        build(Path(folder))
        asyncio.run(measure(Path(folder), asked))


if __name__ == "__main__":
    main()
