"""Decode a slide in a process of its own, with limits on memory, CPU time and files.

with sandbox.open_slide("from_a_clinic.svs") as slide:     # SlideError also if the process crashed or hung
    tile = slide.read(0, 0, (256, 256))

A process serves one slide and many reads. Pixels come back through shared memory, everything else as lines of JSON.
`python -m datasets.slides.sandbox` is that process; it is only started from here.
"""

from __future__ import annotations

import importlib
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
from datasets.slides.errors import SlideError, SlideIssue, describe_error, slide_issue
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from datasets.slides.reader import Level, Pixels, Slide, SlideMetadata
from datasets.slides.scale import ScaleStatement

ROOT = Path(__file__).parents[2]
PAGE_BYTES = 4_096
SHARPEST = -1  # in place of a focal plane: the sharpest one of each tile
MAX_ATTEMPTS = 3  # of a task whose process crashed
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Limits of the process. Memory is address space, of which libraries reserve about 300 MB without using it."""

    memory_bytes: int = 2 * 2**30
    cpu_seconds: int = 60  # for one request
    wall_seconds: float = 90.0  # for one request
    max_open_files: int = 2_048


SANDBOX_LIMITS = SandboxLimits()


def open_slide(
    path: str | Path,
    mpp: float | tuple[float, float] | None = None,
    limits: SlideLimits = SLIDE_LIMITS,
    sandbox_limits: SandboxLimits = SANDBOX_LIMITS,
) -> Slide:
    """Like reader.open_slide, including its check; any failure of the process raises SlideError."""
    reader.parse_operator_mpp(Path(path).name, mpp, limits)
    process = _SandboxProcess(Path(path).absolute(), limits, sandbox_limits)
    try:
        answer = process.request(
            {"path": str(process.path), "mpp": mpp, "limits": asdict(limits), "bounds": asdict(sandbox_limits)}
        )
        metadata = _parse_metadata(answer)
    except BaseException:
        process.close()
        raise
    return Slide(metadata, process.read, process.close, limits, process.read)


def call_in_sandbox(
    function: Callable[[dict[str, Any]], dict[str, Any]],
    path: Path,
    arguments: dict[str, Any],
    sandbox_limits: SandboxLimits = SANDBOX_LIMITS,
) -> dict[str, Any]:
    """Call a function of a module in a process of its own; arguments and result travel as JSON.

    path: the file that it reads, for messages. Raises SlideError, also for anything that the function raises.
    """
    process = _SandboxProcess(path, SLIDE_LIMITS, sandbox_limits)
    try:
        setup = {"module": function.__module__, "function": function.__name__, "arguments": arguments}
        return process.request(
            {**setup, "path": str(path), "limits": asdict(SLIDE_LIMITS), "bounds": asdict(sandbox_limits)}
        )
    finally:
        process.close()


def retry_in_new_sandbox(fn: Callable[[], T]) -> T:
    """The result of `fn`, which is called up to MAX_ATTEMPTS times if the process of its slide crashes.

    The process may have been killed from outside; a slide that crashes it every time is refused.
    """
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return fn()
        except SlideError as error:
            if error.codes != ("sandbox_crash",):
                raise
    return fn()


def _parse_metadata(answer: dict[str, Any]) -> SlideMetadata:
    """SlideMetadata from JSON, which has no tuples."""
    answer = {key: tuple(value) if isinstance(value, list) else value for key, value in answer.items()}
    levels = tuple(Level(**level) for level in answer["levels"])
    scales = tuple(ScaleStatement(**scale) for scale in answer["scales"])
    return SlideMetadata(**{**answer, "levels": levels, "scales": scales})


class _SandboxProcess:
    """The parent's side of the process: one request at a time, each with a deadline."""

    def __init__(self, path: Path, limits: SlideLimits, sandbox_limits: SandboxLimits):
        self.path, self.sandbox_limits = path, sandbox_limits
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="slide-sandbox-")
        size = 3 * limits.tile_pixels
        descriptor = os.memfd_create("pixels")
        os.ftruncate(descriptor, size)
        self._pixels = mmap.mmap(descriptor, size)
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "TMPDIR": self._folder.name,
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # the limit on file size would truncate a .pyc that others read
        }
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

    def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer. Raises SlideError for a refusal, or if there is no answer in time."""
        with self._lock:
            line = self._exchange(json.dumps(request).encode() + b"\n")
            try:
                answer = json.loads(line)
                issues_json, answer_json = answer["refused"], answer["answer"]
            except (ValueError, LookupError, TypeError) as error:
                raise self._failure("an invalid answer") from error
        if issues_json is not None:
            raise SlideError(self.path.name, [SlideIssue(**issue_json) for issue_json in issues_json])
        result: dict[str, Any] = answer_json
        return result

    def read(self, x: int, y: int, size: Size, level: int, plane: int = SHARPEST) -> Pixels:
        with self._lock:
            line = self._exchange(b"[%d,%d,%d,%d,%d,%d]\n" % (x, y, *size, level, plane))
            if line == b"ok\n":
                return np.frombuffer(self._pixels, np.uint8, 3 * size[0] * size[1]).reshape(size[1], size[0], 3).copy()
        try:
            issues = [SlideIssue(**issue_json) for issue_json in json.loads(line)["refused"]]
        except (ValueError, LookupError, TypeError) as error:
            raise self._failure("an invalid answer") from error
        raise SlideError(self.path.name, issues)

    def _exchange(self, request: bytes) -> bytes:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + self.sandbox_limits.wall_seconds
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._failure() from error
        response = b""
        while not response.endswith(b"\n"):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([process.stdout], [], [], remaining)[0]:
                self._kill()
                raise SlideError(self.path.name, [slide_issue("sandbox_time", limit=self.sandbox_limits.wall_seconds)])
            chunk = os.read(process.stdout.fileno(), 1 << 20)
            response += chunk
            if not chunk or len(response) > 1 << 24:
                raise self._failure()
        return response

    def _failure(self, detail: str = "") -> SlideError:
        """The error for a missing answer, from how the process ended."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            code = 0
        self._kill()
        if code == -signal.SIGXCPU:
            return SlideError(self.path.name, [slide_issue("sandbox_time", limit=self.sandbox_limits.cpu_seconds)])
        exit_reason = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return SlideError(self.path.name, [slide_issue("sandbox_crash", actual=detail or exit_reason)])

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        with self._lock:
            self._kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None and not pipe.closed:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        continue  # a request that nobody waits for
            self._pixels.close()
            self._folder.cleanup()


