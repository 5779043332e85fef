"""Headers of the tus protocol: metadata of an upload, checksum of a part, and the problems with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from datasets.errors import FieldError
from serving.core.http import validation
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response
from serving.core.http.validation import find_json_ambiguity
from serving.pathology.slides import storage
from serving.pathology.upload import request_form

VERSION = "1.0.0"
# The protocol requires SHA-1 of servers that verify checksums; it only guards a part against transmission errors.
ALGORITHMS = ("sha256", "sha1")
NUMBER_PATTERN = re.compile(r"[0-9]{1,18}", re.ASCII)
METADATA_FIELDS = ("filename", "sha256", "request", *request_form.REQUIRED_FIELDS, "mpp")
CLIENT_FIELDS = ("filetype", "name", "type")  # added by tus clients in browsers


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
    """Upload-Length, in bytes. Raises ProblemError."""
    header = request.headers.get("upload-length")
    if header is None or not NUMBER_PATTERN.fullmatch(header) or not int(header):
        expected = "the total number of bytes, above 0", "大于 0 的总字节数"
        raise bad_header_problem("Upload-Length", header, *expected)
    if int(header) > max_bytes:
        raise too_large_problem(int(header), max_bytes)
    return int(header)


def parse_metadata(request: Request) -> dict[str, str]:
    """Decode Upload-Metadata: comma-separated names, each with a value in Base64. Raises ProblemError."""
    header = request.headers.get("upload-metadata")
    metadata: dict[str, str] = {}
    expected = "comma-separated names, each with a UTF-8 value in Base64", "以逗号分隔的名称与 Base64（UTF-8）值"
    for item in header.split(",") if header else ():
        name, _, value = item.strip().partition(" ")
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise bad_header_problem("Upload-Metadata", item, *expected) from error
        if not name or name in metadata:
            raise bad_header_problem("Upload-Metadata", item, *expected)
        metadata[name] = decoded
    return metadata


def parse_upload_form(metadata: dict[str, str]) -> tuple[request_form.RequestForm | None, str | None, str]:
    """(request form or None, announced SHA-256 or None, sanitised file name). Raises ProblemError with all errors."""
    allowed_text = ", ".join(METADATA_FIELDS)
    form_payload: dict[str, Any] = {
        name: metadata[name] for name in (*request_form.REQUIRED_FIELDS, "mpp") if name in metadata
    }
    errors = [
        FieldError(validation.shorten(name), "unknown", f"one of {allowed_text}", f"{allowed_text} 之一")
        for name in metadata
        if name not in (*METADATA_FIELDS, *CLIENT_FIELDS)
    ]
    if "request" in metadata:
        try:
            request_json = orjson.loads(metadata["request"])
        except orjson.JSONDecodeError:
            request_json = None
        if isinstance(request_json, dict):
            if ambiguity := find_json_ambiguity(metadata["request"].encode(), request_json):
                errors.append(FieldError("request", ambiguity[0], "each name once", "每个名称只出现一次"))
            errors += [
                FieldError(name, "given twice with different values", "a single value", "单一取值")
                for name in form_payload
                if name in request_json and str(request_json[name]) != form_payload[name]
            ]
            form_payload = request_json | {
                name: value for name, value in form_payload.items() if name not in request_json
            }
        else:
            errors.append(
                FieldError("request", "not a JSON object", "the request form as a JSON object", "JSON 对象形式的申请单")
            )
    sha256 = metadata.get("sha256")
    if sha256 is not None:
        errors += validation.SHA256.errors("sha256", sha256)
    form = None
    if form_payload:
        form, form_errors = request_form.validate(request_form.parse_mpp(form_payload))
        errors += form_errors
    if errors:
        raise ProblemError("invalid_request", errors=errors)
    return form, sha256, storage.sanitize_name(metadata.get("filename") or metadata.get("name") or "slide")


def parse_checksum(request: Request) -> Checksum | None:
    """The part's Upload-Checksum; None if it has none. Raises ProblemError."""
    header = request.headers.get("upload-checksum")
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    expected = (
        f"one of {', '.join(ALGORITHMS)}, a space, and the digest in Base64",
        f"{'、'.join(ALGORITHMS)} 之一及 Base64 摘要",
    )
    if algorithm not in ALGORITHMS:
        raise bad_header_problem("Upload-Checksum", header, *expected)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with suppress(binascii.Error, ValueError):
        if len(expected_digest := base64.b64decode(value, validate=True)) == digest.digest_size:
            return Checksum(digest, expected_digest)
    raise bad_header_problem("Upload-Checksum", header, *expected)


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
