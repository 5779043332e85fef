"""Limit the requests per second of each tenant with token buckets in memory."""

from __future__ import annotations

import math
import time

from serving.core.http.problems import ProblemError
from serving.settings import RateLimitSettings

MAX_BUCKETS = 10_000


class RateLimiter:
    """A token bucket per tenant. Use it in the event loop only."""

    def __init__(self, settings: RateLimitSettings):
        self.settings = settings
        self._buckets: dict[str, tuple[float, float]] = {}  # tenant -> (tokens, time of that count)

    def acquire(self, tenant: str) -> None:
        """Take a token. Raises ProblemError with Retry-After in seconds where the bucket is empty."""
        limit = self.settings.limit_for(tenant)
        if not limit.per_second:
            return
        now = time.monotonic()
        tokens, refilled_at = self._buckets.pop(tenant, (limit.burst, now))
        tokens = min(limit.burst, tokens + (now - refilled_at) * limit.per_second)
        if len(self._buckets) >= MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]  # the least recently used
        self._buckets[tenant] = (tokens - 1 if tokens >= 1 else tokens, now)
        if tokens < 1:
            raise ProblemError(
                "rate_exceeded",
                actual=f"{limit.per_second:g} requests per second, {limit.burst:g} at once",
                actual_zh=f"每秒 {limit.per_second:g} 次、突发 {limit.burst:g} 次",
                headers={"Retry-After": str(max(1, math.ceil((1 - tokens) / limit.per_second)))},
            )
