"""A slide decoded in a process of its own, with limits on memory, processor time and files; read as any other.

with sandbox.open_slide("from_a_clinic.svs") as slide:     # SlideRefused also where the process broke or hung
    tile = slide.read(0, 0, (256, 256))

The process knows one slide only and is kept for many reads. Pixels come back through shared memory, the rest as lines
of JSON. `python -m datasets.slides.sandbox` is that process, and is started by nobody else.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from datasets.slides import reader
from datasets.slides.byte_source import Size
from datasets.slides.errors import SlideFault, SlideRefused, fault
from datasets.slides.limits import LIMITS, Limits
from datasets.slides.reader import Facts, Level, Pixels, Slide

ROOT = Path(__file__).parents[2]
PAGE = 4_096  # bytes
TRIES = 3  # of what a broken process did not answer
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the process may use. Address space is counted, of which libraries reserve about 300 MB unused."""

    memory: int = 2 * 2**30  # bytes
    cpu: int = 60  # seconds for one request
    wall: float = 90.0  # seconds for one request
    files: int = 2_048  # open at once


BOUNDS = Bounds()


def open_slide(
    path: str | Path,
    mpp: float | tuple[float, float] | None = None,
    limits: Limits = LIMITS,
    bounds: Bounds = BOUNDS,
) -> Slide:
    """As reader.open_slide, check included; what the process does wrong is a refusal here, never more."""
    reader.given_scale(Path(path).name, mpp, limits)
    child = _Child(Path(path).absolute(), limits, bounds)
    try:
        answer = child.ask({"path": str(child.path), "mpp": mpp, "limits": asdict(limits), "bounds": asdict(bounds)})
        facts = _facts(answer)
    except BaseException:
        child.close()
        raise
    return Slide(facts, child.read, child.close, limits)


def again(work: Callable[[], T]) -> T:
    """What `work` answers. Where a slide's process broke under it, it is done anew, TRIES times in all: the process may
    have been killed from outside. A slide that breaks it each time stays refused."""
    for _ in range(TRIES - 1):
        try:
            return work()
        except SlideRefused as refused:
            if refused.codes != ("sandbox_crash",):
                raise
    return work()


def _facts(answer: dict[str, Any]) -> Facts:
    """JSON knows no tuples."""
    answer = {key: tuple(each) if isinstance(each, list) else each for key, each in answer.items()}
    return Facts(**{**answer, "levels": tuple(Level(**level) for level in answer["levels"])})


class _Child:
    """The process, seen from outside: one question at a time, each with a deadline."""

    def __init__(self, path: Path, limits: Limits, bounds: Bounds):
        self.path, self.bounds = path, bounds
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="slide-sandbox-")
        size = 3 * limits.tile_pixels
        descriptor = os.memfd_create("pixels")
        os.ftruncate(descriptor, size)
        self._pixels = mmap.mmap(descriptor, size)
        environment = {"PATH": os.environ.get("PATH", ""), "TMPDIR": self._folder.name, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "datasets.slides.sandbox", str(descriptor)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor,),
        )
        os.close(descriptor)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer; SlideRefused if it is a refusal, or there is none in time."""
        with self._lock:
            line = self._line(json.dumps(question).encode() + b"\n")
            try:
                answer = json.loads(line)
                refused, facts = answer["refused"], answer["answer"]
            except (ValueError, LookupError, TypeError) as error:
                raise self._broken("an answer that is none") from error
        if refused is not None:
            raise SlideRefused(self.path.name, [SlideFault(**each) for each in refused])
        found: dict[str, Any] = facts
        return found

    def read(self, x: int, y: int, size: Size, level: int) -> Pixels:
        with self._lock:
            line = self._line(b"[%d,%d,%d,%d,%d]\n" % (x, y, *size, level))
            if line == b"ok\n":
                return np.frombuffer(self._pixels, np.uint8, 3 * size[0] * size[1]).reshape(size[1], size[0], 3).copy()
        try:
            refused = [SlideFault(**each) for each in json.loads(line)["refused"]]
        except (ValueError, LookupError, TypeError) as error:
            raise self._broken("an answer that is none") from error
        raise SlideRefused(self.path.name, refused)

    def _line(self, question: bytes) -> bytes:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + self.bounds.wall
        try:
            process.stdin.write(question)
            process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._broken() from error
        parts = b""
        while not parts.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                self._stop()
                raise SlideRefused(self.path.name, [fault("sandbox_time", most=self.bounds.wall)])
            part = os.read(process.stdout.fileno(), 1 << 20)
            parts += part
            if not part or len(parts) > 1 << 24:
                raise self._broken()
        return parts

    def _broken(self, found: str = "") -> SlideRefused:
        """Why there is no answer, from how the process ended."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            code = 0
        self._stop()
        if code == -signal.SIGXCPU:
            return SlideRefused(self.path.name, [fault("sandbox_time", most=self.bounds.cpu)])
        ended = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return SlideRefused(self.path.name, [fault("sandbox_crash", found=found or ended)])

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        with self._lock:
            self._stop()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None and not pipe.closed:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        continue  # a question that nobody waits for
            self._pixels.close()
            self._folder.cleanup()


def main(descriptor: int) -> None:
    """Inside: takes the limits first, then the slide, then regions, a line each, until the questions end."""
    first = json.loads(sys.stdin.buffer.readline())
    bounds, limits = Bounds(**first["bounds"]), Limits(**first["limits"])
    _confine(bounds)
    # Whatever a decoder prints must not pass for an answer.
    answers = os.dup(1)
    os.dup2(2, 1)
    mpp = tuple(first["mpp"]) if isinstance(first["mpp"], list) else first["mpp"]
    pixels = np.frombuffer(mmap.mmap(descriptor, 3 * limits.tile_pixels), np.uint8)
    try:
        slide = reader.open_slide(first["path"], mpp, limits)
    except (SlideRefused, MemoryError) as error:
        os.write(answers, _refusal(error, bounds))
        return
    with slide:
        _write(answers, json.dumps({"refused": None, "answer": asdict(slide.facts)}).encode() + b"\n")
        for line in sys.stdin.buffer:
            _more_time(bounds)
            x, y, width, height, level = json.loads(line)
            try:
                region = slide.read(x, y, (width, height), level)
            except (SlideRefused, MemoryError) as error:
                _write(answers, _refusal(error, bounds))
                continue
            pixels[: region.size] = region.reshape(-1)
            _write(answers, b"ok\n")


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _refusal(error: SlideRefused | MemoryError, bounds: Bounds) -> bytes:
    memory = isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
    faults = [fault("sandbox_memory", most=bounds.memory)] if memory else getattr(error, "faults", ())
    return json.dumps({"refused": [asdict(each) for each in faults], "answer": None}).encode() + b"\n"


def _confine(bounds: Bounds) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (bounds.memory, bounds.memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, PAGE))  # no file but the one by which a temporary folder is tried
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (bounds.files, bounds.files))
    _more_time(bounds)


def _more_time(bounds: Bounds) -> None:
    """Processor time is counted from the start of the process; each request is given its own."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime) + 1 + bounds.cpu
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
