"""Limit the answers per month of each tenant, counted in the store."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from serving.core.db.errors import StoreUnavailableError
from serving.core.db.reader import StoreReader
from serving.core.db.schema import QUOTAS
from serving.core.db.store import Store
from serving.core.http.problems import ProblemError
from serving.settings import RateLimitSettings

log = logging.getLogger("yuheng.quota")

FLUSH_SECONDS = 5.0  # between two updates of the counts in the store


class Quota:
    """The answers of this month by tenant. Use it in the event loop only.

    The counts in the store are updated every FLUSH_SECONDS, so a crash loses the answers since then, and several
    processes on one store see each other's answers with that delay.
    """

    def __init__(self, settings: RateLimitSettings, store: Store):
        self.settings, self.store = settings, store
        self._usage: dict[str, tuple[str, int]] = {}  # tenant -> (month, count in the store)
        self._unsaved: Counter[tuple[str, str]] = Counter()  # (tenant, month) -> answers not yet in the store
        self._flush_task: asyncio.Task[None] | None = None

    async def check(self, tenant: str) -> None:
        """Raises ProblemError with Retry-After where the quota of the month is used up."""
        if not self.settings.limit_for(tenant).monthly:
            return
        month = f"{datetime.now(UTC):%Y-%m}"
        cached = self._usage.get(tenant)
        if cached is None or cached[0] != month:
            self._usage[tenant] = month, await asyncio.to_thread(used, self.store.reader, tenant, month)
        self._require(tenant, 1)

    async def reserve(self, tenant: str, answers: int) -> None:
        """Count answers before they are given; `add` gives back those that are not. Raises ProblemError."""
        await self.check(tenant)
        self.take(tenant, answers)

    def take(self, tenant: str, answers: int) -> None:
        """As `reserve`, right after a `check`, without waiting."""
        self._require(tenant, answers)
        self.add(tenant, answers)

    def _require(self, tenant: str, answers: int) -> None:
        limit, month = self.settings.limit_for(tenant).monthly, f"{datetime.now(UTC):%Y-%m}"
        stored_month, stored = self._usage.get(tenant, (month, 0))
        total = (stored if stored_month == month else 0) + self._unsaved[tenant, month]
        if limit and total + answers > limit:
            headers = {"Retry-After": str(_seconds_until_next_month())}
            actual = f"{total:,}" if answers == 1 else f"{total:,}, and {answers:,} more are asked for"
            raise ProblemError("quota_used", actual=actual, expected=f"{limit:,}", headers=headers)

    def add(self, tenant: str, answers: int) -> None:
        """Count answers of this month; a negative number gives back what was reserved."""
        if self.settings.limit_for(tenant).monthly:
            self._unsaved[tenant, f"{datetime.now(UTC):%Y-%m}"] += answers
            if self._flush_task is None or self._flush_task.done():
                self._flush_task = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        while self._unsaved:
            await asyncio.sleep(FLUSH_SECONDS)
            unsaved, self._unsaved = self._unsaved, Counter()
            try:
                totals = await self.store.write(partial(increment_usage, increments=unsaved))
            except StoreUnavailableError as error:
                log.warning("the answers cannot be counted now and will be counted later: %s", error)
                self._unsaved.update(unsaved)  # += would drop what was given back
                continue
            for (tenant, month), total in totals.items():
                self._usage[tenant] = month, total

    def close(self, engine: sa.Engine) -> None:
        """Write the remaining counts, before the event loop ends."""
        if self._flush_task is not None:
            self._flush_task.cancel()
        if self._unsaved:
            try:
                with engine.begin() as connection:
                    increment_usage(connection, self._unsaved)
            except sa.exc.SQLAlchemyError as error:
                log.warning("%d answers could not be counted: %s", self._unsaved.total(), error)


def used(reader: StoreReader, tenant: str, month: str) -> int:
    """The answers that a tenant received in a month, YYYY-MM."""
    statement = sa.select(QUOTAS.c.used).where(QUOTAS.c.tenant == tenant, QUOTAS.c.month == month)
    return int(reader.run(lambda connection: connection.execute(statement).scalar()) or 0)


def increment_usage(connection: sa.Connection, increments: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Add to the counts in the store and return the new totals, both by (tenant, month)."""
    totals = {}
    for (tenant, month), count in increments.items():
        conditions = QUOTAS.c.tenant == tenant, QUOTAS.c.month == month
        if not connection.execute(sa.update(QUOTAS).where(*conditions).values(used=QUOTAS.c.used + count)).rowcount:
            connection.execute(sa.insert(QUOTAS).values(tenant=tenant, month=month, used=count))
        totals[tenant, month] = connection.execute(sa.select(QUOTAS.c.used).where(*conditions)).scalar_one()
    return totals


def _seconds_until_next_month() -> int:
    now = datetime.now(UTC)
    next_month = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    return max(1, math.ceil((next_month - now).total_seconds()))
