"""What the models are asked, counted: how many values fell into each bin of the card, by tenant. No value is kept.

A row waits in memory as the list that its check had made anyway, and is counted with a few hundred others: 3 us a row
(benchmarks/effects.py). Each minute the counts go into the store; a process that is killed loses its last minute's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import sqlalchemy as sa

from models.drift import Counter, flat, of_card
from models.feature_encoder import encode
from serving.core.db.engine import StoreUnavailable
from serving.core.db.schema import INPUT_COUNTS
from serving.core.db.store import Store
from serving.decisions.products.base import Held

log = logging.getLogger("yuheng.counts")

TOGETHER = 200  # rows counted at once: half a millisecond of the event loop
MOST = 1_000  # pairs of bundle and tenant between two flushes; what comes beyond is not counted
SAMPLE = 1_000  # rows of a batch's piece, evenly spaced
EVERY = 60.0  # s


@dataclass
class Bucket:
    """Of one bundle and tenant, since the last flush."""

    held: Held
    counter: Counter | None  # None: the card has no bins
    said: Tally[str] = field(default_factory=Tally)
    counts: np.ndarray | None = None
    rows: list[list[float]] = field(default_factory=list)
    pds: list[float] = field(default_factory=list)

    def fold(self) -> None:
        if self.rows and self.counter is not None:
            x = np.array(self.rows, np.float32)[:, self.held.inputs]
            self.add(flat(self.counter.count(x, np.array(self.pds))))
        self.rows, self.pds = [], []

    def add(self, counts: np.ndarray) -> None:
        self.counts = counts if self.counts is None else self.counts + counts


class Counts:
    """In the event loop that serves."""

    def __init__(self, store: Store):
        self.store = store
        self.failing: str | None = None
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def one(self, held: Held, tenant: str, row: list[float], said: Mapping[str, object]) -> None:
        """An answer that is on the disk. row: as `held.check` made it."""
        bucket = self._buckets.get((held.digest, tenant)) or self._bucket(held, tenant)
        if bucket is None:
            return
        bucket.said[said["decision"]] += 1  # type: ignore[index]
        if bucket.counter is not None:
            bucket.rows.append(row)
            bucket.pds.append(said["pd"])  # type: ignore[arg-type]
            if len(bucket.rows) >= TOGETHER:
                bucket.fold()

    def many(self, held: Held, tenant: str, rows: pl.DataFrame, answers: pl.DataFrame) -> None:
        """Of a piece of a batch, from its thread: every decision, and the inputs of at most SAMPLE rows."""
        said = Tally(answers["decision"].to_list())
        counts = None
        if held.card.drift is not None and rows.height:
            step = -(-rows.height // SAMPLE)
            x, pd = encode(rows.gather_every(step), held.card.inputs), answers["pd"].gather_every(step).to_numpy()
            counts = flat(of_card(held.card.drift).count(x, pd))
        self.store.loop.call_soon_threadsafe(self._take, held, tenant, said, counts)

    def _take(self, held: Held, tenant: str, said: Tally[str], counts: np.ndarray | None) -> None:
        if (bucket := self._bucket(held, tenant)) is not None:
            bucket.said.update(said)
            if counts is not None:
                bucket.add(counts)

    def _bucket(self, held: Held, tenant: str) -> Bucket | None:
        found = self._buckets.get((held.digest, tenant))
        if found is None and len(self._buckets) < MOST:
            drift = held.card.drift
            found = self._buckets[held.digest, tenant] = Bucket(held, None if drift is None else of_card(drift))
        return found

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.flush()

    async def flush(self) -> None:
        """What was counted goes into the store; where that fails it is kept for the next time."""
        if not (buckets := self._taken()):
            return
        try:
            await self.store.write(lambda connection: keep(connection, buckets))
            self.failing = None
        except StoreUnavailable as error:
            self.failing = str(error)
            for (_, tenant), bucket in buckets.items():
                self._take(bucket.held, tenant, bucket.said, bucket.counts)

    def finish(self, engine: sa.Engine) -> None:
        """The last of them, when the service stops and nothing else writes."""
        if not (buckets := self._taken()):
            return
        try:
            with engine.begin() as connection:
                keep(connection, buckets)
        except sa.exc.SQLAlchemyError:
            log.exception("the counts of the last minute are lost")

    def _taken(self) -> dict[tuple[str, str], Bucket]:
        buckets, self._buckets = self._buckets, {}
        for bucket in buckets.values():
            bucket.fold()
        return buckets


def keep(connection: sa.Connection, buckets: Mapping[tuple[str, str], Bucket]) -> None:
    """Added to what the day holds already."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    for (bundle, tenant), bucket in buckets.items():
        mine = (INPUT_COUNTS.c.bundle == bundle, INPUT_COUNTS.c.tenant == tenant, INPUT_COUNTS.c.day == day)
        found = connection.execute(sa.select(INPUT_COUNTS).where(*mine).with_for_update()).first()
        counts = np.zeros(0, np.int64) if bucket.counts is None else bucket.counts
        said = dict(bucket.said)
        if found is None:
            row = {"bundle": bundle, "tenant": tenant, "day": day, "said": said, "counts": packed(counts)}
            row |= {"model": bucket.held.card.model, "version": bucket.held.card.version}
            connection.execute(sa.insert(INPUT_COUNTS).values(row))
            continue
        before = unpacked(found.counts)
        whole = before + counts if len(before) and len(counts) else before if len(before) else counts
        told = {"said": dict(Tally(found.said) + bucket.said), "counts": packed(whole)}
        connection.execute(sa.update(INPUT_COUNTS).where(*mine).values(told))


def packed(counts: np.ndarray) -> bytes:
    return counts.astype("<i8").tobytes()


def unpacked(content: bytes) -> np.ndarray:
    return np.frombuffer(content, "<i8").astype(np.int64)
