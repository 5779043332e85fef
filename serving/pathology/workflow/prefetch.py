"""The next tiles are asked for while what was said of the last is recorded, so that the network does not wait.

read = Ahead(runner.read, most=1)
read.begin(following); said = read(asked)        # answers as `runner.read` does, from what was begun where it was
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from serving.pathology.workflow.runner import TileOutputs, TileRequest


class Prefetcher:
    """`most`: questions begun at a time; what nobody comes for is dropped when another needs its place."""

    def __init__(self, infer: Callable[[TileRequest], TileOutputs], capacity: int):
        self._infer, self._capacity = infer, capacity
        self._executor = ThreadPoolExecutor(capacity, "ahead")
        self._pending: OrderedDict[tuple[object, ...], Future[TileOutputs]] = OrderedDict()

    def prefetch(self, request: TileRequest) -> None:
        self._pending[_cache_key(request)] = self._executor.submit(self._infer, request)
        while len(self._pending) > self._capacity:
            self._pending.popitem(last=False)[1].cancel()

    def __call__(self, request: TileRequest) -> TileOutputs:
        pending = self._pending.pop(_cache_key(request), None)
        return self._infer(request) if pending is None else pending.result()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _cache_key(request: TileRequest) -> tuple[object, ...]:
    return request.path, request.mpp, request.extent, request.bundle, request.positions.tobytes()
