"""What proof costs: a decision with its whole transaction, receipts verified, a log of a million leaves audited.

    python -m benchmarks.trust [--rounds 5] [--leaves 1000000] [--receipts 100000]

Asked: a decision at most 1.4 times one that leaves its row alone (same request, same process, SQLite synced at each
commit; 16 callers at once, as many as share a commit, and one alone); 100,000 receipts under 10 s; the audit of a
million leaves with their decisions and meter lines under 60 s, and linear.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from benchmarks.serving import QUIET, build

if TYPE_CHECKING:
    from serving.decisions.service import DecisionService

CALLERS = 16


def decisions(folder: Path, rounds: int) -> None:
    """Decided in this process, without HTTP, which would only make the ratio smaller. By turns, so that what else the
    machine does falls on both alike."""
    os.environ.update(QUIET)
    body = json.dumps({"indicators": build(folder), "raises": False}).encode()
    found = asyncio.run(_by_turns(folder, body, rounds * 60))
    for callers, (alone, whole) in found.items():
        ratios = [b / a for a, b in zip(alone, whole, strict=True)]
        told = [statistics.median(times) / callers * 1e6 for times in (alone, whole)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{callers:>2} callers: row alone {told[0]:,.0f} us a decision, whole transaction {told[1]:,.0f} us; ratio "
            f"of medians {told[1] / told[0]:.2f}, median ratio {middle:.2f} (quartiles {low:.2f}-{high:.2f}); asked 1.4"
        )


async def _by_turns(folder: Path, body: bytes, turns: int) -> dict[int, tuple[list[float], list[float]]]:
    """Callers at once -> seconds of each turn, with the row alone and with the whole transaction."""
    from serving.decisions.products.base import products

    product = products()["credit_limit"]
    runtimes = _runtime(folder / "alone", True), _runtime(folder / "whole", False)
    found: dict[int, tuple[list[float], list[float]]] = {callers: ([], []) for callers in (CALLERS, 1)}
    for callers, times in found.items():
        for turn in range(turns + 5):
            for service, kept in zip(runtimes, times, strict=True):
                began = time.perf_counter()
                await asyncio.gather(*(service.answer(product, body, None) for _ in range(callers)))
                if turn >= 5:
                    kept.append(time.perf_counter() - began)
    for service in runtimes:
        service.stop()
        assert service._watching is not None
        await asyncio.wait([service._watching])
    return found


def _runtime(place: Path, alone: bool) -> DecisionService:
    from serving.core.db.schema import DECISIONS
    from serving.core.db.writer import Applied
    from serving.core.http.metrics import Metrics
    from serving.decisions.service import DecisionService
    from serving.settings import read

    environ = {
        **{"YUHENG_BUNDLES": str(place.parent / "bundles"), "YUHENG_SPOOL": str(place / "spool")},
        **{"YUHENG_PUBLIC_KEY": str(place.parent / "keys/signing.pub.pem"), "YUHENG_STORE": str(place / "store.db")},
        **{"YUHENG_LOG_KEY": str(place / "log.pem"), "YUHENG_CHECKPOINTS": str(place / "checkpoints")},
    }
    service = DecisionService(read(environ=environ), Metrics())
    if alone:
        insert = sa.insert(DECISIONS)

        def write(connection: sa.Connection, records: Sequence[Any]) -> Applied[Any]:
            connection.execute(insert, [record.row for record in records])
            return Applied([None] * len(records), lambda: None)

        service.store._apply = write  # the side that it is measured against has no public seam
    service.start()
    return service


def fill(folder: Path, count: int) -> sa.Engine:
    """A store of `count` decisions of 3 kB, each with its leaf and its meter line, written as the service does."""
    from serving.core.audit import entries as leaves
    from serving.core.audit import log
    from serving.core.audit.provenance import Lineage, keep_lineages
    from serving.core.audit.verify import canonical
    from serving.core.billing.prices import Price
    from serving.core.db.engine import open_store
    from serving.core.db.schema import DECISIONS, METER

    engine = open_store(folder / "store.db", 5.0)
    price, answer = Price("2026-11", "set", 100), os.urandom(1_500).hex().encode()
    common: dict[str, Any] = {
        "scope": "s",
        "idempotency_key": None,
        "request_sha256": "0" * 64,
        "tenant": "t",
        "subject": None,
    }
    common |= {"model": "m", "version": "1", "bundle": "b" * 64, "policy": "p"}
    body = canonical({"model": "m", "bundle": "b" * 64, "git_commit": "c" * 40, "run_id": "r" * 32, "data": []})
    made_from = Lineage(hashlib.sha256(body).hexdigest(), "b" * 64, body)
    with engine.begin() as connection:
        keep_lineages(connection, [made_from])
    for first in range(0, count, 20_000):
        rows, entries, charges = [], [], []
        for i in range(first, min(first + 20_000, count)):
            at = f"2026-11-{i % 28 + 1:02d}T00:00:00.000Z"
            row = common | {"id": f"{i:032x}", "created": at, "answer": answer, "salt": leaves.new_salt()}
            rows.append(row)
            entries.append(leaves.decision(row, "credit_limit", {"n": i}, made_from.sha256, price, ()))
            charges.append(price.charge(row["id"], "t", "credit_limit", at))
        with engine.begin() as connection:
            start = log.append(connection, entries)
            connection.execute(sa.insert(DECISIONS), [row | {"leaf": start + i} for i, row in enumerate(rows)])
            connection.execute(sa.insert(METER), [row | {"leaf": start + i} for i, row in enumerate(charges)])
    return engine


def audits(folder: Path, count: int) -> None:
    from serving.core.audit.auditor.auditor import audit
    from serving.core.audit.checkpoints import Notary
    from serving.core.audit.verify import read_key

    taken = {}
    for size in (count // 10, count):
        place = folder / str(size)
        place.mkdir()
        engine = fill(place, size)
        notary = Notary(engine, place / "log.pem", place / "checkpoints", "benchmark/log")
        began = time.perf_counter()
        notary.note()
        print(f"checkpoint over {size:,} new leaves: {time.perf_counter() - began:.2f} s")
        key = read_key((place / "log.pub.pem").read_bytes())
        began = time.perf_counter()
        report = audit(engine, key, place / "checkpoints")
        taken[size] = time.perf_counter() - began
        engine.dispose()
        assert not report.found, report.findings[:3]
        print(f"audit of {report.leaves:,} leaves, their decisions and meter lines: {taken[size]:.1f} s")
    small, large = taken.values()
    print(f"ten times the leaves, {large / small:.1f} times the time; asked 60 s for 1,000,000 leaves")


def receipts(folder: Path, count: int) -> None:
    """Of a log of a million leaves or fewer: made from the store, then verified with the public key alone."""
    from serving.core.audit.checkpoints import Notary
    from serving.core.audit.receipts import of_leaf
    from serving.core.audit.verify import Verifier, canonical, read_key, read_receipt
    from serving.core.db.engine import connect

    place = max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    engine = connect(f"sqlite:///{place / 'store.db'}", 5.0)
    notary = Notary(engine, place / "log.pem", place / "checkpoints", "benchmark/log")
    made = min(2_000, count)
    began = time.perf_counter()
    contents = [canonical(of_leaf(engine, notary.note, 1 + i * 7)) for i in range(made)]
    each = (time.perf_counter() - began) / made
    engine.dispose()
    verifier = Verifier(read_key((place / "log.pub.pem").read_bytes()))
    began = time.perf_counter()
    for i in range(count):
        verifier.verify(read_receipt(contents[i % made]))
    seconds = time.perf_counter() - began
    print(f"receipts: {each * 1e3:.2f} ms to make one; {count:,} verified in {seconds:.1f} s; asked 10 s for 100,000")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--receipts", type=int, default=100_000)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "decisions").mkdir()
        decisions(Path(scratch) / "decisions", told.rounds)
        audits(Path(scratch), told.leaves)
        receipts(Path(scratch), told.receipts)
