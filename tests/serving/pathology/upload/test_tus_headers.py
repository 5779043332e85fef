"""Properties of the headers of tus, for any text that a client could send."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.http.problems import ProblemError
from serving.core.http.request import Request
from serving.pathology.upload import metadata, tus_headers

T = TypeVar("T")
HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=200)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


def request_with(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw})


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_metadata_that_was_written_is_read_back(fields):
    header = tus_headers.format_metadata(fields)
    assert tus_headers.parse_metadata(request_with(upload_metadata=header), fields) == fields


def attempt(parse: Callable[[], T]) -> tuple[T | None, ProblemError | None]:
    """(what was parsed, the problem that kept it from being parsed)."""
    try:
        return parse(), None
    except ProblemError as problem:
        return None, problem


@given(HEADER_TEXT)
def test_any_metadata_is_read_or_refused(header):
    fields, problem = attempt(
        lambda: tus_headers.parse_metadata(request_with(upload_metadata=header), metadata.METADATA_FIELDS)
    )
    assert (fields is None) == (problem is not None)
    assert problem is None or problem.kind == "bad_header"


@given(st.dictionaries(st.sampled_from(metadata.METADATA_FIELDS), VALUES))
def test_any_values_of_the_known_fields_are_taken_or_refused(fields):
    description, problem = attempt(lambda: metadata.describe_upload(fields))
    if description is None:
        assert problem is not None
        assert problem.kind == "invalid_request"
        assert problem.errors


@given(st.text(max_size=60), st.sampled_from(["", "a/", "..\\", "/", "C:"]))
def test_no_path_of_a_group_leads_out_of_its_folder(path, prefix):
    fields = {"group": "a", "files": "2", "relativePath": prefix + path}
    description, _ = attempt(lambda: metadata.describe_upload(fields))
    if description is not None:
        assert description.group_file is not None
        names = description.group_file.path.split("/")
        assert not {"", ".", ".."} & set(names)
        assert not set("".join(names)) & set('\\:*?"<>|\0')
        assert PurePosixPath("/slide", description.group_file.path).is_relative_to("/slide")


@given(HEADER_TEXT)
def test_any_checksum_is_read_or_refused(header):
    checksum, problem = attempt(lambda: tus_headers.parse_checksum(request_with(upload_checksum=header)))
    assert problem is None or problem.kind == "bad_header"
    assert checksum is None or len(checksum.expected) == checksum.digest.digest_size


@given(
    st.binary(max_size=100),
    st.sampled_from(tus_headers.ALGORITHMS),
    st.sampled_from([str.lower, str.upper, str.title]),
    st.sampled_from([
        lambda digest: b64encode(digest).decode(),
        lambda digest: b64encode(digest).decode().rstrip("="),
        lambda digest: urlsafe_b64encode(digest).decode(),
        bytes.hex,
        lambda digest: digest.hex().upper(),
    ]),
)  # fmt: skip
def test_a_digest_is_the_same_in_every_notation(content, algorithm, spell, encode):
    digest = hashlib.new(algorithm, content).digest()
    checksum = tus_headers.parse_checksum(request_with(upload_checksum=f"{spell(algorithm)} {encode(digest)}"))
    assert checksum is not None
    assert checksum.expected == digest
    checksum.digest.update(content)
    assert checksum.mismatch() is None


@pytest.mark.parametrize(
    ("length", "deferral", "expected"),
    [("5", None, 5), (None, "1", tus_headers.DEFERRED), ("5", "1", None), (None, "0", None), ("-5", None, None),
     ("5.0", None, None), ("٥", None, None), (None, None, None), ("0", None, None), ("9" * 30, None, None)],
)  # fmt: skip
def test_a_length_is_announced_once(length, deferral, expected):
    raw = [(b"upload-length", (length or "").encode())] * (length is not None)
    raw += [(b"upload-defer-length", (deferral or "").encode())] * (deferral is not None)
    request = Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw})
    if expected is not None:
        assert tus_headers.parse_length(request, 10) == expected
    else:
        with pytest.raises(ProblemError):
            tus_headers.parse_length(request, 10)
