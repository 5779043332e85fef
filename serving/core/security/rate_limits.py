"""How much a tenant may ask: calls a second, by a bucket in memory; answers a month, counted in the store."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from serving.core.http.problems import ProblemError
from serving.settings import RateLimitSettings

if TYPE_CHECKING:
    pass

log = logging.getLogger("yuheng.rate")


MAX_BUCKETS = 10_000  # buckets held


class RateLimiter:
    """Used in the event loop alone."""

    def __init__(self, settings: RateLimitSettings):
        self.settings = settings
        self._buckets: dict[str, tuple[float, float]] = {}  # tenant -> (tokens in it, when they were counted)

    def acquire(self, tenant: str) -> None:
        """Raises Problem, with the seconds after which there is a token again."""
        limit = self.settings.limit_for(tenant)
        if not limit.per_second:
            return
        now = time.monotonic()
        tokens, refilled_at = self._buckets.pop(tenant, (limit.burst, now))
        tokens = min(limit.burst, tokens + (now - refilled_at) * limit.per_second)
        if len(self._buckets) >= MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]  # who asked last the longest ago
        self._buckets[tenant] = (tokens - 1 if tokens >= 1 else tokens, now)
        if tokens < 1:
            raise ProblemError(
                "rate_exceeded",
                actual=f"{limit.per_second:g} calls a second, {limit.burst:g} at once",
                actual_zh=f"每秒 {limit.per_second:g} 次、突发 {limit.burst:g} 次",
                headers={"Retry-After": str(max(1, math.ceil((1 - tokens) / limit.per_second)))},
            )
