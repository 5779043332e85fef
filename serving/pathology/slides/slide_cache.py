"""Keep the slides that are being read open, each in a sandboxed process of its own.

cache = SlideCache(lambda slide: slide, capacity=4)
with cache.lease(path, mpp) as slide: ...

Readers of one slide share its process. Slides without a reader are closed when there are more than `capacity`, the
least recently used first, or after `idle_seconds`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from datasets.slides import sandbox
from datasets.slides.reader import Slide

T = TypeVar("T")
Mpp = float | tuple[float, float] | None  # microns per pixel given by the operator; None to use the file's
CacheKey = tuple[Path, Mpp]


@dataclass
class _Entry(Generic[T]):
    slide: Slide
    value: T
    users: int = 1
    last_used: float = field(default_factory=time.monotonic)


class SlideCache(Generic[T]):
    """`wrap` makes what a lease returns out of the open slide; it is called once per opening."""

    def __init__(self, wrap: Callable[[Slide], T], capacity: int = 4, idle_seconds: float = 60.0):
        self.wrap, self.capacity, self.idle_seconds = wrap, capacity, idle_seconds
        self._entries: OrderedDict[CacheKey, _Entry[T]] = OrderedDict()
        self._lock = threading.Lock()
        self._opening_locks: dict[CacheKey, threading.Lock] = {}
        self._sweeper: threading.Timer | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @contextmanager
    def lease(self, path: Path, mpp: Mpp) -> Iterator[T]:
        """Open the slide, or share it with its other readers. Raises SlideError.

        After any exception inside the block the slide counts as broken, and the next lease opens it again.
        """
        key = path, mpp
        with self._lock:
            opening_lock = self._opening_locks.setdefault(key, threading.Lock())
        with opening_lock:  # two readers of one slide start one process
            entry = self._acquire(key) or self._insert(key, sandbox.open_slide(path, mpp))
        broken = True
        try:
            yield entry.value
            broken = False
        finally:
            self._release(key, entry, broken)

    def _acquire(self, key: CacheKey) -> _Entry[T] | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(key)
            return entry

    def _insert(self, key: CacheKey, slide: Slide) -> _Entry[T]:
        entry = _Entry(slide, self.wrap(slide))
        with self._lock:
            self._entries[key] = entry
        self._evict_idle()
        return entry

    def _release(self, key: CacheKey, entry: _Entry[T], broken: bool) -> None:
        with self._lock:
            entry.users -= 1
            entry.last_used = time.monotonic()
            if broken and self._entries.get(key) is entry:
                del self._entries[key]
            should_close = self._entries.get(key) is not entry and not entry.users
        if should_close:
            entry.slide.close()
        self._evict_idle()

    def _evict_idle(self) -> None:
        """Close slides without a reader that are idle or too many, and schedule the next look at the others."""
        now = time.monotonic()
        closing = []
        with self._lock:
            for key, entry in list(self._entries.items()):
                expired = now - entry.last_used >= self.idle_seconds
                if not entry.users and (expired or len(self._entries) > self.capacity):
                    closing.append(self._entries.pop(key).slide)
            for key, opening_lock in list(self._opening_locks.items()):
                if key not in self._entries and not opening_lock.locked():
                    del self._opening_locks[key]
            self._cancel_sweeper()
            if self._entries:
                self._sweeper = threading.Timer(self.idle_seconds, self._evict_idle)
                self._sweeper.daemon = True
                self._sweeper.start()
        for slide in closing:
            slide.close()

    def _cancel_sweeper(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def close(self) -> None:
        """Close every slide; one that is being read is closed by its last reader."""
        with self._lock:
            self._cancel_sweeper()
            closing = [entry.slide for entry in self._entries.values() if not entry.users]
            self._entries.clear()
        for slide in closing:
            slide.close()
