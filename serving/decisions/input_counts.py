"""Counts the inputs of each model for drift monitoring: values per bin of the card, by tenant. No value is stored.

A row stays in memory as the list that its validation made anyway, and is counted with a few hundred others: 3 us a row
(benchmarks/speed/effects.py). The counts are written each minute; a process that is killed loses those of its last
minute.
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
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import INPUT_COUNTS
from serving.core.db.store import Store
from serving.decisions.products.base import DeployedModel

log = logging.getLogger("yuheng.counts")

FOLD_ROWS = 200  # rows that are counted together: half a millisecond of the event loop
MAX_BUCKETS = 1_000  # pairs of bundle and tenant between two flushes; further pairs are not counted
SAMPLE_ROWS = 1_000  # at most counted of a batch's chunk, evenly spaced
FLUSH_SECONDS = 60.0


@dataclass
class Bucket:
    """The counts of one bundle and tenant since the last flush."""

    model: DeployedModel
    counter: BinCounter | None  # None: the card has no bins
    decisions: Tally[str] = field(default_factory=Tally)
    counts: np.ndarray | None = None  # (bins of all inputs and of the score,)
    rows: list[list[float]] = field(default_factory=list)
    pds: list[float] = field(default_factory=list)

    def fold(self) -> None:
        """Add the waiting rows to the counts."""
        if self.rows and self.counter is not None:
            x = np.array(self.rows, np.float32)[:, self.model.inputs]
            self.add_counts(flatten(self.counter.count(x, np.array(self.pds))))
        self.rows, self.pds = [], []

    def add_counts(self, counts: np.ndarray) -> None:
        self.counts = counts if self.counts is None else self.counts + counts


class InputCounter:
    """Counts in memory and writes to the store. Its methods belong to the event loop, but for `add_batch`.

    failure: why the last flush failed; None after one that succeeded.
    """

    def __init__(self, store: Store):
        self.store = store
        self.failure: str | None = None
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def add_row(self, model: DeployedModel, tenant: str, row: list[float], answer: Mapping[str, object]) -> None:
        """Count a recorded decision. row: as `model.validate` returned it."""
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
        """Count a recorded chunk, from the batch's thread: all decisions, and the inputs of up to SAMPLE_ROWS rows."""
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
        """Flush each minute, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write the counts to the store; where that fails, keep them for the next flush."""
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
        """Write the last counts, once the service has stopped and nothing else writes."""
        if not (buckets := self._drain()):
            return
        try:
            with engine.begin() as connection:
                save_counts(connection, buckets)
        except sa.exc.SQLAlchemyError:
            log.exception("the input counts of the last minute could not be written and are lost")

    def _drain(self) -> dict[tuple[str, str], Bucket]:
        buckets, self._buckets = self._buckets, {}
        for bucket in buckets.values():
            bucket.fold()
        return buckets


def save_counts(connection: sa.Connection, buckets: Mapping[tuple[str, str], Bucket]) -> None:
    """Add the counts to those that the store has of this day."""
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
    """As little-endian 64-bit integers."""
    return counts.astype("<i8").tobytes()


def decode_counts(content: bytes) -> np.ndarray:
    """(bins,) int64."""
    return np.frombuffer(content, "<i8").astype(np.int64)
