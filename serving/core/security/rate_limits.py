"""How much a tenant may ask: calls a second, by a bucket in memory; answers a month, counted in the store."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from serving.core.http.problems import Problem
from serving.settings import Rate as RateSettings

if TYPE_CHECKING:
    pass

log = logging.getLogger("yuheng.rate")


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
