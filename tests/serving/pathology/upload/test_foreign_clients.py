"""Uploads as tus clients of other makers send them: their metadata, methods, headers and order of requests."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode, urlsafe_b64encode

import pytest

from tests.serving.pathology.conftest import FORM, PART_HEADERS, TUS_HEADERS, metadata, problem, sha256

BYTES = os.urandom(50_000)
UPPY_FIELDS = {  # as Uppy 6 sends them: null is written out
    "relativePath": "null",
    "name": "涂片 1.svs",
    "type": "application/octet-stream",
    "filetype": "application/octet-stream",
    "filename": "涂片 1.svs",
}


def creation_headers(fields: dict[str, object], length: int = len(BYTES)) -> dict[str, str]:
    return TUS_HEADERS | {"Upload-Length": str(length), "Upload-Metadata": metadata(**fields)}


async def send_whole(client, headers: dict[str, str], content: bytes = BYTES):
    created = await client.post("/v1/uploads", headers=headers)
    assert created.status_code == 201, created.text
    chunk_headers = PART_HEADERS | {"Upload-Offset": "0"}
    done = await client.patch(created.headers["location"], content=content, headers=chunk_headers)
    assert done.status_code == 204, done.text
    return (await client.get(f"/v1/slides/{done.headers['slide-id']}")).json()


def test_what_uppy_adds_of_its_own_is_ignored_and_given_back(clinic):
    fields = UPPY_FIELDS | {"sha256": sha256(BYTES), "webcamId": "7", "caption": ""} | FORM

    async def story(client, gateway):
        created = await client.post("/v1/uploads", headers=creation_headers(fields))
        assert created.status_code == 201
        head = await client.head(created.headers["location"], headers=TUS_HEADERS)
        assert head.headers["upload-metadata"] == metadata(**fields)
        chunk_headers = PART_HEADERS | {"Upload-Offset": "0"}
        done = await client.patch(created.headers["location"], content=BYTES, headers=chunk_headers)
        slide = (await client.get(f"/v1/slides/{done.headers['slide-id']}")).json()
        assert (slide["state"], slide["name"], slide["request"]) == ("verifying", "涂片_1.svs", FORM)
        head = await client.head(created.headers["location"], headers=TUS_HEADERS)
        assert "webcamId" not in head.headers["upload-metadata"], "it is not kept beyond the upload"

    clinic.run(story)


@pytest.mark.parametrize("absent", ["", "null", "undefined"])
def test_a_field_that_a_browser_left_empty_counts_as_absent(clinic, absent):
    fields = {"sha256": sha256(BYTES), "mpp": absent, "age": absent, "request": absent, "filename": absent} | FORM

    async def story(client, gateway):
        slide = await send_whole(client, creation_headers(fields))
        assert (slide["state"], slide["request"], slide["mpp"]) == ("verifying", FORM, None)
        missing = await client.post("/v1/uploads", headers=creation_headers(fields | {"stain": absent}))
        assert problem(missing) == (422, "invalid_request")
        assert [error["field"] for error in missing.json()["errors"]] == ["stain"]

    clinic.run(story)


def test_every_field_of_the_form_may_stand_in_the_metadata_as_text(clinic):
    fields = {"sha256": sha256(BYTES), "age": "46", "mpp": "0.25", "hpv_result": "positive", "hpv_genotype": "16, 52"}
    fields |= {"previous_result": "NILM", "menopause": "before"} | FORM

    async def story(client, gateway):
        slide = await send_whole(client, creation_headers(fields))
        assert slide["mpp"] == 0.25
        assert slide["request"] == FORM | {
            "age": 46,
            "hpv_result": "positive",
            "hpv_genotype": ["16", "52"],
            "previous_result": "NILM",
            "menopause": "before",
        }
        wrong = await client.post("/v1/uploads", headers=creation_headers(fields | {"age": "old", "mpp": "0,25"}))
        assert {error["field"] for error in wrong.json()["errors"]} == {"age", "mpp"}

    clinic.run(story)


@pytest.mark.parametrize(
    "header",
    [
        "filename YS5zdmc=,is_confidential",  # a name without a value, as in the protocol's own example
        "filename YS5zdmc=,empty ",
        "filename YS5zdmc=, spaced Yg==",
        "filename YS5zdmc=,",
        "filename YS5zdmc",  # without padding
        f"filename YS5zdmc=,thumbnail {b64encode(bytes([0xFF, 0xD8])).decode()}",  # no text
        "filename YS5zdmc=,my-own.key! Yg==",
        "reference eC5zdmc=",  # how the store names an inbox file
    ],
)
def test_metadata_may_be_written_in_any_form_of_the_protocol(clinic, header):
    async def story(client, gateway):
        headers = TUS_HEADERS | {"Upload-Length": "5", "Upload-Metadata": header}
        created = await client.post("/v1/uploads", headers=headers)
        assert created.status_code == 201, created.text
        assert (await client.head(created.headers["location"], headers=TUS_HEADERS)).status_code == 200

    clinic.run(story)


@pytest.mark.parametrize("header", ["filename ***", "a Yg==,a Yg==", "accession /w=="])
def test_metadata_that_cannot_be_read_is_refused(clinic, header):
    async def story(client, gateway):
        headers = TUS_HEADERS | {"Upload-Length": "5", "Upload-Metadata": header}
        assert problem(await client.post("/v1/uploads", headers=headers)) == (400, "bad_header")

    clinic.run(story)


@pytest.mark.parametrize("write", [str.upper, str.lower, lambda text: f" {text.upper()}\n"])
def test_a_sha256_is_taken_as_programs_of_windows_print_it(clinic, write):
    async def story(client, gateway):
        slide = await send_whole(client, creation_headers({"sha256": write(sha256(BYTES))} | FORM))
        assert (slide["state"], slide["sha256"]) == ("verifying", sha256(BYTES))
        bare = await send_whole(client, creation_headers({"filename": "a.svs"}, 3), b"abc")
        form = FORM | {"accession": "C26-2", "sha256": sha256(b"abc").upper()}
        upload = (await client.get(f"/v1/slides/{bare['slide_id']}")).json()["slide_id"]
        taken = await client.post("/v1/slides", json=form | {"reference": upload})
        assert (taken.status_code, taken.json()["state"], taken.json()["sha256"]) == (202, "verifying", sha256(b"abc"))

    clinic.run(story)


@pytest.mark.parametrize("algorithm", ["sha1", "SHA1", "sha-1", "SHA256", "sha-256", "Sha512", "MD5"])
@pytest.mark.parametrize("encode", [
    lambda digest: b64encode(digest).decode(),
    lambda digest: b64encode(digest).decode().rstrip("="),
    lambda digest: urlsafe_b64encode(digest).decode(),
    bytes.hex,
    lambda digest: digest.hex().upper(),
])  # fmt: skip
def test_a_checksum_is_taken_by_any_name_and_in_hex_too(clinic, algorithm, encode):
    name = algorithm.lower().replace("-", "")

    async def story(client, gateway):
        created = await client.post("/v1/uploads", headers=creation_headers({}))
        path, chunk_headers = created.headers["location"], PART_HEADERS | {"Upload-Offset": "0"}
        wrong = chunk_headers | {"Upload-Checksum": f"{algorithm} {encode(hashlib.new(name, b'x').digest())}"}
        assert problem(await client.patch(path, content=BYTES, headers=wrong)) == (460, "upload_checksum")
        right = chunk_headers | {"Upload-Checksum": f"{algorithm} {encode(hashlib.new(name, BYTES).digest())}"}
        assert (await client.patch(path, content=BYTES, headers=right)).status_code == 204

    clinic.run(story)


@pytest.mark.parametrize("override", ["PATCH", "patch"])
def test_post_stands_in_for_the_methods_that_a_proxy_refuses(clinic, override):
    async def story(client, gateway):
        created = await client.post("/v1/uploads", headers=creation_headers({"sha256": sha256(BYTES)} | FORM))
        path, as_head = created.headers["location"], TUS_HEADERS | {"X-HTTP-Method-Override": "HEAD"}
        assert (await client.post(path, headers=as_head)).headers["upload-offset"] == "0"
        chunk_headers = PART_HEADERS | {"Upload-Offset": "0", "X-HTTP-Method-Override": override}
        assert (await client.post(path, content=BYTES, headers=chunk_headers)).headers["upload-offset"] == str(
            len(BYTES)
        )
        for headers in (TUS_HEADERS, TUS_HEADERS | {"X-HTTP-Method-Override": "PUT"}):
            refused = await client.post(path, headers=headers)
            assert problem(refused) == (405, "method_not_allowed")
            assert "PATCH" in refused.headers["allow"]

    clinic.run(story)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_creation_may_bring_the_first_part(clinic, chunked):
    async def story(client, gateway):
        async def chunks():
            yield BYTES[:20_000]

        headers = creation_headers({"sha256": sha256(BYTES)} | FORM) | PART_HEADERS
        created = await client.post("/v1/uploads", headers=headers, content=chunks() if chunked else BYTES[:20_000])
        assert (created.status_code, created.headers["upload-offset"]) == (201, "20000")
        chunk_headers = PART_HEADERS | {"Upload-Offset": "20000"}
        done = await client.patch(created.headers["location"], content=BYTES[20_000:], headers=chunk_headers)
        assert (await client.get(f"/v1/slides/{done.headers['slide-id']}")).json()["state"] == "verifying"

    clinic.run(story)


def test_a_creation_that_brings_all_is_verified_at_once(clinic):
    async def story(client, gateway):
        headers = creation_headers({"sha256": sha256(BYTES)} | FORM) | PART_HEADERS
        created = await client.post("/v1/uploads", headers=headers, content=BYTES)
        assert created.headers["upload-offset"] == str(len(BYTES))
        assert (await client.get(f"/v1/slides/{created.headers['slide-id']}")).json()["state"] == "verifying"
        too_much = headers | {"Upload-Length": "10"}
        assert problem(await client.post("/v1/uploads", headers=too_much, content=BYTES)) == (413, "upload_too_large")
        other = headers | {"Content-Type": "image/tiff"}
        refused = await client.post("/v1/uploads", headers=other, content=BYTES)
        assert problem(refused) == (415, "unsupported_media_type")

    clinic.run(story)


def test_the_length_may_follow_with_the_last_part(clinic):
    """As clients do that send while a scanner still writes."""

    async def story(client, gateway):
        fields = metadata(**({"sha256": sha256(BYTES)} | FORM))
        headers = TUS_HEADERS | {"Upload-Defer-Length": "1", "Upload-Metadata": fields}
        path = (await client.post("/v1/uploads", headers=headers)).headers["location"]
        chunk_headers = PART_HEADERS | {"Upload-Offset": "0"}
        assert (await client.patch(path, content=BYTES[:9], headers=chunk_headers)).headers["upload-offset"] == "9"
        head = await client.head(path, headers=TUS_HEADERS)
        assert head.headers["upload-defer-length"] == "1"
        assert "upload-length" not in head.headers
        chunk_headers = PART_HEADERS | {"Upload-Offset": "9"}
        short = await client.patch(path, content=b"", headers=chunk_headers | {"Upload-Length": "8"})
        assert problem(short) == (400, "bad_header")
        done = await client.patch(path, content=BYTES[9:], headers=chunk_headers | {"Upload-Length": str(len(BYTES))})
        assert (await client.get(f"/v1/slides/{done.headers['slide-id']}")).json()["state"] == "verifying"
        again = PART_HEADERS | {"Upload-Offset": str(len(BYTES)), "Upload-Length": "7"}
        assert problem(await client.patch(path, content=b"", headers=again)) == (400, "bad_header")

    clinic.run(story)


def test_the_address_of_uploads_may_end_with_a_slash(clinic):
    async def story(client, gateway):
        assert (await client.options("/v1/uploads/")).headers["tus-version"] == "1.0.0"
        created = await client.post("/v1/uploads/", headers=creation_headers({}))
        assert created.status_code == 201
        moved = await client.head(f"{created.headers['location']}/", headers=TUS_HEADERS)
        assert (moved.status_code, moved.headers["location"]) == (308, created.headers["location"])

    clinic.run(story)


def test_one_tenant_cannot_stop_the_uploads_of_another(clinic, bearer):
    """A method override is checked like the method that it stands for."""

    async def story(client, gateway):
        path = (await client.post("/v1/uploads", headers=creation_headers({}))).headers["location"]
        override = TUS_HEADERS | {"X-HTTP-Method-Override": "DELETE"} | bearer  # a pathologist's
        assert problem(await client.post(path, headers=override)) == (403, "not_allowed")

    clinic.run(story)
