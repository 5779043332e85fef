"""The parent's side of a confined process: it starts it, exchanges bytes with a deadline, and ends it.

child = ConfinedChild("datasets.slides.sandbox", [])
child.send(b"...\n", deadline); child.read_line(deadline)       # ChildTimeoutError, ChildEndedError
child.close()

It is the leader of a session of its own, so that whatever it starts ends with it. What it sends is not to be trusted.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from datasets.confinement.process import MAX_CPU_SECONDS, ROOT, child_environment

READ_BYTES = 1 << 20
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
EXTEND_SECONDS = 2.0  # between two extensions of a limit on CPU time, which cost as much as a small tile


class ChildTimeoutError(Exception):
    """No answer in time. The process has been ended."""


class ChildEndedError(Exception):
    """The process ended, or sent too much. exit_code: negative for a signal; reason: its name."""

    def __init__(self, exit_code: int):
        self.exit_code = exit_code
        self.reason = signal.Signals(-exit_code).name if exit_code < 0 else f"exit {exit_code}"
        super().__init__(self.reason)


class ConfinedChild:
    """cpu_seconds: of one request. temporary_in: where its temporary folder is made, which it may read and write."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        cpu_seconds: int,
        root: Path = ROOT,
        temporary_in: Path | None = None,
        descriptors: Sequence[int] = (),
    ):
        self.cpu_seconds = cpu_seconds
        self._buffer = bytearray()
        self._extended = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix=f"confined-{os.getpid()}-", dir=temporary_in)
        self.temporary_folder = Path(self._folder.name)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-B", "-m", module, *arguments],
                cwd=root,
                env=child_environment(self._folder.name),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=descriptors,
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            self._folder.cleanup()
            raise
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self._stdin.fileno(), False)

    def send(self, data: bytes, deadline: float) -> None:
        """Raises ChildTimeoutError, ChildEndedError. deadline: of time.monotonic()."""
        if self._stdin.closed:
            raise self.end()
        view = memoryview(data)
        while view:
            self._wait_for(self._stdin.fileno(), deadline, write=True)
            try:
                view = view[os.write(self._stdin.fileno(), view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise self.end() from error

    def read_line(self, deadline: float, max_bytes: int = 1 << 24) -> bytes:
        """A line with its end. Raises ChildTimeoutError, ChildEndedError; the latter also for a longer line."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > max_bytes:
                raise self.end()
            self._receive(deadline)
        return self._take(end + 1)

    def read_exactly(self, size: int, deadline: float) -> bytes:
        """Raises ChildTimeoutError, ChildEndedError."""
        while len(self._buffer) < size:
            self._receive(deadline)
        return self._take(size)

    def extend_cpu_limit(self) -> None:
        """Allow the process as much time again: it counts from its start."""
        now = time.monotonic()
        if now - self._extended < EXTEND_SECONDS:
            return
        self._extended = now
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_bytes().rpartition(b")")[2].split()
            used = (int(fields[11]) + int(fields[12])) // TICKS_PER_SECOND
            soft = min(used + 1 + self.cpu_seconds, MAX_CPU_SECONDS)
            hard = resource.prlimit(self.process.pid, resource.RLIMIT_CPU)[1]
            soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
            resource.prlimit(self.process.pid, resource.RLIMIT_CPU, (soft, hard))
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return  # it ended, which the next exchange finds

    def end(self) -> ChildEndedError:
        """Wait a moment for a process that is ending, end it, and say how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        self._kill()
        return ChildEndedError(self.process.returncode)

    def close(self) -> None:
        self._kill()
        for pipe in (self._stdin, self._stdout):
            pipe.close()
        self._folder.cleanup()

    def _receive(self, deadline: float) -> None:
        self._wait_for(self._stdout.fileno(), deadline, write=False)
        data = os.read(self._stdout.fileno(), READ_BYTES)
        if not data:
            raise self.end()
        self._buffer += data

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _wait_for(self, descriptor: int, deadline: float, *, write: bool) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT if write else select.POLLIN)
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not poll.poll(remaining * 1_000):
            self._kill()
            raise ChildTimeoutError

    def _kill(self) -> None:
        """The process and whatever it started."""
        if self.process.poll() is None or _group_exists(self.process.pid):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _group_exists(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
