"""Report the progress of a run: a bar on a terminal, a line per step where the output goes to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

ProgressCallback = Callable[[int, int], None]  # (completed, total)


def ignore_progress(done: int, total: int) -> None:
    """The callback for callers that show no progress."""


class ProgressReporter:
    """Show the steps of a run and measure them; `step_seconds` maps a step's name to its duration.

    with ProgressReporter() as reporter, reporter.step("fit") as progress: ...
    """

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)
        self.step_seconds: dict[str, float] = {}
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )

    def __enter__(self) -> ProgressReporter:
        self._bars.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[ProgressCallback]:
        """Start a named step; calling the yielded function moves its bar, and is optional."""
        task = self._bars.add_task(name, total=None)
        start = time.perf_counter()
        try:
            yield lambda completed, total: self._bars.update(task, completed=completed, total=total)
        finally:
            self._bars.remove_task(task)
            self.step_seconds[name] = self.step_seconds.get(name, 0.0) + time.perf_counter() - start
        self.console.print(f"  {name:<34} {self.step_seconds[name]:6.1f} s", highlight=False)

    def log(self, message: str, style: str = "") -> None:
        """Print a line to stderr; `style` is one of rich's."""
        self.console.print(message, style=style, highlight=False)
