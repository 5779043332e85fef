"""A subject's indicators read from the store under live grants, beside the same read of one row in plain.

    python -m benchmarks.subjects [--households 2000]

Prints for each profile of encryption: seconds to load, microseconds of one read (grants asked, eight groups opened;
under 1,000 are asked at the 99th percentile), and the ratio to a row of the same JSON in plain, read by its key.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson
import sqlalchemy as sa

from datasets.credit_limit.county import schema
from serving.core.db.engine import open_store
from serving.core.db.reader import Reader
from serving.core.db.schema import GRANTS, INDICATORS
from serving.core.identifiers import now
from serving.privacy.consent.rules import live, opened, rules
from serving.privacy.subjects.indicators import groups_of, newest
from serving.privacy.subjects.ingestion import load_subjects
from serving.privacy.subjects.vault import Vault

READS = 3_000
MONTHS = 12  # of history for each subject


def measure(profile: str, households: int, folder: Path) -> None:
    """On SQLite, in one thread."""
    place, vault, told = folder / f"{profile}.db", Vault(b"k" * 32, profile), rules()  # type: ignore[arg-type]
    people = schema.sample(households, 7)
    file = folder / "simulated.parquet"
    people.drop("as_of").write_parquet(file)
    began = time.perf_counter()
    for month in range(1, MONTHS + 1):
        load_subjects(file, schema.TABLE, place, 5.0, vault, "credit_limit", f"2025-{month:02d}")
    loaded = time.perf_counter() - began
    engine = open_store(place, 5.0)
    plain = sa.Table(
        "plain", sa.MetaData(), sa.Column("id", sa.String, primary_key=True), sa.Column("told", sa.LargeBinary)
    )
    plain.create(engine)
    ids = people["household_id"].to_list()
    names = [column.name for column in schema.TABLE.columns if column.role in ("indicator", "audit")]
    rows = [orjson.dumps(row) for row in people.select(names).iter_rows(named=True)]
    stated = {"tenant": "bank", "purpose": "credit_limit", "valid_from": "2000", "valid_to": "2999", "by": "b",
              "document_sha256": "0" * 64, "created": now(), "grantor": "g"}  # fmt: skip
    groups = sorted(groups_of(schema.TABLE))
    with engine.begin() as connection:
        connection.execute(sa.insert(plain), [{"id": one, "told": row} for one, row in zip(ids, rows, strict=True)])
        granted = [{"kind": kind, "subject": None if kind == "government" else vault.pseudonym("credit_limit", one)}
                   for kind in ("government",) for one in ids[:1]]  # fmt: skip
        granted += [{"kind": "personal", "subject": vault.pseudonym("credit_limit", one)} for one in ids]
        entries = [stated | one | {"id": f"{n:032x}", "groups": groups} for n, one in enumerate(granted)]
        connection.execute(sa.insert(GRANTS), entries)
        size = connection.execute(sa.select(sa.func.count()).select_from(INDICATORS)).scalar()
    reader, drawn = Reader(engine), np.random.default_rng(7).integers(0, households, READS)
    bare = sa.select(plain.c.told).where(plain.c.id == sa.bindparam("id"))

    def sealed(subject: str) -> None:
        pseudonym, stamp = vault.pseudonym("credit_limit", subject), now()
        grants = reader.ask(lambda connection: live(connection, "bank", "credit_limit", pseudonym, stamp))
        may = opened(told, "credit_limit", groups, grants)
        found = reader.ask(lambda connection: newest(connection, vault, pseudonym, may.groups, stamp[:10]))
        assert found is not None
        assert len(may.groups) == len(groups)

    def unsealed(subject: str) -> None:
        reader.ask(lambda connection: orjson.loads(connection.execute(bare, {"id": subject}).scalar() or b""))

    took = {}
    for name, do in (
        ("plain", unsealed),
        ("sealed", sealed),
        ("plain", unsealed),
        ("sealed", sealed),
    ):  # the 2nd counts
        times = []
        for at in drawn:
            began = time.perf_counter()
            do(ids[at])
            times.append(time.perf_counter() - began)
        took[name] = 1e6 * np.percentile(times, [50, 99])
    (middle, late), (bare_middle, _) = took["sealed"], took["plain"]
    print(f"{profile:>4}  load {households * MONTHS / loaded:>8,.0f} rows/s ({size:,} sealed groups)   "
          f"read {middle:6.0f} us, 99 % under {late:6.0f}   ratio to plain {middle / bare_middle:4.1f}")  # fmt: skip
    engine.dispose()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--households", type=int, default=2_000)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for profile in ("aes", "sm"):
            measure(profile, asked.households, Path(folder))


if __name__ == "__main__":
    main()
