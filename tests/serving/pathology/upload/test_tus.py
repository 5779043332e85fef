"""A slide sent in parts: cut anywhere it goes on, wrong it is refused, left lying it goes away; memory stays flat."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import threading
import time
from base64 import b64encode
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed

from serving.core.db.schema import UPLOADS
from serving.pathology.slides import storage
from tests.serving.conftest import Inside, Service, environment, settings_for
from tests.serving.pathology.conftest import FORM, PART, TUS, metadata, sha256

BYTES = os.urandom(300_000)


async def begin(client, content: bytes = BYTES, **told) -> httpx.Response:
    told = {"filename": "a.svs", "sha256": sha256(content), "request": FORM} | told
    told = {name: value for name, value in told.items() if value is not None}
    headers = TUS | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(**told)}
    return await client.post("/v1/uploads", headers=headers)


async def send(client, place: str, content: bytes, offset: int, **headers: str) -> httpx.Response:
    return await client.patch(place, content=content, headers=PART | {"Upload-Offset": str(offset)} | headers)


def kept(running, slide: str) -> Path:
    return next((running.gateway.settings.paths.slides / slide / "quarantine").iterdir())


def problem(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


# --- with a client that is not ours


def tus(service: Service, file: Path, **told) -> object:
    told = {"filename": file.name, "sha256": sha256(file.read_bytes())} | FORM | told
    return TusClient(service.url + "/v1/uploads").uploader(str(file), chunk_size=100_000, metadata=told)


def test_a_tus_client_sends_a_slide_and_resumes_it(slide_service, tmp_path):
    file = tmp_path / "smear 1.svs"
    file.write_bytes(BYTES + b"tus")
    first = tus(slide_service, file)
    first.upload(stop_at=200_000)
    again = TusClient(slide_service.url + "/v1/uploads").uploader(str(file), url=first.url, chunk_size=70_000)
    assert again.offset == 200_000
    again.upload()
    slide = again.request.response_headers["slide-id"]
    found = httpx.get(f"{slide_service.url}/v1/slides/{slide}").json()
    assert (found["state"], found["name"], found["bytes"]) == ("verifying", "smear_1.svs", file.stat().st_size)
    assert found["sha256"] == sha256(file.read_bytes())
    assert found["request"] == FORM
    folder = Path(slide_service.environ["YUHENG_SLIDES"]) / slide / "quarantine"
    assert (folder / "smear_1.svs").read_bytes() == file.read_bytes()


def test_a_tus_client_checks_its_parts(slide_service, tmp_path):
    file = tmp_path / "a.svs"
    file.write_bytes(BYTES + b"checked")
    client = TusClient(slide_service.url + "/v1/uploads")
    told = {"filename": "a.svs", "sha256": sha256(file.read_bytes())} | FORM
    uploader = client.uploader(str(file), chunk_size=100_000, metadata=told, upload_checksum=True)
    uploader.upload()
    assert uploader.offset == file.stat().st_size


def test_a_tus_client_is_told_of_a_wrong_sha256(slide_service, tmp_path):
    file = tmp_path / "a.svs"
    file.write_bytes(BYTES + b"wrong")
    with pytest.raises(TusUploadFailed) as refused:
        tus(slide_service, file, sha256=sha256(b"other")).upload()
    assert refused.value.status_code == 422
    assert sha256(file.read_bytes()).encode() in refused.value.response_content


@pytest.mark.parametrize("cut", [1, 65_537, 262_144, 299_999])
def test_a_line_cut_at_any_byte_loses_nothing_that_came(slide_service, cut):
    """The socket is closed in the midst of a part, as a network does it."""
    content = BYTES + f"cut at {cut}".encode()
    with httpx.Client(base_url=slide_service.url) as client:
        told = metadata(filename="a.svs", sha256=sha256(content), request=FORM)
        made = client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(len(content)), "Upload-Metadata": told})
        place = made.headers["location"]
        with socket.create_connection(("127.0.0.1", slide_service.port)) as line:
            head = PART | {"Host": "x", "Upload-Offset": "0", "Content-Length": str(len(content))}
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            line.sendall(f"PATCH {place} HTTP/1.1\r\n{lines}\r\n".encode() + content[:cut])
        offset = None
        for _ in range(100):
            asked = client.head(place, headers=TUS)
            if asked.status_code == 200:
                offset = int(asked.headers["upload-offset"])
                break
            assert asked.status_code == 423
            time.sleep(0.05)
        assert offset is not None
        assert offset <= cut
        part = PART | {"Upload-Offset": str(offset)}
        done = client.patch(place, content=content[offset:], headers=part)
        for _ in range(100):  # the other side may notice the cut only now
            if done.status_code not in (409, 423):
                break
            time.sleep(0.05)
            offset = int(client.head(place, headers=TUS).headers.get("upload-offset", offset))
            done = client.patch(place, content=content[offset:], headers=PART | {"Upload-Offset": str(offset)})
        assert done.status_code == 204, done.text
        found = client.get(f"/v1/slides/{done.headers['slide-id']}").json()
        assert (found["state"], found["sha256"]) == ("verifying", sha256(content))


def test_a_service_killed_in_the_midst_of_an_upload_goes_on_where_the_file_ends(made, tmp_path):
    running = Service(environment(tmp_path / "bundles", made, tmp_path), tmp_path / "log")
    running.start(ready=False)
    content = os.urandom(3_000_000)
    try:
        told = metadata(filename="a.svs", sha256=sha256(content), request=FORM)
        begun = httpx.post(
            running.url + "/v1/uploads",
            headers=TUS | {"Upload-Length": str(len(content)), "Upload-Metadata": told},
        )
        place, slide = running.url + begun.headers["location"], begun.headers["slide-id"]
        file = Path(running.environ["YUHENG_SLIDES"]) / slide / "quarantine" / "a.svs"
        dying = threading.Event()

        def slowly():
            yield content[:2_500_000]
            dying.wait(20)

        def sending():
            with pytest.raises(httpx.TransportError):
                httpx.patch(place, content=slowly(), headers=PART | {"Upload-Offset": "0"}, timeout=30)

        sender = threading.Thread(target=sending)
        sender.start()
        deadline = time.monotonic() + 20
        while file.stat().st_size < 2_000_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        running.kill()
        dying.set()
        sender.join()
        there = file.stat().st_size
        assert there >= 2_000_000
        running.start(ready=False)
        offset = int(httpx.head(place, headers=TUS).headers["upload-offset"])
        assert offset == there
        done = httpx.patch(place, content=content[offset:], headers=PART | {"Upload-Offset": str(offset)})
        assert done.status_code == 204, done.text
        assert httpx.get(f"{running.url}/v1/slides/{slide}").json()["state"] == "verifying"
    finally:
        running.kill()


def test_a_disk_that_takes_no_more_is_told_and_the_upload_goes_on_when_it_does(made, tmp_path):
    """A limit on the size of files stands for a full disk: writes beyond it fail."""
    size = 700_000

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    content = os.urandom(1_000_000)
    running = Service(environment(tmp_path / "bundles", made, tmp_path), tmp_path / "log")
    running.start(ready=False, prepare=limited)
    try:
        told = metadata(filename="a.svs", sha256=sha256(content), request=FORM)
        begun = httpx.post(
            running.url + "/v1/uploads",
            headers=TUS | {"Upload-Length": str(len(content)), "Upload-Metadata": told},
        )
        place = running.url + begun.headers["location"]
        full = httpx.patch(place, content=content, headers=PART | {"Upload-Offset": "0"})
        assert problem(full) == (507, "no_space")
        assert full.headers["retry-after"]
        assert httpx.get(running.url + "/healthz/live").status_code == 200
        for process in psutil.Process(running.process.pid).children(recursive=True):
            process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        offset = int(httpx.head(place, headers=TUS).headers["upload-offset"])
        assert 0 < offset <= size
        done = httpx.patch(place, content=content[offset:], headers=PART | {"Upload-Offset": str(offset)})
        assert done.status_code == 204, done.text
    finally:
        running.kill()


# --- in this process


def test_what_is_spoken_is_told(clinic):
    async def story(client, gateway):
        told = (await client.options("/v1/uploads")).headers
        assert told["tus-version"] == "1.0.0"
        assert set(told["tus-extension"].split(",")) == {"creation", "termination", "checksum", "expiration"}
        assert set(told["tus-checksum-algorithm"].split(",")) == {"sha256", "sha1"}
        other = await client.post("/v1/uploads", headers={"Tus-Resumable": "0.2.2", "Upload-Length": "5"})
        assert problem(other) == (412, "tus_version")
        assert other.headers["tus-version"] == "1.0.0"

    clinic.run(story)


def test_a_part_with_a_wrong_checksum_is_not_kept_and_can_be_sent_again(clinic):
    async def story(client, gateway):
        place = (await begin(client)).headers["location"]
        assert (await send(client, place, BYTES[:1000], 0)).headers["upload-offset"] == "1000"
        check = b64encode(hashlib.sha256(BYTES[1000:2000]).digest()).decode()
        wrong = await send(client, place, b"x" * 1000, 1000, **{"Upload-Checksum": f"sha256 {check}"})
        assert problem(wrong) == (460, "upload_checksum")
        assert (await client.head(place, headers=TUS)).headers["upload-offset"] == "1000"
        right = await send(client, place, BYTES[1000:2000], 1000, **{"Upload-Checksum": f"sha256 {check}"})
        assert right.headers["upload-offset"] == "2000"
        strange = await send(client, place, BYTES[2000:], 2000, **{"Upload-Checksum": "md5 AAAA"})
        assert problem(strange) == (400, "bad_header")
        assert (await send(client, place, BYTES[2000:], 2000)).status_code == 204

    clinic.run(story)


def test_a_wrong_sha256_fails_the_slide_and_the_same_may_be_sent_again(clinic):
    async def story(client, gateway):
        begun = await begin(client, sha256=sha256(b"another"))
        done = await send(client, begun.headers["location"], BYTES, 0)
        assert problem(done) == (422, "upload_sha256")
        found = (await client.get(f"/v1/slides/{begun.headers['slide-id']}")).json()
        assert (found["state"], found["code"]) == ("failed", "sha256")
        [reason] = found["reasons"]
        assert sha256(BYTES) in reason["en"]
        assert sha256(b"another") in reason["zh"]
        assert kept(clinic, begun.headers["slide-id"]).read_bytes() == BYTES
        assert problem(await send(client, begun.headers["location"], b"", 300_000)) == (410, "upload_gone")
        again = await begin(client)
        done = await send(client, again.headers["location"], BYTES, 0)
        assert done.status_code == 204
        assert done.headers["slide-id"] == again.headers["slide-id"]

    clinic.run(story)


def test_two_writers_at_once_are_one_too_many(clinic):
    async def story(client, gateway):
        place = (await begin(client)).headers["location"]
        going, go_on = asyncio.Event(), asyncio.Event()

        async def slowly():
            yield BYTES[:1000]
            going.set()
            await go_on.wait()
            yield BYTES[1000:]

        first = asyncio.create_task(send(client, place, slowly(), 0))
        await going.wait()
        await asyncio.sleep(0.05)
        assert problem(await send(client, place, BYTES, 0)) == (423, "upload_locked")
        assert (await client.head(place, headers=TUS)).status_code == 423
        assert problem(await client.delete(place, headers=TUS)) == (423, "upload_locked")
        go_on.set()
        assert (await first).status_code == 204
        assert problem(await send(client, place, BYTES, 0)) == (409, "upload_offset")

    clinic.run(story)


def test_more_than_was_announced_is_refused_and_the_rest_stands(clinic):
    async def story(client, gateway):
        place = (await begin(client)).headers["location"]
        assert problem(await send(client, place, BYTES + b"more", 0)) == (413, "upload_too_large")

        async def unannounced():
            yield BYTES[:100_000]
            yield BYTES[100_000:] + b"more"

        assert problem(await send(client, place, unannounced(), 0)) == (413, "upload_too_large")
        offset = int((await client.head(place, headers=TUS)).headers["upload-offset"])
        assert (await send(client, place, BYTES[offset:], offset)).status_code == 204

    clinic.run(story)


def test_an_upload_given_up_is_removed_with_its_bytes(clinic):
    async def story(client, gateway):
        begun = await begin(client)
        place, slide = begun.headers["location"], begun.headers["slide-id"]
        await send(client, place, BYTES[:1000], 0)
        assert (await client.delete(place, headers=TUS)).status_code == 204
        assert not (gateway.settings.paths.slides / slide).exists()
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "cancelled"
        assert (await client.head(place, headers=TUS)).status_code == 410

    clinic.run(story)


def test_an_upload_that_nobody_sends_on_expires(clinic):
    async def story(client, gateway):
        lying, moving = await begin(client), await begin(client)
        await send(client, lying.headers["location"], BYTES[:1000], 0)
        old = "2020-01-01T00:00:00.000Z"
        with gateway.service.store.engine.begin() as connection:
            which = UPLOADS.c.slide == lying.headers["slide-id"]
            connection.execute(sa.update(UPLOADS).where(which).values(updated=old))
        await gateway.pathology.intake.sweep()
        slide = (await client.get(f"/v1/slides/{lying.headers['slide-id']}")).json()
        assert (slide["state"], slide["code"]) == ("failed", "upload_expired")
        assert not (gateway.settings.paths.slides / lying.headers["slide-id"]).exists()
        assert problem(await send(client, lying.headers["location"], BYTES[1000:], 1000)) == (410, "upload_gone")
        assert (await send(client, moving.headers["location"], BYTES, 0)).status_code == 204

    clinic.run(story)


def test_the_last_byte_before_a_crash_is_enough(clinic):
    """Killed between the last byte and its verification: the next look goes on."""

    async def story(client, gateway):
        begun = await begin(client)
        kept(clinic, begun.headers["slide-id"]).write_bytes(BYTES)
        await gateway.pathology.intake.sweep()
        assert (await client.get(f"/v1/slides/{begun.headers['slide-id']}")).json()["state"] == "verifying"

    clinic.run(story)


def test_form_and_sha256_may_be_told_afterwards(clinic):
    async def story(client, gateway):
        begun = await begin(client, sha256=None, request=None)
        place, slide = begun.headers["location"], begun.headers["slide-id"]
        assert (await send(client, place, BYTES, 0)).status_code == 204
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "uploading"
        told = FORM | {"reference": place.rpartition("/")[2], "sha256": sha256(BYTES), "mpp": 0.25}
        taken = await client.post("/v1/slides", json=told)
        assert (taken.status_code, taken.json()["state"], taken.json()["slide_id"]) == (202, "verifying", slide)
        assert taken.json()["mpp"] == 0.25
        again = await client.post("/v1/slides", json=told)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")

    clinic.run(story)


def test_the_same_slide_sent_twice_is_the_same_slide_and_under_another_accession_another(clinic):
    async def story(client, gateway):
        first = await begin(client)
        await send(client, first.headers["location"], BYTES, 0)
        again = await begin(client)
        done = await send(client, again.headers["location"], BYTES, 0)
        assert done.headers["slide-id"] == first.headers["slide-id"]
        assert done.headers["idempotent-replayed"] == "true"
        twin = (await client.get(f"/v1/slides/{again.headers['slide-id']}")).json()
        assert (twin["state"], twin["code"]) == ("cancelled", "duplicate")
        assert not (gateway.settings.paths.slides / again.headers["slide-id"]).exists()
        other = await begin(client, request=FORM | {"accession": "C26-00118"})
        done = await send(client, other.headers["location"], BYTES, 0)
        found = (await client.get(f"/v1/slides/{done.headers['slide-id']}")).json()
        assert found["slide_id"] == other.headers["slide-id"]
        assert [note["code"] for note in found["notes"]] == ["same_content"]
        assert first.headers["slide-id"] in found["notes"][0]["en"]

    clinic.run(story)


def test_an_idempotency_key_begins_one_upload(clinic):
    async def story(client, gateway):
        headers = TUS | {"Upload-Length": "9", "Idempotency-Key": "once"}
        first, again = [await client.post("/v1/uploads", headers=headers) for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.headers["location"] == again.headers["location"]
        assert again.headers["idempotent-replayed"] == "true"
        assert len(list(gateway.settings.paths.slides.glob("*/quarantine"))) == 1
        other = await client.post("/v1/uploads", headers=headers | {"Upload-Length": "10"})
        assert problem(other) == (409, "key_reused")

    clinic.run(story)


def test_no_more_uploads_are_open_than_the_settings_allow(made, tmp_path):
    settings = settings_for(
        tmp_path / "bundles",
        made,
        tmp_path,
        YUHENG_SLIDES_MAX_OPEN_UPLOADS="2",
        YUHENG_SLIDES_MAX_UPLOAD_BYTES="1000000",
    )
    with Inside(settings) as running:

        async def story(client, gateway):
            first = await begin(client)
            assert (await begin(client, request=None)).status_code == 201
            assert problem(await begin(client)) == (503, "overloaded")
            await send(client, first.headers["location"], BYTES, 0)
            assert (await begin(client)).status_code == 201
            big = TUS | {"Upload-Length": "1000001"}
            assert problem(await client.post("/v1/uploads", headers=big)) == (413, "upload_too_large")

        running.run(story)


def test_what_is_wrong_with_an_upload_is_told_together(clinic):
    async def story(client, gateway):
        bad = await begin(client, request=FORM | {"stain": "blue", "age": -1}, sha256="ab", mpp="wide")
        assert problem(bad) == (422, "invalid_request")
        assert {error["field"] for error in bad.json()["errors"]} == {"stain", "age", "sha256", "mpp"}
        bad = await begin(client, request=json.dumps(FORM)[:-1] + ', "accession": "C2026-000002"}')
        [error] = bad.json()["errors"]
        assert (error["field"], error["found"]) == ("request", "'accession' stands twice in one object")
        for headers in ({"Upload-Length": "0"}, {"Upload-Length": "x"}, {"Upload-Defer-Length": "1"}):
            assert problem(await client.post("/v1/uploads", headers=TUS | headers)) == (400, "bad_header")
        garbled = TUS | {"Upload-Length": "5", "Upload-Metadata": "filename ***"}
        assert problem(await client.post("/v1/uploads", headers=garbled)) == (400, "bad_header")

    clinic.run(story)


def test_what_a_cancelled_slide_had_is_removed(clinic):
    async def story(client, gateway):
        begun = await begin(client)
        slide = begun.headers["slide-id"]
        found = await client.post(f"/v1/slides/{slide}/cancel")
        assert (found.status_code, found.json()["state"]) == (200, "cancelled")
        assert not (gateway.settings.paths.slides / slide).exists()
        assert problem(await send(client, begun.headers["location"], BYTES, 0)) == (410, "upload_gone")

    clinic.run(story)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\a.SVS", "a.svs"),
        ("涂片 3.mrxs", "涂片_3.mrxs"),
        ("-rf.tif", "rf.tif"),
        (".svs", "svs"),
        ("a.b.ndpi", "a_b.ndpi"),
        ("a.exe;rm", "a_exe_rm"),
        ("\0", "slide"),
        ("", "slide"),
    ],
)
def test_of_a_name_only_what_is_harmless_stays(told, name):
    assert storage.sanitize_name(told) == name


@given(st.text(max_size=300))
def test_no_name_is_a_path_or_an_option(told):
    found = storage.sanitize_name(told)
    assert 0 < len(found) <= 70
    assert len(found.encode()) < 255
    assert not set(found) & set("/\\\0")
    assert found[0] not in ".-"


@pytest.mark.slow
def test_two_gigabytes_go_through_in_bounded_memory(made, tmp_path):
    running = Service(environment(tmp_path / "bundles", made, tmp_path), tmp_path / "log")
    running.start(ready=False)
    try:
        part = bytes(8 * 2**20)
        times = 256  # 2 GiB
        digest = hashlib.sha256()
        for _ in range(times):
            digest.update(part)
        told = metadata(filename="big.svs", sha256=digest.hexdigest(), request=FORM)
        begun = httpx.post(
            running.url + "/v1/uploads",
            headers=TUS | {"Upload-Length": str(len(part) * times), "Upload-Metadata": told},
        )
        place = running.url + begun.headers["location"]
        worker, most, done = psutil.Process(running.worker()), 0, threading.Event()
        before = worker.memory_info().rss

        def watch() -> None:
            nonlocal most
            while not done.wait(0.05):
                most = max(most, worker.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.monotonic()
        half = times // 2
        for start, count in ((0, half), (half, times - half)):
            sent = httpx.patch(
                place,
                content=(part for _ in range(count)),
                headers=PART | {"Upload-Offset": str(start * len(part))},
                timeout=600,
            )
            assert sent.status_code == 204, sent.text
        done.set()
        watcher.join()
        took = time.monotonic() - began
        print(f"2 GiB in {took:.0f} s; {(most - before) / 1e6:.0f} MB more resident, {most / 1e6:.0f} MB in all")
        assert most - before < 100e6
        assert httpx.get(f"{running.url}/v1/slides/{begun.headers['slide-id']}").json()["state"] == "verifying"
    finally:
        running.kill()
        shutil.rmtree(tmp_path, ignore_errors=True)
