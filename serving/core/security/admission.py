"""Share what is scarce among tenants: places, threads and the disk. Use it in the event loop only.

A tenant never has all places; of work that waits, tenants take turns, so that one with much to do does not keep another
waiting for more than one piece of it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from serving.core.http.problems import ProblemError

T = TypeVar("T")
TENANT_SHARE = 0.75  # of the places for short-lived reads that one tenant may take


def tenant_share(limit: int) -> int:
    """How many of `limit` places one tenant may take."""
    return max(1, int(limit * TENANT_SHARE))


class TenantPlaces:
    """Places for things that stay open, such as uploads: `limit` in all, `tenant_limit` for one tenant."""

    def __init__(self, limit: int, tenant_limit: int, name: tuple[str, str]):
        """name: of the things, in English and Chinese, for messages."""
        self.limit, self.tenant_limit, self.name = limit, tenant_limit, name
        self._taken: Counter[str] = Counter()

    def take(self, tenant: str) -> None:
        """Raises ProblemError where there is no place."""
        self.check(tenant)
        self._taken[tenant] += 1

    def check(self, tenant: str) -> None:
        """As `take`, without taking it."""
        for taken, limit in ((self._taken[tenant], self.tenant_limit), (self._taken.total(), self.limit)):
            if taken >= limit:
                raise ProblemError(
                    "overloaded",
                    actual=f"{limit} {self.name[0]} at the same time",
                    actual_zh=f"已有 {limit} {self.name[1]}，不能再增加",
                )

    @property
    def taken(self) -> int:
        return self._taken.total()

    def give_back(self, tenant: str) -> None:
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]


class FairExecutor:
    """Runs pieces of work on `limit` threads of an executor, of which one tenant takes `tenant_limit` at most."""

    def __init__(self, executor: Executor, limit: int, tenant_limit: int):
        self.limit, self.tenant_limit = limit, tenant_limit
        self._executor = executor
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by tenant, the next one first

    async def run(self, tenant: str, function: Callable[..., T], *arguments: object) -> T:
        """The function's result. Work that has begun goes on to its end where the caller is cancelled."""
        await self._wait_for_turn(tenant)
        try:
            task = asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        except BaseException:
            self._finish(tenant)
            raise
        task.add_done_callback(lambda _: self._finish(tenant))
        return await asyncio.shield(task)

    async def _wait_for_turn(self, tenant: str) -> None:
        if not self._waiting.get(tenant) and self._may_run(tenant):
            self._running[tenant] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._finish(tenant)  # its turn came as it was cancelled
            else:
                self._forget(tenant, turn)
            raise

    def _may_run(self, tenant: str) -> bool:
        return self._running.total() < self.limit and self._running[tenant] < self.tenant_limit

    def _finish(self, tenant: str) -> None:
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        for waiting in list(self._waiting):
            while self._waiting.get(waiting) and self._may_run(waiting):
                turn = self._waiting[waiting][0]
                self._forget(waiting, turn)
                if waiting in self._waiting:
                    self._waiting.move_to_end(waiting)
                if not turn.done():
                    turn.set_result(None)
                    self._running[waiting] += 1
                    break  # the next tenant's turn

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(tenant)
        if turns is not None and turn in turns:
            turns.remove(turn)
        if not turns:
            self._waiting.pop(tenant, None)


class UploadPace:
    """Whether an upload comes fast enough on average: a byte now and then would hold its place for ever."""

    def __init__(self, min_bytes_per_second: float, grace_seconds: float):
        self.min_bytes_per_second, self.grace_seconds = min_bytes_per_second, grace_seconds
        self._began = time.monotonic()

    def fault(self, received: int) -> ProblemError | None:
        """The problem of an upload that is too slow. received: bytes since the beginning."""
        seconds = time.monotonic() - self._began - self.grace_seconds
        if seconds <= 0 or received >= seconds * self.min_bytes_per_second:
            return None
        rate = f"{self.min_bytes_per_second:,.0f}"
        return ProblemError(
            "slow_request",
            expected=f"the time that {rate} bytes a second take",
            expected_zh=f"按每秒 {rate} 字节计算的时间",
        )


class DiskSpace:
    """The free room of a folder's disk, of which `min_free_bytes` are kept for the store and its log."""

    def __init__(self, folder: Path, min_free_bytes: int):
        self.folder, self.min_free_bytes = folder, min_free_bytes

    def available(self) -> int:
        """Bytes that uploads may still take."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return max(0, shutil.disk_usage(self.folder).free - self.min_free_bytes)
