"""Resumable uploads: checksums, limits, termination, expiry, duplicates."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from base64 import b64encode
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from serving.core.db.schema import UPLOADS
from serving.core.http.request import slow_request
from serving.core.security.admission import DiskSpace, UploadPace
from tests.serving.conftest import Inside, bearer_of, settings_for
from tests.serving.pathology.conftest import FORM, PART_HEADERS, TUS_HEADERS, metadata, problem, sha256

BYTES = os.urandom(300_000)


async def create_upload(client, content: bytes = BYTES, **fields) -> httpx.Response:
    fields = {"filename": "a.svs", "sha256": sha256(content), "request": FORM} | fields
    fields = {name: value for name, value in fields.items() if value is not None}
    headers = TUS_HEADERS | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(**fields)}
    return await client.post("/v1/uploads", headers=headers)


async def send_part(client, path: str, content: bytes, offset: int, **headers: str) -> httpx.Response:
    return await client.patch(path, content=content, headers=PART_HEADERS | {"Upload-Offset": str(offset)} | headers)


def quarantined_file(running, slide: str) -> Path:
    return next((running.gateway.settings.paths.slides / slide / "quarantine").iterdir())


def test_options_names_version_extensions_and_checksum_algorithms(clinic):
    async def story(client, gateway):
        headers = (await client.options("/v1/uploads")).headers
        assert headers["tus-version"] == "1.0.0"
        extensions = {"creation", "creation-with-upload", "creation-defer-length", "termination", "checksum"}
        assert set(headers["tus-extension"].split(",")) == extensions | {"expiration"}
        assert set(headers["tus-checksum-algorithm"].split(",")) == {"sha256", "sha1", "sha512", "md5"}
        other = await client.post("/v1/uploads", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "5"})
        assert problem(other) == (412, "tus_version")
        assert other.headers["tus-version"] == "1.0.0"

    clinic.run(story)


def test_a_part_with_a_wrong_checksum_is_discarded_and_can_be_sent_again(clinic):
    async def story(client, gateway):
        path = (await create_upload(client)).headers["location"]
        assert (await send_part(client, path, BYTES[:1000], 0)).headers["upload-offset"] == "1000"
        check = b64encode(hashlib.sha256(BYTES[1000:2000]).digest()).decode()
        wrong = await send_part(client, path, b"x" * 1000, 1000, **{"Upload-Checksum": f"sha256 {check}"})
        assert problem(wrong) == (460, "upload_checksum")
        assert (await client.head(path, headers=TUS_HEADERS)).headers["upload-offset"] == "1000"
        right = await send_part(client, path, BYTES[1000:2000], 1000, **{"Upload-Checksum": f"sha256 {check}"})
        assert right.headers["upload-offset"] == "2000"
        strange = await send_part(client, path, BYTES[2000:], 2000, **{"Upload-Checksum": "crc32 AAAA"})
        assert problem(strange) == (400, "bad_header")
        assert (await send_part(client, path, BYTES[2000:], 2000)).status_code == 204

    clinic.run(story)


def test_a_wrong_sha256_fails_the_slide_and_the_file_may_be_sent_again(clinic):
    async def story(client, gateway):
        begun = await create_upload(client, sha256=sha256(b"another"))
        done = await send_part(client, begun.headers["location"], BYTES, 0)
        assert problem(done) == (422, "upload_sha256")
        slide = (await client.get(f"/v1/slides/{begun.headers['slide-id']}")).json()
        assert (slide["state"], slide["code"]) == ("failed", "sha256")
        [reason] = slide["reasons"]
        assert sha256(BYTES) in reason["en"]
        assert sha256(b"another") in reason["zh"]
        assert quarantined_file(clinic, begun.headers["slide-id"]).read_bytes() == BYTES
        assert problem(await send_part(client, begun.headers["location"], b"", 300_000)) == (410, "upload_gone")
        again = await create_upload(client)
        done = await send_part(client, again.headers["location"], BYTES, 0)
        assert done.status_code == 204
        assert done.headers["slide-id"] == again.headers["slide-id"]

    clinic.run(story)


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "POST"])
def test_a_client_that_returns_takes_its_upload_over_from_a_connection_that_died_silently(clinic, method):
    """A Wi-Fi that is lost ends no connection: the earlier request waits on for bytes that never come."""

    async def story(client, gateway):
        path = (await create_upload(client)).headers["location"]
        received, go_on = asyncio.Event(), asyncio.Event()

        async def silent():
            yield BYTES[:1000]
            received.set()
            await go_on.wait()
            yield BYTES[1000:]

        first = asyncio.create_task(send_part(client, path, silent(), 0))
        await received.wait()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        if method == "HEAD":
            response = await client.head(path, headers=TUS_HEADERS)
            assert (response.status_code, response.headers["upload-offset"]) == (200, "1000")
        elif method == "PATCH":
            assert (await send_part(client, path, BYTES[1000:], 1000)).headers["upload-offset"] == "300000"
        else:
            override = TUS_HEADERS | {"X-HTTP-Method-Override": "DELETE"}
            assert (await client.post(path, headers=override)).status_code == 204
        assert time.monotonic() - began < 2
        assert problem(await first) == (423, "upload_locked")
        go_on.set()

    clinic.run(story)


def test_an_upload_that_is_being_verified_is_locked(clinic):
    async def story(client, gateway):
        path = (await create_upload(client)).headers["location"]
        gateway.pathology.intake.locks.handover_seconds = 0.1
        async with gateway.pathology.intake.locks.hold(path.rpartition("/")[2]):
            for response in (
                await send_part(client, path, BYTES, 0),
                await client.delete(path, headers=TUS_HEADERS),
            ):
                assert problem(response) == (423, "upload_locked")
                assert response.headers["retry-after"] == "2"
            assert (await client.head(path, headers=TUS_HEADERS)).status_code == 423
        assert (await send_part(client, path, BYTES, 0)).status_code == 204

    clinic.run(story)


def test_bytes_beyond_the_announced_length_are_refused_and_the_others_kept(clinic):
    async def story(client, gateway):
        path = (await create_upload(client)).headers["location"]
        assert problem(await send_part(client, path, BYTES + b"more", 0)) == (413, "upload_too_large")

        async def unannounced():
            yield BYTES[:100_000]
            yield BYTES[100_000:] + b"more"

        assert problem(await send_part(client, path, unannounced(), 0)) == (413, "upload_too_large")
        offset = int((await client.head(path, headers=TUS_HEADERS)).headers["upload-offset"])
        assert (await send_part(client, path, BYTES[offset:], offset)).status_code == 204

    clinic.run(story)


def test_a_terminated_upload_is_removed_with_its_bytes(clinic):
    async def story(client, gateway):
        begun = await create_upload(client)
        path, slide = begun.headers["location"], begun.headers["slide-id"]
        await send_part(client, path, BYTES[:1000], 0)
        assert (await client.delete(path, headers=TUS_HEADERS)).status_code == 204
        assert not (gateway.settings.paths.slides / slide).exists()
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "cancelled"
        assert (await client.head(path, headers=TUS_HEADERS)).status_code == 410

    clinic.run(story)


def test_an_upload_without_activity_expires(clinic):
    async def story(client, gateway):
        lying, moving = await create_upload(client), await create_upload(client)
        await send_part(client, lying.headers["location"], BYTES[:1000], 0)
        old = "2020-01-01T00:00:00.000Z"
        with gateway.service.store.engine.begin() as connection:
            which = UPLOADS.c.slide == lying.headers["slide-id"]
            connection.execute(sa.update(UPLOADS).where(which).values(updated=old))
        await gateway.pathology.intake.sweep()
        slide = (await client.get(f"/v1/slides/{lying.headers['slide-id']}")).json()
        assert (slide["state"], slide["code"]) == ("failed", "upload_expired")
        assert not (gateway.settings.paths.slides / lying.headers["slide-id"]).exists()
        assert problem(await send_part(client, lying.headers["location"], BYTES[1000:], 1000)) == (410, "upload_gone")
        assert (await send_part(client, moving.headers["location"], BYTES, 0)).status_code == 204

    clinic.run(story)


def test_an_upload_complete_before_a_crash_is_verified_after_it(clinic):
    """The process died between the last byte and the verification; the next sweep continues."""

    async def story(client, gateway):
        begun = await create_upload(client)
        quarantined_file(clinic, begun.headers["slide-id"]).write_bytes(BYTES)
        await gateway.pathology.intake.sweep()
        assert (await client.get(f"/v1/slides/{begun.headers['slide-id']}")).json()["state"] == "verifying"

    clinic.run(story)


def test_form_and_sha256_may_follow_the_bytes(clinic):
    async def story(client, gateway):
        begun = await create_upload(client, sha256=None, request=None)
        path, slide = begun.headers["location"], begun.headers["slide-id"]
        assert (await send_part(client, path, BYTES, 0)).status_code == 204
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "uploading"
        submission = FORM | {"reference": path.rpartition("/")[2], "sha256": sha256(BYTES), "mpp": 0.25}
        taken = await client.post("/v1/slides", json=submission)
        assert (taken.status_code, taken.json()["state"], taken.json()["slide_id"]) == (202, "verifying", slide)
        assert taken.json()["mpp"] == 0.25
        again = await client.post("/v1/slides", json=submission)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")

    clinic.run(story)


def test_a_slide_uploaded_twice_is_one_slide_unless_the_accession_number_differs(clinic):
    async def story(client, gateway):
        first = await create_upload(client)
        await send_part(client, first.headers["location"], BYTES, 0)
        again = await create_upload(client)
        done = await send_part(client, again.headers["location"], BYTES, 0)
        assert done.headers["slide-id"] == first.headers["slide-id"]
        assert done.headers["idempotent-replayed"] == "true"
        twin = (await client.get(f"/v1/slides/{again.headers['slide-id']}")).json()
        assert (twin["state"], twin["code"]) == ("cancelled", "duplicate")
        assert not (gateway.settings.paths.slides / again.headers["slide-id"]).exists()
        other = await create_upload(client, request=FORM | {"accession": "C26-00118"})
        done = await send_part(client, other.headers["location"], BYTES, 0)
        slide = (await client.get(f"/v1/slides/{done.headers['slide-id']}")).json()
        assert slide["slide_id"] == other.headers["slide-id"]
        assert [note["code"] for note in slide["notes"]] == ["same_content"]
        assert first.headers["slide-id"] in slide["notes"][0]["en"]

    clinic.run(story)


def test_an_idempotency_key_creates_one_upload(clinic):
    async def story(client, gateway):
        headers = TUS_HEADERS | {"Upload-Length": "9", "Idempotency-Key": "once"}
        first, again = [await client.post("/v1/uploads", headers=headers) for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.headers["location"] == again.headers["location"]
        assert again.headers["idempotent-replayed"] == "true"
        assert len(list(gateway.settings.paths.slides.glob("*/quarantine"))) == 1
        other = await client.post("/v1/uploads", headers=headers | {"Upload-Length": "10"})
        assert problem(other) == (409, "key_reused")

    clinic.run(story)


def test_the_settings_limit_the_number_and_size_of_open_uploads(made, tmp_path):
    settings = settings_for(
        tmp_path / "bundles",
        made,
        tmp_path,
        YUHENG_SLIDES_MAX_OPEN_UPLOADS="2",
        YUHENG_SLIDES_MAX_UPLOAD_BYTES="1000000",
    )
    with Inside(settings) as running:

        async def story(client, gateway):
            first = await create_upload(client)
            assert (await create_upload(client, request=None)).status_code == 201
            assert problem(await create_upload(client)) == (503, "overloaded")
            await send_part(client, first.headers["location"], BYTES, 0)
            assert (await create_upload(client)).status_code == 201
            big = TUS_HEADERS | {"Upload-Length": "1000001"}
            assert problem(await client.post("/v1/uploads", headers=big)) == (413, "upload_too_large")

        running.run(story)


def test_the_disk_is_promised_once_and_not_all_of_it_to_one_clinic(made, tmp_path, monkeypatch):
    monkeypatch.setattr(DiskSpace, "available", lambda disk: 10_000)
    settings = settings_for(tmp_path / "bundles", made, tmp_path, YUHENG_ACCESS_REQUIRED="true")
    with Inside(settings) as running:

        async def story(client, gateway):
            async def announce(tenant, length):
                clinic = bearer_of(settings, "clinic", tenant=tenant)
                headers = TUS_HEADERS | clinic | {"Upload-Length": str(length)}
                return await client.post("/v1/uploads", headers=headers)

            too_large = await announce("a", 10_001)
            assert problem(too_large) == (507, "no_space")
            assert "10,000 bytes are free for it and 10,001 were announced" in too_large.json()["detail"]
            assert (await announce("a", 6_000)).status_code == 201  # nobody else sends anything
            assert problem(await announce("a", 6_000)) == (507, "no_space")
            assert (await announce("b", 3_000)).status_code == 201
            assert problem(await announce("a", 500)) == (507, "no_space")  # more than half, while b sends
            assert problem(await announce("b", 1_500)) == (507, "no_space")  # beside what a announced
            assert (await announce("b", 1_000)).status_code == 201

        running.run(story)


def test_a_part_leaves_room_on_the_disk_for_the_store(clinic, monkeypatch):
    async def story(client, gateway):
        begun = await create_upload(client)
        monkeypatch.setattr(DiskSpace, "available", lambda disk: 0)
        full = await send_part(client, begun.headers["location"], BYTES, 0)
        assert problem(full) == (507, "no_space")
        monkeypatch.undo()
        assert (await send_part(client, begun.headers["location"], BYTES, 0)).status_code == 204

    clinic.run(story)


def test_a_part_that_comes_a_byte_at_a_time_is_ended_and_may_be_resumed(clinic, monkeypatch):
    async def story(client, gateway):
        begun = await create_upload(client)
        monkeypatch.setattr(UploadPace, "fault", lambda pace, received: slow_request(1.0) if received > 2 else None)

        async def bytes_now_and_then():
            for byte in BYTES:
                yield bytes([byte])

        slow = await send_part(client, begun.headers["location"], bytes_now_and_then(), 0)
        assert problem(slow) == (408, "slow_request")
        monkeypatch.undo()
        state = await client.head(begun.headers["location"], headers=TUS_HEADERS)
        offset = int(state.headers["upload-offset"])
        assert (await send_part(client, begun.headers["location"], BYTES[offset:], offset)).status_code == 204

    clinic.run(story)


def test_all_errors_of_an_upload_are_reported_together(clinic):
    async def story(client, gateway):
        bad = await create_upload(client, request=FORM | {"stain": "blue", "age": -1}, sha256="ab", mpp="wide")
        assert problem(bad) == (422, "invalid_request")
        assert {error["field"] for error in bad.json()["errors"]} == {"stain", "age", "sha256", "mpp"}
        bad = await create_upload(client, request=json.dumps(FORM)[:-1] + ', "accession": "C2026-000002"}')
        [error] = bad.json()["errors"]
        assert (error["field"], error["found"]) == ("request", "'accession' stands twice in one object")
        for headers in (
            *({"Upload-Length": "0"}, {"Upload-Length": "x"}, {"Upload-Defer-Length": "2"}, {}),
            {"Upload-Defer-Length": "1", "Upload-Length": "5"},
            {"Upload-Length": "5", "Upload-Concat": "partial"},
        ):
            assert problem(await client.post("/v1/uploads", headers=TUS_HEADERS | headers)) == (400, "bad_header")
        malformed = TUS_HEADERS | {"Upload-Length": "5", "Upload-Metadata": "filename ***"}
        assert problem(await client.post("/v1/uploads", headers=malformed)) == (400, "bad_header")

    clinic.run(story)


def test_cancelling_a_slide_removes_its_upload(clinic):
    async def story(client, gateway):
        begun = await create_upload(client)
        slide = begun.headers["slide-id"]
        response = await client.post(f"/v1/slides/{slide}/cancel")
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        assert not (gateway.settings.paths.slides / slide).exists()
        assert problem(await send_part(client, begun.headers["location"], BYTES, 0)) == (410, "upload_gone")

    clinic.run(story)
