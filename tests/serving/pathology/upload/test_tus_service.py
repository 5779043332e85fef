"""Resumable uploads to a service in a process of its own: foreign clients, interruptions, crashes, full disks."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed

from tests.serving.conftest import Service, environment
from tests.serving.pathology.conftest import FORM, PART_HEADERS, TUS_HEADERS, metadata, problem, sha256

BYTES = os.urandom(300_000)


def make_uploader(service: Service, file: Path, **metadata) -> object:
    metadata = {"filename": file.name, "sha256": sha256(file.read_bytes())} | FORM | metadata
    return TusClient(service.url + "/v1/uploads").uploader(str(file), chunk_size=100_000, metadata=metadata)


def test_a_tus_client_can_resume_its_upload(slide_service, tmp_path):
    file = tmp_path / "smear 1.svs"
    file.write_bytes(BYTES + b"tus")
    first = make_uploader(slide_service, file)
    first.upload(stop_at=200_000)
    again = TusClient(slide_service.url + "/v1/uploads").uploader(str(file), url=first.url, chunk_size=70_000)
    assert again.offset == 200_000
    again.upload()
    slide = again.request.response_headers["slide-id"]
    slide_row = httpx.get(f"{slide_service.url}/v1/slides/{slide}").json()
    assert (slide_row["state"], slide_row["name"], slide_row["bytes"]) == (
        "verifying",
        "smear_1.svs",
        file.stat().st_size,
    )
    assert slide_row["sha256"] == sha256(file.read_bytes())
    assert slide_row["request"] == FORM
    folder = Path(slide_service.environ["YUHENG_SLIDES"]) / slide / "quarantine"
    assert (folder / "smear_1.svs").read_bytes() == file.read_bytes()


def test_a_tus_client_can_send_checksums(slide_service, tmp_path):
    file = tmp_path / "a.svs"
    file.write_bytes(BYTES + b"checked")
    client = TusClient(slide_service.url + "/v1/uploads")
    metadata_fields = {"filename": "a.svs", "sha256": sha256(file.read_bytes())} | FORM
    uploader = client.uploader(str(file), chunk_size=100_000, metadata=metadata_fields, upload_checksum=True)
    uploader.upload()
    assert uploader.offset == file.stat().st_size


def test_a_tus_client_gets_the_actual_sha256_if_it_announced_another(slide_service, tmp_path):
    file = tmp_path / "a.svs"
    file.write_bytes(BYTES + b"wrong")
    with pytest.raises(TusUploadFailed) as refused:
        make_uploader(slide_service, file, sha256=sha256(b"other")).upload()
    assert refused.value.status_code == 422
    assert sha256(file.read_bytes()).encode() in refused.value.response_content


@pytest.mark.parametrize("reset", [0, 1], ids=["closed", "reset"])
@pytest.mark.parametrize("cut", [1, 65_537, 262_144, 299_999])
def test_a_connection_cut_at_any_byte_frees_its_upload_at_once(slide_service, cut, reset):
    """The socket is closed in the middle of a part."""
    content = BYTES + f"cut at {cut}, {reset}".encode()
    with httpx.Client(base_url=slide_service.url) as client:
        upload_metadata = metadata(filename="a.svs", sha256=sha256(content), request=FORM)
        created = client.post(
            "/v1/uploads",
            headers=TUS_HEADERS | {"Upload-Length": str(len(content)), "Upload-Metadata": upload_metadata},
        )
        path = created.headers["location"]
        with socket.create_connection(("127.0.0.1", slide_service.port)) as connection:
            head = PART_HEADERS | {"Host": "x", "Upload-Offset": "0", "Content-Length": str(len(content))}
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            connection.sendall(f"PATCH {path} HTTP/1.1\r\n{lines}\r\n".encode() + content[:cut])
            time.sleep(0.3)  # the part is being received
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        response = client.head(path, headers=TUS_HEADERS)  # at once, without waiting until the service notices
        assert response.status_code == 200
        offset = int(response.headers["upload-offset"])
        assert offset <= cut
        done = client.patch(path, content=content[offset:], headers=PART_HEADERS | {"Upload-Offset": str(offset)})
        assert done.status_code == 204, done.text
        slide = client.get(f"/v1/slides/{done.headers['slide-id']}").json()
        assert (slide["state"], slide["sha256"]) == ("verifying", sha256(content))


def test_after_a_crash_an_upload_continues_where_its_file_ends(made, tmp_path):
    running = Service(environment(tmp_path / "bundles", made, tmp_path), tmp_path / "log")
    running.start(ready=False)
    content = os.urandom(3_000_000)
    try:
        upload_metadata = metadata(filename="a.svs", sha256=sha256(content), request=FORM)
        begun = httpx.post(
            running.url + "/v1/uploads",
            headers=TUS_HEADERS | {"Upload-Length": str(len(content)), "Upload-Metadata": upload_metadata},
        )
        url, slide = running.url + begun.headers["location"], begun.headers["slide-id"]
        file = Path(running.environ["YUHENG_SLIDES"]) / slide / "quarantine" / "a.svs"
        dying = threading.Event()

        def slowly():
            yield content[:2_500_000]
            dying.wait(20)

        def sending():
            with pytest.raises(httpx.TransportError):
                httpx.patch(url, content=slowly(), headers=PART_HEADERS | {"Upload-Offset": "0"}, timeout=30)

        sender = threading.Thread(target=sending)
        sender.start()
        deadline = time.monotonic() + 20
        while file.stat().st_size < 2_000_000 and time.monotonic() < deadline:
            time.sleep(0.02)
        running.kill()
        dying.set()
        sender.join()
        size = file.stat().st_size
        assert size >= 2_000_000
        running.start(ready=False)
        offset = int(httpx.head(url, headers=TUS_HEADERS).headers["upload-offset"])
        assert offset == size
        done = httpx.patch(url, content=content[offset:], headers=PART_HEADERS | {"Upload-Offset": str(offset)})
        assert done.status_code == 204, done.text
        assert httpx.get(f"{running.url}/v1/slides/{slide}").json()["state"] == "verifying"
    finally:
        running.kill()


def test_a_full_disk_is_reported_and_the_upload_continues_once_there_is_space(made, tmp_path):
    """A limit on file sizes stands in for a full disk: writes beyond it fail."""
    size = 700_000

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    content = os.urandom(1_000_000)
    running = Service(environment(tmp_path / "bundles", made, tmp_path), tmp_path / "log")
    running.start(ready=False, prepare=limited)
    try:
        upload_metadata = metadata(filename="a.svs", sha256=sha256(content), request=FORM)
        begun = httpx.post(
            running.url + "/v1/uploads",
            headers=TUS_HEADERS | {"Upload-Length": str(len(content)), "Upload-Metadata": upload_metadata},
        )
        url = running.url + begun.headers["location"]
        full = httpx.patch(url, content=content, headers=PART_HEADERS | {"Upload-Offset": "0"})
        assert problem(full) == (507, "no_space")
        assert full.headers["retry-after"]
        assert httpx.get(running.url + "/healthz/live").status_code == 200
        for process in psutil.Process(running.process.pid).children(recursive=True):
            process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        offset = int(httpx.head(url, headers=TUS_HEADERS).headers["upload-offset"])
        assert 0 < offset <= size
        done = httpx.patch(url, content=content[offset:], headers=PART_HEADERS | {"Upload-Offset": str(offset)})
        assert done.status_code == 204, done.text
    finally:
        running.kill()


@pytest.mark.slow
def test_two_gigabytes_are_uploaded_in_bounded_memory(made, tmp_path):
    running = Service(environment(tmp_path / "bundles", made, tmp_path), tmp_path / "log")
    running.start(ready=False)
    try:
        chunk = bytes(8 * 2**20)
        times = 256  # 2 GiB
        digest = hashlib.sha256()
        for _ in range(times):
            digest.update(chunk)
        upload_metadata = metadata(filename="big.svs", sha256=digest.hexdigest(), request=FORM)
        begun = httpx.post(
            running.url + "/v1/uploads",
            headers=TUS_HEADERS | {"Upload-Length": str(len(chunk) * times), "Upload-Metadata": upload_metadata},
        )
        url = running.url + begun.headers["location"]
        worker, max_rss, done = psutil.Process(running.worker()), 0, threading.Event()
        before = worker.memory_info().rss

        def watch() -> None:
            nonlocal max_rss
            while not done.wait(0.05):
                max_rss = max(max_rss, worker.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.monotonic()
        half = times // 2
        for start, count in ((0, half), (half, times - half)):
            sent = httpx.patch(
                url,
                content=(chunk for _ in range(count)),
                headers=PART_HEADERS | {"Upload-Offset": str(start * len(chunk))},
                timeout=600,
            )
            assert sent.status_code == 204, sent.text
        done.set()
        watcher.join()
        took = time.monotonic() - began
        print(f"2 GiB in {took:.0f} s; {(max_rss - before) / 1e6:.0f} MB more resident, {max_rss / 1e6:.0f} MB in all")
        assert max_rss - before < 100e6
        assert httpx.get(f"{running.url}/v1/slides/{begun.headers['slide-id']}").json()["state"] == "verifying"
    finally:
        running.kill()
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize("cut", [1, 100_000])
def test_a_connection_that_falls_silent_does_not_lock_its_upload(slide_service, cut):
    """As after a Wi-Fi was lost: the connection stays open, and nothing comes over it any more."""
    content = BYTES + f"silent at {cut}".encode()
    with httpx.Client(base_url=slide_service.url) as client, socket.socket() as silent:
        upload_metadata = metadata(filename="a.svs", sha256=sha256(content), request=FORM)
        headers = TUS_HEADERS | {"Upload-Length": str(len(content)), "Upload-Metadata": upload_metadata}
        path = client.post("/v1/uploads", headers=headers).headers["location"]
        silent.connect(("127.0.0.1", slide_service.port))
        head = PART_HEADERS | {"Host": "x", "Upload-Offset": "0", "Content-Length": str(len(content))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        silent.sendall(f"PATCH {path} HTTP/1.1\r\n{lines}\r\n".encode() + content[:cut])
        time.sleep(0.3)
        began = time.monotonic()
        offset = int(client.head(path, headers=TUS_HEADERS).headers["upload-offset"])
        assert time.monotonic() - began < 1
        assert offset == cut
        done = client.patch(path, content=content[offset:], headers=PART_HEADERS | {"Upload-Offset": str(offset)})
        assert done.status_code == 204, done.text
        assert client.get(f"/v1/slides/{done.headers['slide-id']}").json()["state"] == "verifying"
