"""Answers a month by tenant: counted in the store, refused beyond the quota."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from serving.core.db.engine import StoreUnavailable
from serving.core.db.reader import Reader
from serving.core.db.schema import QUOTAS
from serving.core.db.store import Store
from serving.core.http.problems import Problem
from serving.settings import Rate as RateSettings

log = logging.getLogger("yuheng.quota")

EVERY = 5.0  # seconds between two additions to the store's count


class Quota:
    """Answers of this month by tenant. New ones are added to the store every few seconds, so a crash forgets those of
    the last few; several processes on one store see each other's as late. Used in the event loop alone."""

    def __init__(self, settings: RateSettings, store: Store):
        self.settings, self.store = settings, store
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
            known = month, await asyncio.to_thread(used, self.store.reader, tenant, month)
            self._used[tenant] = known
        total = known[1] + self._new[tenant, month]
        if total >= most:
            headers = {"Retry-After": str(_until_next_month())}
            raise Problem("quota_used", found=f"{total:,}", needed=f"{most:,}", headers=headers)

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
                totals = await self.store.write(partial(added, new=new))
            except StoreUnavailable as error:
                log.warning("answers are counted later: %s", error)
                self._new += new
                continue
            for (tenant, month), total in totals.items():
                self._used[tenant] = month, total

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


def used(reader: Reader, tenant: str, month: str) -> int:
    """Answers given to a tenant in a month, YYYY-MM."""
    statement = sa.select(QUOTAS.c.used).where(QUOTAS.c.tenant == tenant, QUOTAS.c.month == month)
    return int(reader.ask(lambda connection: connection.execute(statement).scalar()) or 0)


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
