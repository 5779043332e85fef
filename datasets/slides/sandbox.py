"""Decode a slide in a confined process of its own, with limits on memory, CPU time and files.

with sandbox.open_slide("from_a_clinic.svs") as slide:     # SlideError also if the process crashed or hung
    tile = slide.read(0, 0, (256, 256))

A process serves one slide and many reads: it can open the slide's files and its libraries, and nothing else. Pixels
come back through shared memory, everything else as lines of JSON, which are checked here.
`python -m datasets.slides.sandbox` is that process; it is only started from here.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from datasets.confinement.child import ChildEndedError, ChildTimeoutError, ConfinedChild
from datasets.confinement.process import ConfinementError, ProcessLimits, confine
from datasets.slides import reader
from datasets.slides.byte_source import Size
from datasets.slides.errors import SlideError, SlideIssue, describe_error, slide_issue
from datasets.slides.formats.dicom.instance import is_dicom
from datasets.slides.formats.mrxs import data_folder
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from datasets.slides.reader import Pixels, Slide

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
    from datasets.slides.decoding import answers  # here: the process itself does without pydantic

    reader.parse_operator_mpp(Path(path).name, mpp, limits)
    process = _SandboxProcess(Path(path).absolute(), limits, sandbox_limits)
    try:
        answer = process.request({"mpp": mpp}, slide_paths(process.path))
        try:
            metadata = answers.parse_metadata(answer, limits)
        except answers.InvalidAnswerError as error:
            raise process.crash(str(error)) from error
    except BaseException:
        process.close()
        raise
    return Slide(metadata, process.read, process.close, limits, process.read)


def call_in_sandbox(
    function: Callable[[dict[str, Any]], dict[str, Any]],
    path: Path,
    arguments: dict[str, Any],
    readable: Sequence[Path],
    sandbox_limits: SandboxLimits = SANDBOX_LIMITS,
) -> dict[str, Any]:
    """Call a function of a module in a process of its own; arguments and result travel as JSON.

    path: the slide, for messages. readable: the files that it may read. Raises SlideError, also for anything that the
    function raises. The result is what the process says: the caller checks it.
    """
    process = _SandboxProcess(path, SLIDE_LIMITS, sandbox_limits)
    try:
        setup = {"module": function.__module__, "function": function.__name__, "arguments": arguments}
        return process.request(setup, readable)
    finally:
        process.close()


def slide_paths(path: Path) -> list[Path]:
    """The files and folders that a slide may consist of, by its name and the first bytes of the files beside it."""
    folder = data_folder(path)
    paths = [path, folder] if folder != path and folder.is_dir() else [path]
    if not _is_dicom_file(path):
        return paths
    return [*paths, *(each for each in path.parent.iterdir() if each != path and _is_dicom_file(each))]


def _is_dicom_file(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # a link, or unreadable: no part of a slide
    try:
        return is_dicom(os.pread(descriptor, 132, 0))
    except OSError:
        return False  # a folder
    finally:
        os.close(descriptor)


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


class _SandboxProcess:
    """The parent's side of the process: one request at a time, each with a deadline."""

    def __init__(self, path: Path, limits: SlideLimits, sandbox_limits: SandboxLimits):
        self.path, self.limits, self.sandbox_limits = path, limits, sandbox_limits
        self._lock = threading.Lock()
        descriptor, self._pixels = _shared_memory(3 * limits.tile_pixels)
        try:
            self._child = ConfinedChild(
                "datasets.slides.sandbox",
                [str(descriptor)],
                cpu_seconds=sandbox_limits.cpu_seconds,
                root=ROOT,
                descriptors=[descriptor],
            )
        finally:
            os.close(descriptor)

    def request(self, request: dict[str, Any], readable: Sequence[Path]) -> dict[str, Any]:
        """The answer to the first request. Raises SlideError for a refusal, or if there is no answer in time."""
        from datasets.slides.decoding import answers

        setup = request | {
            "path": str(self.path),
            "readable": [str(path) for path in readable],
            "limits": asdict(self.limits),
            "bounds": asdict(self.sandbox_limits),
        }
        with self._lock:
            line = self._exchange(json.dumps(setup).encode() + b"\n")
            try:
                return answers.parse_answer(line)
            except answers.RefusedError as error:
                raise SlideError(self.path.name, error.issues) from error
            except answers.InvalidAnswerError as error:
                raise self.crash(str(error)) from error

    def read(self, x: int, y: int, size: Size, level: int, plane: int = SHARPEST) -> Pixels:
        from datasets.slides.decoding import answers

        with self._lock:
            self._child.extend_cpu_limit()
            line = self._exchange(b"[%d,%d,%d,%d,%d,%d]\n" % (x, y, *size, level, plane))
            if line == b"ok\n":
                return np.frombuffer(self._pixels, np.uint8, 3 * size[0] * size[1]).reshape(size[1], size[0], 3).copy()
            try:
                answers.parse_answer(line)
            except answers.RefusedError as error:
                raise SlideError(self.path.name, error.issues) from error
            except answers.InvalidAnswerError as error:
                raise self.crash(str(error)) from error
            raise self.crash("an answer without pixels")

    def crash(self, reason: str) -> SlideError:
        """End the process, and say that it broke."""
        self._child.end()
        return SlideError(self.path.name, [slide_issue("sandbox_crash", actual=reason)])

    def _exchange(self, request: bytes) -> bytes:
        deadline = time.monotonic() + self.sandbox_limits.wall_seconds
        try:
            self._child.send(request, deadline)
            return self._child.read_line(deadline)
        except ChildTimeoutError as error:
            limit = self.sandbox_limits.wall_seconds
            raise SlideError(self.path.name, [slide_issue("sandbox_time", limit=limit)]) from error
        except ChildEndedError as error:
            if error.exit_code == -signal.SIGXCPU:
                limit = self.sandbox_limits.cpu_seconds
                raise SlideError(self.path.name, [slide_issue("sandbox_time", limit=limit)]) from error
            raise SlideError(self.path.name, [slide_issue("sandbox_crash", actual=error.reason)]) from error

    def close(self) -> None:
        with self._lock:
            self._child.close()
            self._pixels.close()


