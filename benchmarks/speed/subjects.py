"""Compare reading a subject's encrypted indicators under active grants with reading one row of plain JSON.

    python -m benchmarks.speed.subjects [--households 2000]

Prints for each encryption profile: rows a second of loading, microseconds of one read (grants checked, eight groups
decrypted; goal: under 1,000 at the 99th percentile), and the ratio to a row of the same JSON in plain, read by its key.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson
import sqlalchemy as sa

from datasets.credit_limit.county import reader as county_reader
from datasets.credit_limit.county import schema
from serving.core.db.engine import open_store
from serving.core.db.reader import StoreReader
from serving.core.db.schema import GRANTS, INDICATORS
from serving.core.identifiers import utc_now
from serving.privacy.consent.rules import active_grants, evaluate_consent, load_rules
from serving.privacy.subjects.indicators import columns_by_group, latest_as_of
from serving.privacy.subjects.ingestion import load_subjects
from serving.privacy.subjects.vault import Vault

READS = 3_000
MONTHS = 12  # of history for each subject


def measure(profile: str, households: int, folder: Path) -> None:
    """Measure one encryption profile on SQLite, in one thread."""
    store_path, vault, consent_rules = folder / f"{profile}.db", Vault(b"k" * 32, profile), load_rules()  # type: ignore[arg-type]
    households_frame = county_reader.sample(households, 7)
    file = folder / "simulated.parquet"
    households_frame.drop("as_of").write_parquet(file)
    started = time.perf_counter()
    for month in range(1, MONTHS + 1):
        load_subjects(file, schema.TABLE, store_path, 5.0, vault, "credit_limit", f"2025-{month:02d}")
    load_seconds = time.perf_counter() - started
    engine = open_store(store_path, 5.0)
    plain_table = sa.Table(
        "plain", sa.MetaData(), sa.Column("id", sa.String, primary_key=True), sa.Column("body", sa.LargeBinary)
    )
    plain_table.create(engine)
    ids = households_frame["household_id"].to_list()
    names = [column.name for column in schema.TABLE.columns if column.role in ("indicator", "audit")]
    rows = [orjson.dumps(row) for row in households_frame.select(names).iter_rows(named=True)]
    common = {
        "tenant": "bank",
        "purpose": "credit_limit",
        "valid_from": "2000",
        "valid_to": "2999",
        "by": "b",
        "document_sha256": "0" * 64,
        "created": utc_now(),
        "grantor": "g",
    }
    groups = sorted(columns_by_group(schema.TABLE))
    with engine.begin() as connection:
        connection.execute(
            sa.insert(plain_table), [{"id": subject_id, "body": row} for subject_id, row in zip(ids, rows, strict=True)]
        )
        grant_specs = [
            {"kind": kind, "subject": None if kind == "government" else vault.pseudonym("credit_limit", subject_id)}
            for kind in ("government",)
            for subject_id in ids[:1]
        ]
        grant_specs += [
            {"kind": "personal", "subject": vault.pseudonym("credit_limit", subject_id)} for subject_id in ids
        ]
        entries = [
            common | subject_id | {"id": f"{n:032x}", "groups": groups} for n, subject_id in enumerate(grant_specs)
        ]
        connection.execute(sa.insert(GRANTS), entries)
        size = connection.execute(sa.select(sa.func.count()).select_from(INDICATORS)).scalar()
    reader, sampled = StoreReader(engine), np.random.default_rng(7).integers(0, households, READS)
    plain_query = sa.select(plain_table.c.body).where(plain_table.c.id == sa.bindparam("id"))

    def read_encrypted(subject: str) -> None:
        pseudonym, timestamp = vault.pseudonym("credit_limit", subject), utc_now()
        grants = reader.run(lambda connection: active_grants(connection, "bank", "credit_limit", pseudonym, timestamp))
        consent_decision = evaluate_consent(consent_rules, "credit_limit", groups, grants)
        indicators = reader.run(
            lambda connection: latest_as_of(
                connection, vault, pseudonym, consent_decision.allowed_groups, timestamp[:10]
            )
        )
        assert indicators is not None
        assert len(consent_decision.allowed_groups) == len(groups)

    def read_plain(subject: str) -> None:
        reader.run(lambda connection: orjson.loads(connection.execute(plain_query, {"id": subject}).scalar() or b""))

    percentiles = {}
    for name, fn in (
        ("plain", read_plain),
        ("encrypted", read_encrypted),
        ("plain", read_plain),
        ("encrypted", read_encrypted),
    ):  # the second of each counts
        times = []
        for index in sampled:
            started = time.perf_counter()
            fn(ids[index])
            times.append(time.perf_counter() - started)
        percentiles[name] = 1e6 * np.percentile(times, [50, 99])
    (encrypted_p50, encrypted_p99), (plain_p50, _) = percentiles["encrypted"], percentiles["plain"]
    print(
        f"{profile:>4}  load {households * MONTHS / load_seconds:>8,.0f} rows/s ({size:,} encrypted groups)   "
        f"read {encrypted_p50:6.0f} us, 99 % under {encrypted_p99:6.0f}   "
        f"ratio to plain {encrypted_p50 / plain_p50:4.1f}"
    )
    engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--households", type=int, default=2_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for profile in ("aes", "sm"):
            measure(profile, args.households, Path(folder))


if __name__ == "__main__":
    main()
