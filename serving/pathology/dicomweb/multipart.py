"""Receive multipart/related, each part into a file of its own (RFC 2387; DICOM PS3.18, 8.6.1.2).

Bytes go to the disk as they come, so memory use depends neither on the size of a part nor on their number.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from starlette.requests import ClientDisconnect

from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, slow_request
from serving.pathology.upload.tus_headers import too_large_problem

MEDIA_TYPE, INSTANCE_TYPE = "multipart/related", "application/dicom"
EXPECTED = f'{MEDIA_TYPE}; type="{INSTANCE_TYPE}"; boundary=...'
BUFFER_BYTES = 1 << 20
MAX_PART_HEADERS, MAX_PART_HEADER_BYTES = 16, 4_096


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    path: Path
    sha256: str
    size: int


def parse_boundary(request: Request) -> bytes:
    """The boundary named by Content-Type. Raises ProblemError where it is another type, or has other parts."""
    media_type, params = request.media_type(), request.media_type_params()
    parts_type = params.get("type", INSTANCE_TYPE).lower()
    if media_type != MEDIA_TYPE or parts_type != INSTANCE_TYPE:
        actual = f"{media_type}; type={parts_type}" if media_type == MEDIA_TYPE else media_type
        raise ProblemError(
            "unsupported_media_type", actual=repr(actual[:120]) if media_type else "not given", expected=EXPECTED
        )
    boundary = params.get("boundary", "")
    if not 0 < len(boundary) <= 70 or not boundary.isascii():
        raise ProblemError(
            "malformed_multipart",
            actual=f"The boundary is {boundary[:80]!r}",
            actual_zh=f"boundary 为 {boundary[:80]!r}",
            expected="one of 1 to 70 ASCII characters",
            expected_zh="1 至 70 个 ASCII 字符",
        )
    return boundary.encode()


async def receive_files(
    request: Request, folder: Path, max_files: int, max_bytes: int, idle_seconds: float
) -> list[ReceivedFile]:
    """Receive all parts into `folder`. Raises ProblemError or ClientDisconnect; what is in the folder then is void."""
    boundary = parse_boundary(request)
    content_length = request.headers.get("content-length")
    if content_length is not None and int(content_length) > max_bytes:
        raise too_large_problem(int(content_length), max_bytes)
    writer = _PartWriter(folder, boundary, max_files)
    total, buffer, more = 0, bytearray(), True
    try:
        while more:
            try:
                async with asyncio.timeout(idle_seconds):
                    message = await request.receive()
            except TimeoutError:
                raise slow_request(idle_seconds) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body, more = message.get("body", b""), message.get("more_body", False)
            buffer += body
            if (total := total + len(body)) > max_bytes:
                raise too_large_problem(total, max_bytes)
            if len(buffer) >= BUFFER_BYTES or not more:
                await asyncio.to_thread(writer.write, bytes(buffer))
                buffer.clear()
        return writer.finish()
    finally:
        writer.close()


class _PartWriter:
    """The parser's callbacks: a file for each part."""

    def __init__(self, folder: Path, boundary: bytes, max_files: int):
        self.folder, self.max_files = folder, max_files
        self.files: list[ReceivedFile] = []
        self.is_complete = False
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._header_name, self._header_value, self._content_type = b"", b"", b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_PART_HEADER_BYTES,
        )

    def write(self, data: bytes) -> None:
        """Raises ProblemError, or OSError if writing fails."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed_problem(str(error)) from error

    def finish(self) -> list[ReceivedFile]:
        """All files. Raises ProblemError where the closing boundary is missing."""
        if not self.is_complete:
            raise _malformed_problem("It ends before its closing boundary")
        return self.files

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin_part(self) -> None:
        if len(self.files) >= self.max_files:
            raise ProblemError(
                "upload_too_large",
                actual=f"{len(self.files) + 1:,} instances",
                actual_zh=f"{len(self.files) + 1:,} 个实例",
                expected=f"{self.max_files:,} instances",
                expected_zh=f"{self.max_files:,} 个实例",
            )
        self._content_type = b""
        self._header_name = self._header_value = b""

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.strip().lower() == b"content-type":
            self._content_type = self._header_value.partition(b";")[0].strip().lower()
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        content_type = self._content_type.decode("latin-1")
        if content_type != INSTANCE_TYPE:
            actual = f"a part of {content_type[:60]!r}" if content_type else "a part without a Content-Type"
            raise ProblemError("unsupported_media_type", actual=actual, expected=INSTANCE_TYPE)
        self._file = (self.folder / f"{len(self.files):06d}").open("xb")
        self._digest = hashlib.sha256()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None, "a part's headers end before its data"
        chunk = memoryview(data)[start:end]
        self._file.write(chunk)
        self._digest.update(chunk)

    def _end_part(self) -> None:
        assert self._file is not None, "a part's headers end before its data"
        self._file.flush()
        os.fsync(self._file.fileno())
        self.files.append(ReceivedFile(Path(self._file.name), self._digest.hexdigest(), self._file.tell()))
        self.close()

    def _end(self) -> None:
        self.is_complete = True


def _malformed_problem(actual: str) -> ProblemError:
    return ProblemError(
        "malformed_multipart",
        actual=actual[:1].upper() + actual[1:200].rstrip("."),
        expected="one part for each DICOM instance, and a closing boundary",
        expected_zh="每个 DICOM 实例一个部分，并以结束 boundary 收尾",
    )
