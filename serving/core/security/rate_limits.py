"""How much a tenant may ask: calls a second, by a bucket in memory; answers a month, counted in the store."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from serving.core.db.engine import StoreUnavailable
from serving.core.db.schema import QUOTAS
from serving.core.http.problems import Problem
from serving.settings import Rate as RateSettings

if TYPE_CHECKING:
    from serving.decisions.service import Runtime

log = logging.getLogger("yuheng.rate")

EVERY = 5.0  # seconds between two additions to the store's count

TENANTS = 10_000  # buckets held


class Rate:
    """Used in the event loop alone."""

    def __init__(self, settings: RateSettings):
        self.settings = settings
        self._buckets: dict[str, tuple[float, float]] = {}  # tenant -> (tokens in it, when they were counted)

    def take(self, tenant: str) -> None:
        """Raises Problem, with the seconds after which there is a token again."""
        most = self.settings.of(tenant)
        if not most.per_second:
            return
        now = time.monotonic()
        left, at = self._buckets.pop(tenant, (most.burst, now))
        left = min(most.burst, left + (now - at) * most.per_second)
        if len(self._buckets) >= TENANTS:
            del self._buckets[next(iter(self._buckets))]  # who asked last the longest ago
        self._buckets[tenant] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            raise Problem(
                "rate_exceeded",
                found=f"{most.per_second:g} calls a second, {most.burst:g} at once",
                found_zh=f"每秒 {most.per_second:g} 次、突发 {most.burst:g} 次",
                headers={"Retry-After": str(max(1, math.ceil((1 - left) / most.per_second)))},
            )


class Quota:
    """Answers of this month by tenant. New ones are added to the store every few seconds, so a crash forgets those of
    the last few; several processes on one store see each other's as late. Used in the event loop alone."""

    def __init__(self, settings: RateSettings, runtime: Runtime):
        self.settings, self.runtime = settings, runtime
        self._used: dict[str, tuple[str, int]] = {}  # tenant -> (month, as the store had it)
        self._new: Counter[tuple[str, str]] = Counter()  # (tenant, month) -> not yet in the store
        self._adding: asyncio.Task[None] | None = None

    async def check(self, tenant: str) -> None:
        """Raises Problem where the month's answers are used up."""
        most = self.settings.of(tenant).monthly
        if not most:
            return
        month = f"{datetime.now(UTC):%Y-%m}"
        known = self._used.get(tenant)
        if known is None or known[0] != month:
            known = month, await asyncio.to_thread(self.runtime.reader.used, tenant, month)
            self._used[tenant] = known
        used = known[1] + self._new[tenant, month]
        if used >= most:
            headers = {"Retry-After": str(_until_next_month())}
            raise Problem("quota_used", found=f"{used:,}", needed=f"{most:,}", headers=headers)

    def add(self, tenant: str, answers: int) -> None:
        if self.settings.of(tenant).monthly:
            self._new[tenant, f"{datetime.now(UTC):%Y-%m}"] += answers
            if self._adding is None or self._adding.done():
                self._adding = asyncio.get_running_loop().create_task(self._add())

    async def _add(self) -> None:
        while self._new:
            await asyncio.sleep(EVERY)
            new, self._new = self._new, Counter()
            try:
                totals = await asyncio.wrap_future(self.runtime.writer.work(partial(added, new=new)))
            except StoreUnavailable as error:
                log.warning("answers are counted later: %s", error)
                self._new += new
                continue
            for (tenant, month), used in totals.items():
                self._used[tenant] = month, used

    def close(self, engine: sa.Engine) -> None:
        """What is not in the store yet. The event loop is about to end."""
        if self._adding is not None:
            self._adding.cancel()
        if self._new:
            try:
                with engine.begin() as connection:
                    added(connection, self._new)
            except sa.exc.SQLAlchemyError as error:
                log.warning("%d answers were not counted: %s", self._new.total(), error)


def added(connection: sa.Connection, new: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The store's counts with these."""
    totals = {}
    for (tenant, month), answers in new.items():
        row = QUOTAS.c.tenant == tenant, QUOTAS.c.month == month
        if not connection.execute(sa.update(QUOTAS).where(*row).values(used=QUOTAS.c.used + answers)).rowcount:
            connection.execute(sa.insert(QUOTAS).values(tenant=tenant, month=month, used=answers))
        totals[tenant, month] = connection.execute(sa.select(QUOTAS.c.used).where(*row)).scalar_one()
    return totals


def _until_next_month() -> int:
    now = datetime.now(UTC)
    after = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    return max(1, math.ceil((after - now).total_seconds()))
