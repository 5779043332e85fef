"""Read the file of a batch in a confined process, as it may be a bomb or an attack on a library.

with ConfinedBatchFile(readers, path, "parquet", known_names, limits) as file:
    file.header(); for chunk in file.chunks(columns, keep, rows, missing): ...       # UnreadableFileError

The process can read this file and its libraries alone, and its memory is bounded. What it sends is plain arrays, which
are checked here: a process that was taken over sends anything.
`python -m serving.decisions.batch.files.confined` is that process; it is only started from here.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.confinement.child import ChildEndedError, ChildTimeoutError, ConfinedChild
from datasets.confinement.process import ConfinementError, ProcessLimits, confine
from datasets.errors import FieldError, UnreadableFileError

if TYPE_CHECKING:  # libraries that start threads are imported once the process is confined
    from datasets.schema import ColumnSchema
    from datasets.tables.chunk import Chunk
    from serving.decisions.batch.files.formats import BatchFile

MEMORY_BYTES = 2 * 2**30
MODULE = "serving.decisions.batch.files.confined"
ADDRESS_BYTES = 16 * 2**30  # libraries reserve much that they never use
CPU_SECONDS = 600  # of one chunk; a workbook is read as a whole
WALL_SECONDS = 900.0
MAX_LINE_BYTES = 1 << 28
MAX_COLUMNS = 1_000_000
MAX_CHUNK_ROWS = 5_000_000
MAX_TEXT_CHARS = 2_000  # of one message
PIECE_FACTOR = 4  # between what a piece may weigh and what is refused: row numbers and separators count too


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """What a file may become once it is read. cell_chars: of one text. piece_bytes: of the rows scored together.

    total_bytes: of all values.
    """

    cell_chars: int
    piece_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class FileHeader:
    """names: of the columns; None for NDJSON, where each row has its own. first_names: of its first record.

    rows: their number, where the format states it.
    """

    names: list[str] | None
    first_names: list[str]
    rows: int | None


class FileReaders:
    """Starts the processes that read files, one ahead: importing its libraries takes longer than a small batch.

    folder: on the disk of the uploads, in which each process has a folder of its own. memory_bytes: that reading one
    file may take, beside the file itself.
    """

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES):
        self.folder, self.memory_bytes = folder, memory_bytes
        self._lock = threading.Lock()
        self._spare: ConfinedChild | None = None
        self._is_closed = False

    def take(self) -> ConfinedChild:
        with self._lock:
            child, self._spare = self._spare, None
        if child is not None and child.process.poll() is None:
            return child
        if child is not None:
            child.close()
        return self._start()

    def prepare(self) -> None:
        """Start the next process, unless one waits already."""
        with self._lock:
            if self._spare is None and not self._is_closed:
                self._spare = self._start()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._spare is not None:
                self._spare.close()
                self._spare = None

    def _start(self) -> ConfinedChild:
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = [str(self.memory_bytes)]
        return ConfinedChild(MODULE, arguments, cpu_seconds=CPU_SECONDS, temporary_in=self.folder)


class ConfinedBatchFile:
    def __init__(
        self, readers: FileReaders, path: Path, format: str, known_names: Sequence[str], limits: ContentLimits
    ):
        self.readers, self.path, self.limits = readers, path, limits
        self._child = readers.take()
        self._link = self._child.temporary_folder / "upload"
        setup = {"path": str(self._link), "format": format, "known_names": list(known_names), "limits": asdict(limits)}
        try:
            _link_upload(path, self._link)  # the process was confined before it was known which file it will read
            self._send(setup)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ConfinedBatchFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._child.close()
        self.readers.prepare()

    def header(self) -> FileHeader:
        """Raises UnreadableFileError."""
        self._send({"call": "header"})
        answer = self._receive()
        names, first_names, rows = answer.get("names"), answer.get("first_names"), answer.get("rows")
        if (names is not None and not _are_names(names)) or first_names is None or not _are_names(first_names):
            raise self._broken("names of columns that are no texts")
        if rows is not None and (type(rows) is not int or rows < 0):
            raise self._broken("a number of rows that is none")
        return FileHeader(names, first_names, rows)

    def chunks(
        self, columns: Sequence[ColumnSchema], keep: Sequence[str], rows: int, missing: Sequence[str] = ()
    ) -> Iterator[Chunk]:
        """As BatchFile.chunks, within the limits on content. Raises UnreadableFileError."""
        from datasets.tables.chunk import Chunk, row_bytes
        from datasets.tables.transfer import InvalidFrameError, body_size, decode_frame

        schemas = [column.model_dump(mode="json") for column in columns]
        self._send({"call": "chunks", "columns": schemas, "keep": [*keep], "rows": rows, "missing": [*missing]})
        bounds, max_body_bytes = (MAX_CHUNK_ROWS, MAX_COLUMNS), PIECE_FACTOR * self.limits.piece_bytes + (1 << 24)
        next_row, total = 1, 0
        while "frame" in (answer := self._receive()):
            try:
                size = body_size(answer["frame"], *bounds)
                if size > max_body_bytes:
                    raise InvalidFrameError("it is too large")
                frame = decode_frame(answer["frame"], self._read_body(size), *bounds)
            except InvalidFrameError as error:
                raise self._broken(f"a chunk that is none: {error}") from error
            if answer.get("first_row") != next_row:
                raise self._broken("rows in another order")
            total += int(row_bytes(frame).sum())
            if total > self.limits.total_bytes:
                raise UnreadableFileError(
                    f"{self.path}: holds more than {self.limits.total_bytes:,} bytes once it is read. "
                    "Divide it, or leave out the long texts.",
                    f"{self.path}：读取后超过 {self.limits.total_bytes:,} 字节。请拆分，或去掉过长的文本。",
                )
            faults = self._parse_faults(answer.get("faults"), next_row, frame.height)
            yield Chunk(next_row, frame, faults)
            next_row += frame.height
            self._send({"call": "next"})

    def _parse_faults(self, items: Any, first_row: int, height: int) -> list[FieldError]:
        if not isinstance(items, list):
            raise self._broken("faults that are none")
        faults = []
        for item in items:
            row = item[4] if isinstance(item, list) and len(item) == 5 else None
            if type(row) is not int or not first_row <= row < first_row + height or not _are_texts(item[:4]):
                raise self._broken("a fault of no row")
            field, actual, expected, expected_zh = (text[:MAX_TEXT_CHARS] for text in item[:4])
            faults.append(FieldError(field, actual, expected, expected_zh, row))
        return faults

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._child.extend_cpu_limit()
            self._child.send(json.dumps(message).encode() + b"\n", time.monotonic() + WALL_SECONDS)
        except (ChildTimeoutError, ChildEndedError) as error:
            raise self._failure(error) from error

    def _receive(self) -> dict[str, Any]:
        """The next answer. Raises UnreadableFileError, also where the process says so."""
        try:
            line = self._child.read_line(time.monotonic() + WALL_SECONDS, MAX_LINE_BYTES)
        except (ChildTimeoutError, ChildEndedError) as error:
            raise self._failure(error) from error
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._broken("what is no answer") from error
        if not isinstance(answer, dict):
            raise self._broken("what is no answer")
        if "unreadable" in answer:
            raise UnreadableFileError(*(self._clean_message(answer.get(name)) for name in ("unreadable", "zh")))
        return answer

    def _read_body(self, size: int) -> bytes:
        try:
            return self._child.read_exactly(size, time.monotonic() + WALL_SECONDS)
        except (ChildTimeoutError, ChildEndedError) as error:
            raise self._failure(error) from error

    def _clean_message(self, message: object) -> str:
        """A message of the process, of bounded length and without what steers a terminal."""
        text = message[:MAX_TEXT_CHARS] if isinstance(message, str) else ""
        text = "".join(char if char.isprintable() else "\ufffd" for char in text)
        return text.replace(str(self._link), str(self.path))

    def _failure(self, error: ChildTimeoutError | ChildEndedError) -> UnreadableFileError:
        if isinstance(error, ChildTimeoutError):
            return UnreadableFileError(
                f"{self.path}: could not be read within {WALL_SECONDS:g} s. Divide it.",
                f"{self.path}：未能在 {WALL_SECONDS:g} 秒内读完，请拆分。",
            )
        memory = f"{self.readers.memory_bytes:,}"
        return UnreadableFileError(
            f"{self.path}: broke the process that reads it ({error.reason}), or needs more than {memory} bytes "
            "of memory. Write it again, in smaller row groups or as CSV.",
            f"{self.path}：读取进程异常终止（{error.reason}），或所需内存超过 {memory} 字节。"
            "请以较小的行组或 CSV 重新导出。",
        )

    def _broken(self, reason: str) -> UnreadableFileError:
        self._child.end()
        return UnreadableFileError(
            f"{self.path}: broke the process that reads it: it sent {reason}. Write it again.",
            f"{self.path}：读取进程返回了无效内容，请重新导出。",
        )


def _link_upload(path: Path, link: Path) -> None:
    try:
        os.link(path, link)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM):
            raise
        shutil.copyfile(path, link)  # on another disk, or one without links


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_COLUMNS and _are_texts(value)


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


# --- the process


def main(memory_bytes: int) -> None:
    response_fd = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    limits = ProcessLimits(memory_bytes=ADDRESS_BYTES, cpu_seconds=CPU_SECONDS, data_bytes=memory_bytes)
    try:
        confine(limits, [])  # and its temporary folder, where the file will be
    except ConfinementError as error:
        message = f"the file is not read, as {error}. See [confinement] required."
        _write(response_fd, {"unreadable": message, "zh": f"未读取文件：{error}。参见 [confinement] required。"})
        return
    from serving.decisions.batch.files.formats import BatchFile

    setup = json.loads(sys.stdin.buffer.readline() or "null")
    if setup is None:
        return  # nobody needs it
    file = BatchFile(Path(setup["path"]), setup["format"], setup["known_names"])
    try:
        for line in sys.stdin.buffer:
            _answer(file, json.loads(line), ContentLimits(**setup["limits"]), response_fd)
    except UnreadableFileError as error:
        _write(response_fd, {"unreadable": str(error), "zh": error.zh})
    except MemoryError:
        message = f"{file.path}: needs more than {memory_bytes:,} bytes of memory. Write it in smaller row groups."
        message_zh = f"{file.path}：所需内存超过 {memory_bytes:,} 字节。请以较小的行组重新导出。"
        _write(response_fd, {"unreadable": message, "zh": message_zh})


def _answer(file: BatchFile, request: dict[str, Any], limits: ContentLimits, response_fd: int) -> None:
    from serving.decisions.batch.files.formats import first_record

    if request["call"] != "header":
        _send_chunks(file, request, limits, response_fd)
        return
    names = file.column_names()
    first_names = [*(first_record(file.path) or ())] if names is None else []
    _write(response_fd, {"names": names, "first_names": first_names, "rows": file.row_count()})


def _send_chunks(file: BatchFile, request: dict[str, Any], limits: ContentLimits, response_fd: int) -> None:
    """One piece for each line of the parent, so that what is read ahead is bounded."""
    from datasets.schema import ColumnSchema
    from datasets.tables.transfer import encode_frame

    columns = tuple(ColumnSchema.model_validate(column) for column in request["columns"])
    for chunk in file.chunks(columns, request["keep"], request["rows"], request["missing"]):
        for piece in chunk.without_long_texts(limits.cell_chars).split_by_bytes(limits.piece_bytes):
            if not piece.frame.height:
                continue
            header, body = encode_frame(piece.frame)
            faults = [[each.field, each.actual, each.expected, each.expected_zh, each.row] for each in piece.faults]
            _write(response_fd, {"frame": header, "first_row": piece.first_row, "faults": faults}, body)
            if not sys.stdin.buffer.readline():
                return
    _write(response_fd, {"end": True})


def _write(descriptor: int, answer: dict[str, Any], body: bytes = b"") -> None:
    view = memoryview(json.dumps(answer).encode() + b"\n" + body)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main(int(sys.argv[1]))