def _shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """(descriptor, memory) of a fixed size: a process that shrank it would kill those that read it."""
    descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor, mmap.mmap(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise


def main(descriptor: int) -> None:
    """The process itself: read limits and slide, then one region per line until the input ends."""
    setup = json.loads(sys.stdin.buffer.readline())
    sandbox_limits, limits = SandboxLimits(**setup["bounds"]), SlideLimits(**setup["limits"])
    # What a decoder prints must not be taken for an answer.
    response_fd = os.dup(1)
    os.dup2(2, 1)
    process_limits = ProcessLimits(
        memory_bytes=sandbox_limits.memory_bytes,
        cpu_seconds=sandbox_limits.cpu_seconds,
        file_bytes=PAGE_BYTES,  # what tests a temporary folder
        max_open_files=sandbox_limits.max_open_files,
    )
    try:
        folder = Path(setup["path"]).parent  # in which DICOM looks for the other files of a series
        confine(process_limits, [Path(path) for path in setup["readable"]], list_names=[folder])
    except ConfinementError as error:
        _write_all(response_fd, _refusal([slide_issue("sandbox_unconfined", actual=str(error))]))
        return
    if "function" in setup:
        _write_all(response_fd, _call(setup, sandbox_limits))
        return
    mpp = tuple(setup["mpp"]) if isinstance(setup["mpp"], list) else setup["mpp"]
    pixels = np.frombuffer(mmap.mmap(descriptor, 3 * limits.tile_pixels), np.uint8)
    try:
        slide = reader.open_slide(setup["path"], mpp, limits)
    except (SlideError, MemoryError) as error:
        _write_all(response_fd, _error_response(error, sandbox_limits))
        return
    with slide:
        _write_all(response_fd, json.dumps({"refused": None, "answer": asdict(slide.metadata)}).encode() + b"\n")
        for line in sys.stdin.buffer:
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
    if is_memory_error or not isinstance(error, SlideError):
        return _refusal([slide_issue("sandbox_memory", limit=sandbox_limits.memory_bytes)])
    return _refusal(error.issues)


def _refusal(issues: Sequence[SlideIssue]) -> bytes:
    return json.dumps({"refused": [asdict(issue) for issue in issues], "answer": None}).encode() + b"\n"


if __name__ == "__main__":
    main(int(sys.argv[1]))
