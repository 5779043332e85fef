"""The next tiles are asked for while what was said of the last is recorded, so that the network does not wait.

read = Ahead(runner.read, most=1)
read.begin(following); said = read(asked)        # answers as `runner.read` does, from what was begun where it was
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from serving.pathology.workflow.runner import Asked, Said


class Ahead:
    """`most`: questions begun at a time; what nobody comes for is dropped when another needs its place."""

    def __init__(self, read: Callable[[Asked], Said], most: int):
        self._read, self._most = read, most
        self._pool = ThreadPoolExecutor(most, "ahead")
        self._begun: OrderedDict[tuple[object, ...], Future[Said]] = OrderedDict()

    def begin(self, asked: Asked) -> None:
        self._begun[_key(asked)] = self._pool.submit(self._read, asked)
        while len(self._begun) > self._most:
            self._begun.popitem(last=False)[1].cancel()

    def __call__(self, asked: Asked) -> Said:
        begun = self._begun.pop(_key(asked), None)
        return self._read(asked) if begun is None else begun.result()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _key(asked: Asked) -> tuple[object, ...]:
    return asked.path, asked.mpp, asked.extent, asked.bundle, asked.places.tobytes()
