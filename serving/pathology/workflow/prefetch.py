"""Request the next batch of tiles while the outputs of the current one are written, so that the network does not wait.

infer = Prefetcher(runner.infer, capacity=1)
infer.prefetch(next_request)
outputs = infer(next_request)        # as `runner.infer`, with the prefetched result if there is one
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from serving.pathology.workflow.runner import TileOutputs, TileRequest


class Prefetcher:
    """At most `capacity` requests are prefetched; the oldest one is dropped for another."""

    def __init__(self, infer: Callable[[TileRequest], TileOutputs], capacity: int):
        self._infer, self._capacity = infer, capacity
        self._executor = ThreadPoolExecutor(capacity, "prefetch")
        self._pending: OrderedDict[tuple[object, ...], Future[TileOutputs]] = OrderedDict()

    def prefetch(self, request: TileRequest) -> None:
        """Start the request in the background."""
        self._pending[_cache_key(request)] = self._executor.submit(self._infer, request)
        while len(self._pending) > self._capacity:
            self._pending.popitem(last=False)[1].cancel()

    def __call__(self, request: TileRequest) -> TileOutputs:
        pending = self._pending.pop(_cache_key(request), None)
        return self._infer(request) if pending is None else pending.result()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _cache_key(request: TileRequest) -> tuple[object, ...]:
    return request.path, request.mpp, request.extent, request.bundle, request.plane, request.positions.tobytes()
