"""Headers of the tus protocol: length, offset, metadata and checksum, and the problems with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection
from typing import NamedTuple

from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response

VERSION = "1.0.0"
# The protocol requires SHA-1 of servers that verify checksums; it only guards a part against transmission errors.
ALGORITHMS = ("sha256", "sha1", "sha512", "md5")
NUMBER_PATTERN = re.compile(r"[0-9]{1,18}", re.ASCII)
DEFERRED = -1  # the length of an upload whose length its client does not know yet
METADATA_EXPECTED = "comma-separated names, each with a UTF-8 value in Base64", "以逗号分隔的名称与 Base64（UTF-8）值"


class Checksum(NamedTuple):
    """digest: updated with the part's bytes. expected: what it must be at the end."""

    digest: hashlib._Hash
    expected: bytes

    def mismatch(self) -> ProblemError | None:
        """The problem that the part has another digest than announced; None if it has not."""
        if self.digest.digest() == self.expected:
            return None
        actual, algorithm = self.digest.hexdigest(), self.digest.name
        return ProblemError(
            "upload_checksum",
            actual=f"{algorithm} of the part is {actual}",
            actual_zh=f"分段的 {algorithm} 为 {actual}",
            expected=self.expected.hex(),
        )


def tus_response(headers: dict[str, str], status: int = 204) -> Response:
    """An empty response with the protocol's version."""
    return Response(status_code=status, headers={"Tus-Resumable": VERSION, **headers})


def parse_length(request: Request, max_bytes: int) -> int:
    """Upload-Length, in bytes; DEFERRED where Upload-Defer-Length stands instead. Raises ProblemError."""
    deferral, header = request.headers.get("upload-defer-length"), request.headers.get("upload-length")
    if deferral is not None and header is None:
        if deferral != "1":
            raise bad_header_problem("Upload-Defer-Length", deferral, "1", "1")
        return DEFERRED
    if deferral is not None or header is None or not NUMBER_PATTERN.fullmatch(header) or not int(header):
        expected = "the total number of bytes, above 0", "大于 0 的总字节数"
        raise bad_header_problem("Upload-Length", header, *expected)
    if int(header) > max_bytes:
        raise too_large_problem(int(header), max_bytes)
    return int(header)


def parse_offset(request: Request) -> int:
    """Upload-Offset, in bytes. Raises ProblemError."""
    header = request.headers.get("upload-offset")
    if header is None or not NUMBER_PATTERN.fullmatch(header):
        raise bad_header_problem("Upload-Offset", header, "a number of bytes", "字节数")
    return int(header)


def parse_metadata(request: Request, text_fields: Collection[str]) -> dict[str, str]:
    """Decode Upload-Metadata: comma-separated names, each with a value in Base64 or without one.

    The protocol allows any bytes as a value: those that are no text are left out. Raises ProblemError where the value
    of one of the `text_fields` is no text, or the header is malformed.
    """
    metadata: dict[str, str] = {}
    names: set[str] = set()
    for item in map(str.strip, request.headers.get("upload-metadata", "").split(",")):
        name, _, value = item.partition(" ")
        content = decode_base64(value.strip())
        if name in names or content is None:
            raise bad_header_problem("Upload-Metadata", item, *METADATA_EXPECTED)
        if not name:  # a comma at the end
            continue
        names.add(name)
        try:
            metadata[name] = content.decode()
        except UnicodeDecodeError as error:
            if name in text_fields:
                raise bad_header_problem("Upload-Metadata", item, *METADATA_EXPECTED) from error
    return metadata


def format_metadata(metadata: dict[str, str]) -> str:
    """Metadata as Upload-Metadata has it."""
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items())


def parse_checksum(request: Request) -> Checksum | None:
    """The part's Upload-Checksum; None if it has none. Raises ProblemError.

    The protocol has the digest in Base64; hex digits, which many programs print, are taken too.
    """
    header = request.headers.get("upload-checksum")
    if header is None:
        return None
    algorithm, _, value = header.strip().partition(" ")
    name, value = algorithm.lower().replace("-", ""), value.strip()
    if name in ALGORITHMS:
        digest = hashlib.new(name, usedforsecurity=False)
        is_hex = len(value) == 2 * digest.digest_size and re.fullmatch("[0-9A-Fa-f]+", value)
        expected_digest = bytes.fromhex(value) if is_hex else decode_base64(value)
        if expected_digest is not None and len(expected_digest) == digest.digest_size:
            return Checksum(digest, expected_digest)
    raise bad_header_problem(
        "Upload-Checksum",
        header,
        f"one of {', '.join(ALGORITHMS)}, a space, and the digest in Base64",
        f"{'、'.join(ALGORITHMS)} 之一及 Base64 摘要",
    )


def decode_base64(text: str) -> bytes | None:
    """Base64 in either alphabet, with or without its padding; None if it is not Base64."""
    try:
        unpadded = text.translate(str.maketrans("-_", "+/")).rstrip("=").encode("ascii")
        return base64.b64decode(unpadded + b"=" * (-len(unpadded) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None


def bad_header_problem(name: str, value: str | None, expected: str, expected_zh: str) -> ProblemError:
    """A header that is missing or malformed."""
    actual = "missing" if value is None else repr(value[:80])
    return ProblemError(
        "bad_header",
        actual=f"{name} is {actual}",
        actual_zh=f"{name} 为 {actual}",
        expected=expected,
        expected_zh=expected_zh,
    )


def too_large_problem(actual_bytes: int, max_bytes: int) -> ProblemError:
    """More bytes than announced, or than one upload may have."""
    return ProblemError(
        "upload_too_large",
        actual=f"{actual_bytes:,} bytes",
        actual_zh=f"{actual_bytes:,} 字节",
        expected=f"{max_bytes:,} bytes",
        expected_zh=f"{max_bytes:,} 字节",
    )
