"""Measure what the audit log costs: decisions with their whole transaction, receipts, an audit of a million entries.

    python -m benchmarks.speed.trust [--rounds 5] [--leaves 1000000] [--receipts 100000]

Goals: a decision takes at most 1.4 times one that only stores its row (same request, same process, SQLite synced at
each commit; 16 callers at once, as many as share a commit, and one alone); 100,000 receipts are verified in 10 s; an
audit of a million entries with their decisions and meter lines takes 60 s, and grows linearly.
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
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa

from benchmarks.speed.common import TELEMETRY_OFF, build_households

if TYPE_CHECKING:
    from serving.decisions.service import DecisionService

CONCURRENT_CALLERS = 16


def measure_decisions(folder: Path, rounds: int) -> None:
    """Measure in this process, because HTTP would only lower the ratio; in turns, so that other load affects both
    alike.
    """
    os.environ.update(TELEMETRY_OFF)
    body = json.dumps({"indicators": build_households(folder), "raises": False}).encode()
    times_by_callers = asyncio.run(_measure_in_turns(folder, body, rounds * 60))
    for callers, (row_only, full_transaction) in times_by_callers.items():
        ratios = [full_time / row_time for row_time, full_time in zip(row_only, full_transaction, strict=True)]
        medians = [statistics.median(times) / callers * 1e6 for times in (row_only, full_transaction)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{callers:>2} callers: row alone {medians[0]:,.0f} us a decision, whole transaction {medians[1]:,.0f} us; "
            "ratio "
            f"of medians {medians[1] / medians[0]:.2f}, median ratio {middle:.2f} (quartiles {low:.2f}-{high:.2f}); "
            "goal 1.4"
        )


async def _measure_in_turns(folder: Path, body: bytes, turns: int) -> dict[int, tuple[list[float], list[float]]]:
    """Concurrent callers -> seconds of each turn, with the row alone and with the whole transaction."""
    from serving.decisions.products.base import products

    product = products()["credit_limit"]
    services = _start_runtime(folder / "alone", True), _start_runtime(folder / "whole", False)
    times_by_callers: dict[int, tuple[list[float], list[float]]] = {
        callers: ([], []) for callers in (CONCURRENT_CALLERS, 1)
    }
    for callers, durations_pair in times_by_callers.items():
        for turn_index in range(turns + 5):
            for service, durations in zip(services, durations_pair, strict=True):
                started = time.perf_counter()
                await asyncio.gather(*(service.decide(product, body, None) for _ in range(callers)))
                if turn_index >= 5:
                    durations.append(time.perf_counter() - started)
    for service in services:
        service.stop()
        assert service._background_tasks is not None
        with suppress(asyncio.CancelledError):
            await service._background_tasks
    return times_by_callers


def _start_runtime(directory: Path, row_only: bool) -> DecisionService:
    from serving.core.db.schema import DECISIONS
    from serving.core.db.writer import Applied
    from serving.core.http.metrics import Metrics
    from serving.decisions.service import DecisionService
    from serving.settings import load_settings

    environ = {
        **{"YUHENG_BUNDLES": str(directory.parent / "bundles"), "YUHENG_SPOOL": str(directory / "spool")},
        **{
            "YUHENG_PUBLIC_KEY": str(directory.parent / "keys/signing.pub.pem"),
            "YUHENG_STORE": str(directory / "store.db"),
        },
        **{"YUHENG_LOG_KEY": str(directory / "log.pem"), "YUHENG_ENTRY_KEY": str(directory / "entries.key")},
        **{"YUHENG_CHECKPOINTS": str(directory / "checkpoints")},
    }
    service = DecisionService(load_settings(environ=environ), Metrics())
    if row_only:
        insert = sa.insert(DECISIONS)

        def write(connection: sa.Connection, records: Sequence[Any]) -> Applied[Any]:
            connection.execute(insert, [{**record.row, "leaf": 0} for record in records])
            return Applied([None] * len(records), lambda: None)

        service.store._apply = write  # the baseline has no public seam
    service.start()
    return service


def fill_store(folder: Path, count: int) -> sa.Engine:
    """A store of `count` decisions of 3 kB, each with its log entry and meter line, written as the service does."""
    from serving.core.audit import entries as log_entries
    from serving.core.audit import log
    from serving.core.audit.authenticator import attach, load_authenticator
    from serving.core.audit.provenance import Provenance, store_provenance
    from serving.core.audit.verify import canonical_json
    from serving.core.billing.prices import Price
    from serving.core.db.engine import open_store
    from serving.core.db.schema import DECISIONS, METER
    from serving.core.db.tables.decisions import UnloggedDecisionRow
    from serving.core.identifiers import utc_now

    engine = open_store(folder / "store.db", 5.0)
    attach(engine, load_authenticator(folder / "entries.key", "benchmark/log"))
    price, answer = Price("2026-11", "set", 100), os.urandom(1_500).hex().encode()
    common_fields: dict[str, Any] = {
        "scope": "s",
        "idempotency_key": None,
        "request_sha256": "0" * 64,
        "tenant": "t",
        "subject": None,
        "by": "bank",
    }
    common_fields |= {"model": "m", "version": "1", "bundle": "b" * 64, "policy": "p"}
    body = canonical_json({"model": "m", "bundle": "b" * 64, "git_commit": "c" * 40, "run_id": "r" * 32, "data": []})
    provenance = Provenance(hashlib.sha256(body).hexdigest(), "b" * 64, body)
    with engine.begin() as connection:
        store_provenance(connection, [provenance])
    for first_index in range(0, count, 20_000):
        rows, entries, charges = [], [], []
        for i in range(first_index, min(first_index + 20_000, count)):
            timestamp = utc_now()
            row = common_fields | {
                "id": f"{i:032x}",
                "created": timestamp,
                "answer": answer,
                "salt": log_entries.new_salt(),
            }
            rows.append(row)
            entries.append(
                log_entries.decision_entry(
                    cast(UnloggedDecisionRow, row),
                    "credit_limit",
                    {"n": i},
                    provenance.sha256,
                    price,
                    (),
                    {"indicators": {"n": i}},
                )
            )
            charges.append(price.charge(row["id"], "t", "credit_limit", timestamp))
        with engine.begin() as connection:
            start = log.append(connection, entries)
            connection.execute(sa.insert(DECISIONS), [row | {"leaf": start + i} for i, row in enumerate(rows)])
            connection.execute(sa.insert(METER), [row | {"leaf": start + i} for i, row in enumerate(charges)])
    return engine


def measure_audits(folder: Path, count: int) -> None:
    from serving.core.audit.auditor.auditor import audit_store
    from serving.core.audit.authenticator import load_authenticator
    from serving.core.audit.checkpoints import CheckpointSigner
    from serving.core.audit.verify import load_public_key

    seconds_by_size = {}
    for size in (count // 10, count):
        directory = folder / str(size)
        directory.mkdir()
        engine = fill_store(directory, size)
        signer = CheckpointSigner(engine, directory / "log.pem", directory / "checkpoints", "benchmark/log")
        started = time.perf_counter()
        signer.checkpoint()
        print(f"checkpoint over {size:,} new entries: {time.perf_counter() - started:.2f} s")
        key = load_public_key((directory / "log.pub.pem").read_bytes())
        started = time.perf_counter()
        authenticator = load_authenticator(directory / "entries.key", "benchmark/log")
        report = audit_store(engine, key, directory / "checkpoints", authenticator)
        seconds_by_size[size] = time.perf_counter() - started
        engine.dispose()
        assert not report.finding_count, report.findings[:3]
        print(f"audit of {report.leaves:,} entries, their decisions and meter lines: {seconds_by_size[size]:.1f} s")
    small_seconds, large_seconds = seconds_by_size.values()
    print(f"ten times the entries, {large_seconds / small_seconds:.1f} times the time; goal 60 s for 1,000,000")


def measure_receipts(folder: Path, count: int) -> None:
    """Create receipts from the largest store, then verify them with the public key alone."""
    from serving.core.audit.authenticator import attach, load_authenticator
    from serving.core.audit.checkpoints import CheckpointSigner
    from serving.core.audit.receipts import for_entry
    from serving.core.audit.verify import ReceiptVerifier, canonical_json, load_public_key, parse_receipt
    from serving.core.db.engine import create_engine

    directory = max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    engine = create_engine(f"sqlite:///{directory / 'store.db'}", 5.0)
    attach(engine, load_authenticator(directory / "entries.key", "benchmark/log"))
    signer = CheckpointSigner(engine, directory / "log.pem", directory / "checkpoints", "benchmark/log")
    receipt_count = min(2_000, count)
    started = time.perf_counter()
    contents = [canonical_json(for_entry(engine, signer.checkpoint, 1 + i * 7)) for i in range(receipt_count)]
    seconds_each = (time.perf_counter() - started) / receipt_count
    engine.dispose()
    verifier = ReceiptVerifier(load_public_key((directory / "log.pub.pem").read_bytes()))
    started = time.perf_counter()
    for i in range(count):
        verifier.verify(parse_receipt(contents[i % receipt_count]))
    seconds = time.perf_counter() - started
    print(
        f"receipts: {seconds_each * 1e3:.2f} ms to create one; {count:,} verified in {seconds:.1f} s; goal 10 s for "
        "100,000"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--receipts", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "decisions").mkdir()
        measure_decisions(Path(scratch) / "decisions", args.rounds)
        measure_audits(Path(scratch), args.leaves)
        measure_receipts(Path(scratch), args.receipts)
