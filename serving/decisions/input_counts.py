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

from models.drift import BinCounter, flatten, from_card
from models.feature_encoder import encode
from serving.core.db.engine import StoreUnavailableError
from serving.core.db.schema import INPUT_COUNTS
from serving.core.db.store import Store
from serving.decisions.products.base import DeployedModel

log = logging.getLogger("yuheng.counts")

FOLD_ROWS = 200  # rows counted at once: half a millisecond of the event loop
MAX_BUCKETS = 1_000  # pairs of bundle and tenant between two flushes; what comes beyond is not counted
SAMPLE_ROWS = 1_000  # rows of a batch's piece, evenly spaced
FLUSH_SECONDS = 60.0  # s


@dataclass
class Bucket:
    """Of one bundle and tenant, since the last flush."""

    model: DeployedModel
    counter: BinCounter | None  # None: the card has no bins
    decisions: Tally[str] = field(default_factory=Tally)
    counts: np.ndarray | None = None
    rows: list[list[float]] = field(default_factory=list)
    pds: list[float] = field(default_factory=list)

    def fold(self) -> None:
        if self.rows and self.counter is not None:
            x = np.array(self.rows, np.float32)[:, self.model.inputs]
            self.add_counts(flatten(self.counter.count(x, np.array(self.pds))))
        self.rows, self.pds = [], []

    def add_counts(self, counts: np.ndarray) -> None:
        self.counts = counts if self.counts is None else self.counts + counts


class InputCounter:
    """In the event loop that serves."""

    def __init__(self, store: Store):
        self.store = store
        self.failure: str | None = None
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def add_row(self, model: DeployedModel, tenant: str, row: list[float], answer: Mapping[str, object]) -> None:
        """An answer that is on the disk. row: as `held.check` made it."""
        bucket = self._buckets.get((model.digest, tenant)) or self._bucket(model, tenant)
        if bucket is None:
            return
        bucket.decisions[answer["decision"]] += 1  # type: ignore[index]
        if bucket.counter is not None:
            bucket.rows.append(row)
            bucket.pds.append(answer["pd"])  # type: ignore[arg-type]
            if len(bucket.rows) >= FOLD_ROWS:
                bucket.fold()

    def add_batch(self, model: DeployedModel, tenant: str, rows: pl.DataFrame, answers: pl.DataFrame) -> None:
        """Of a piece of a batch, from its thread: every decision, and the inputs of at most SAMPLE rows."""
        decisions = Tally(answers["decision"].to_list())
        counts = None
        if model.card.drift is not None and rows.height:
            step = -(-rows.height // SAMPLE_ROWS)
            x, pd = encode(rows.gather_every(step), model.card.inputs), answers["pd"].gather_every(step).to_numpy()
            counts = flatten(from_card(model.card.drift).count(x, pd))
        self.store.loop.call_soon_threadsafe(self._merge, model, tenant, decisions, counts)

    def _merge(self, model: DeployedModel, tenant: str, decisions: Tally[str], counts: np.ndarray | None) -> None:
        if (bucket := self._bucket(model, tenant)) is not None:
            bucket.decisions.update(decisions)
            if counts is not None:
                bucket.add_counts(counts)

    def _bucket(self, model: DeployedModel, tenant: str) -> Bucket | None:
        bucket = self._buckets.get((model.digest, tenant))
        if bucket is None and len(self._buckets) < MAX_BUCKETS:
            drift = model.card.drift
            bucket = self._buckets[model.digest, tenant] = Bucket(model, None if drift is None else from_card(drift))
        return bucket

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """What was counted goes into the store; where that fails it is kept for the next time."""
        if not (buckets := self._drain()):
            return
        try:
            await self.store.write(lambda connection: save_counts(connection, buckets))
            self.failure = None
        except StoreUnavailableError as error:
            self.failure = str(error)
            for (_, tenant), bucket in buckets.items():
                self._merge(bucket.model, tenant, bucket.decisions, bucket.counts)

    def finish(self, engine: sa.Engine) -> None:
        """The last of them, when the service stops and nothing else writes."""
        if not (buckets := self._drain()):
            return
        try:
            with engine.begin() as connection:
                save_counts(connection, buckets)
        except sa.exc.SQLAlchemyError:
            log.exception("the counts of the last minute are lost")

    def _drain(self) -> dict[tuple[str, str], Bucket]:
        buckets, self._buckets = self._buckets, {}
        for bucket in buckets.values():
            bucket.fold()
        return buckets


def save_counts(connection: sa.Connection, buckets: Mapping[tuple[str, str], Bucket]) -> None:
    """Added to what the day holds already."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    for (bundle, tenant), bucket in buckets.items():
        same_bucket = (INPUT_COUNTS.c.bundle == bundle, INPUT_COUNTS.c.tenant == tenant, INPUT_COUNTS.c.day == day)
        existing = connection.execute(sa.select(INPUT_COUNTS).where(*same_bucket).with_for_update()).first()
        counts = np.zeros(0, np.int64) if bucket.counts is None else bucket.counts
        decisions = dict(bucket.decisions)
        if existing is None:
            row = {"bundle": bundle, "tenant": tenant, "day": day, "said": decisions, "counts": encode_counts(counts)}
            row |= {"model": bucket.model.card.model, "version": bucket.model.card.version}
            connection.execute(sa.insert(INPUT_COUNTS).values(row))
            continue
        previous = decode_counts(existing.counts)
        total = previous + counts if len(previous) and len(counts) else previous if len(previous) else counts
        values = {"said": dict(Tally(existing.said) + bucket.decisions), "counts": encode_counts(total)}
        connection.execute(sa.update(INPUT_COUNTS).where(*same_bucket).values(values))


def encode_counts(counts: np.ndarray) -> bytes:
    return counts.astype("<i8").tobytes()


def decode_counts(content: bytes) -> np.ndarray:
    return np.frombuffer(content, "<i8").astype(np.int64)