def main(descriptor: int) -> None:
    """The process itself: read limits and slide, then one region per line until the input ends."""
    setup = json.loads(sys.stdin.buffer.readline())
    sandbox_limits, limits = SandboxLimits(**setup["bounds"]), SlideLimits(**setup["limits"])
    _apply_limits(sandbox_limits)
    # What a decoder prints must not be taken for an answer.
    response_fd = os.dup(1)
    os.dup2(2, 1)
    if "function" in setup:
        _write_all(response_fd, _call(setup, sandbox_limits))
        return
    mpp = tuple(setup["mpp"]) if isinstance(setup["mpp"], list) else setup["mpp"]
    pixels = np.frombuffer(mmap.mmap(descriptor, 3 * limits.tile_pixels), np.uint8)
    try:
        slide = reader.open_slide(setup["path"], mpp, limits)
    except (SlideError, MemoryError) as error:
        os.write(response_fd, _error_response(error, sandbox_limits))
        return
    with slide:
        _write_all(response_fd, json.dumps({"refused": None, "answer": asdict(slide.metadata)}).encode() + b"\n")
        for line in sys.stdin.buffer:
            _extend_cpu_limit(sandbox_limits)
            x, y, width, height, level, plane = json.loads(line)
            try:
                region = slide.read(x, y, (width, height), level, None if plane == SHARPEST else plane)
            except (SlideError, MemoryError) as error:
                _write_all(response_fd, _error_response(error, sandbox_limits))
                continue
            pixels[: region.size] = region.reshape(-1)
            _write_all(response_fd, b"ok\n")


def _call(setup: dict[str, Any], sandbox_limits: SandboxLimits) -> bytes:
    path = Path(setup["path"])
    function = getattr(importlib.import_module(setup["module"]), setup["function"])
    try:
        answer = function(setup["arguments"])
    except (SlideError, MemoryError) as error:
        return _error_response(error, sandbox_limits)
    except Exception as error:  # a reader may raise anything on a hostile file
        issue = slide_issue("undecodable", actual=describe_error(error, [path]))
        return _error_response(SlideError(path.name, [issue]), sandbox_limits)
    return json.dumps({"refused": None, "answer": answer}).encode() + b"\n"


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _error_response(error: SlideError | MemoryError, sandbox_limits: SandboxLimits) -> bytes:
    is_memory_error = isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
    issues = (
        [slide_issue("sandbox_memory", limit=sandbox_limits.memory_bytes)]
        if is_memory_error
        else getattr(error, "issues", ())
    )
    return json.dumps({"refused": [asdict(issue) for issue in issues], "answer": None}).encode() + b"\n"


def _apply_limits(sandbox_limits: SandboxLimits) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (sandbox_limits.memory_bytes, sandbox_limits.memory_bytes))
    # no file except the one that tests a temporary folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE_BYTES, PAGE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (sandbox_limits.max_open_files, sandbox_limits.max_open_files))
    _extend_cpu_limit(sandbox_limits)


def _extend_cpu_limit(sandbox_limits: SandboxLimits) -> None:
    """CPU time counts from the start of the process, so the limit is extended for each request."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft_limit = int(usage.ru_utime + usage.ru_stime) + 1 + sandbox_limits.cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft_limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
