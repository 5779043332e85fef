"""The real service over HTTP, in processes of its own: it loses no answer, calls no other host, bounds its memory."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy as sa

from serving.core.db.schema import DECISIONS
from tests import postgres
from tests.dns_trace import OURS, looked_up, traced
from tests.serving.conftest import ROOT, Service, environment, free_port, recorded, rows, store_url, works

URL = "/v1/credit-limits"


def test_the_demo_stops_its_services_when_it_is_stopped(made, tmp_path):
    environ = os.environ | environment(tmp_path / "bundles", made, tmp_path)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "serving", "demo", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True)
    processes = []
    try:
        start = time.monotonic()
        while not any(works(child) for child in processes):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() - start < 60
            processes = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 0
        assert psutil.wait_procs(processes, timeout=30)[1] == []
    finally:
        for child in processes:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()


def test_an_answer_is_recorded_before_it_is_sent(service, applicant):
    response = httpx.post(service.url + URL, json={"indicators": applicant})
    assert response.status_code == 200, response.text
    query = sa.select(DECISIONS.c.answer).where(DECISIONS.c.id == response.json()["decision_id"])
    [[answer]] = rows(store_url(service.environ), query)
    assert answer == response.content


def test_the_service_listens_on_loopback_only(service):
    listening = {
        connection.laddr.ip
        for process in [
            psutil.Process(service.process.pid),
            *psutil.Process(service.process.pid).children(recursive=True),
        ]
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_bentoml_answers_at_its_probes_only(service):
    for path in ("/livez", "/readyz", "/healthz", "/schema.json"):
        assert httpx.get(service.url + path).status_code == 200
    start = httpx.get(service.url + "/")
    assert (start.status_code, start.headers["location"]) == (307, "/console")
    for path in ("/docs.json", "/static_content/index.html", "/predict"):
        response = httpx.get(service.url + path)
        assert (response.status_code, response.json()["type"]) == (404, "/problems/not_found")
    assert "yuheng_requests_total" in httpx.get(service.url + "/metrics").text
    pickled = httpx.post(
        service.url + URL, content=b"\x80\x04.", headers={"Content-Type": "application/vnd.bentoml+pickle"}
    )
    assert pickled.status_code == 415


def test_a_body_of_ten_megabytes_is_refused_and_the_next_request_is_answered(service, applicant):
    with httpx.Client() as client:
        big = client.post(service.url + URL, content=b" " * 10_000_000, headers={"Content-Type": "application/json"})
        assert (big.status_code, big.json()["type"]) == (413, "/problems/body_too_large")
        assert client.post(service.url + URL, json={"indicators": applicant}).status_code == 200


def raw(service: Service, payload: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(payload)
        return connection.recv(65_536)


def test_a_connection_with_endless_headers_is_closed(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        byte_count = 0
        with suppress(ConnectionError):  # reset or broken pipe, as the kernel has it
            while byte_count < 100_000_000:
                connection.sendall(b"X-%d: %s\r\n" % (byte_count, b"y" * 1_000))
                byte_count += 1_000
    assert byte_count < 20_000_000
    assert httpx.get(service.url + "/healthz/live").status_code == 200


def test_bytes_that_are_not_http_are_refused(service):
    assert raw(service, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_slow_headers_are_timed_out(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz/live HTTP/1.1\r\nHost:")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_a_client_that_reads_nothing_of_a_response_counts_as_gone(own_service):
    """Four such clients would otherwise occupy all concurrent reads of batches."""
    own_service.environ |= {
        "YUHENG_LIMITS_MAX_CONCURRENT_BATCH_READS": "1",
        "YUHENG_LIMITS_RESPONSE_IDLE_TIMEOUT_SECONDS": "3",
    }
    own_service.start()
    body = b"declared_income\n" + b"50000\n" * 100_000
    batch = httpx.post(f"{own_service.url}{URL}/batch", content=body, headers={"Content-Type": "text/csv"}, timeout=60)
    address = f"{batch.headers['location']}/rows"
    with socket.create_connection(("127.0.0.1", own_service.port), timeout=20) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        idle.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % address.encode())
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        assert httpx.get(own_service.url + address).status_code == 503
        until = time.monotonic() + 20
        while (response := httpx.get(own_service.url + address, timeout=60)).status_code == 503:
            assert time.monotonic() < until, "the idle client still occupies its read"
            time.sleep(0.1)
        assert response.content == batch.content


def test_a_client_that_reads_a_response_slowly_gets_all_of_it(own_service):
    own_service.environ |= {"YUHENG_LIMITS_RESPONSE_IDLE_TIMEOUT_SECONDS": "2"}
    own_service.start()
    body = b"declared_income\n" + b"50000\n" * 60_000
    batch = httpx.post(f"{own_service.url}{URL}/batch", content=body, headers={"Content-Type": "text/csv"}, timeout=60)
    with httpx.stream("GET", f"{own_service.url}{batch.headers['location']}/rows") as slow:
        received = b""
        for chunk in slow.iter_raw(1 << 20):
            received += chunk
            time.sleep(0.4)
    assert received == batch.content


def test_no_answer_is_lost_when_the_service_is_killed(own_service, applicant):
    """kill -9 while it answers: every answer that a client received can be read again, byte for byte."""
    own_service.start()
    answers: list[bytes] = []

    def ask() -> None:
        with httpx.Client() as client:
            while True:
                try:
                    response = client.post(own_service.url + URL, json={"indicators": applicant})
                except httpx.TransportError:
                    return
                answers.append(response.content)

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    while len(answers) < 60 and any(caller.is_alive() for caller in callers):
        time.sleep(0.01)
    assert len(answers) >= 60
    own_service.kill()
    for caller in callers:
        caller.join()
    own_service.start()
    with httpx.Client() as client:
        for answer in answers:
            match = re.search(rb'"decision_id":"(\w+)"', answer)
            assert match
            assert client.get(f"{own_service.url}/v1/decisions/{match[1].decode()}").content == answer


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_the_new_one_knows_idempotency_keys(own_service, applicant):
    own_service.start()
    request = {"json": {"indicators": applicant}, "headers": {"Idempotency-Key": "once"}}
    first = httpx.post(own_service.url + URL, **request)
    worker = own_service.worker()
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            second = httpx.post(own_service.url + URL, **request, timeout=5)
            break
        except httpx.TransportError:
            time.sleep(0.2)
    assert second.content == first.content
    assert second.headers["idempotent-replayed"] == "true"
    assert own_service.worker() != worker


def test_a_champion_is_swapped_in_the_running_service(service, made, applicant):
    model, bundles = "credit_limit_moving", Path(service.environ["YUHENG_BUNDLES"])
    payload = {"indicators": applicant, "model": model}
    for version in ("1", "2"):
        made.publish(bundles, version, model=model)
        deadline = time.monotonic() + 60
        answering = ""
        while answering != version and time.monotonic() < deadline:
            answer = httpx.post(service.url + URL, json=payload)
            answering = answer.json()["model"]["version"] if answer.status_code == 200 else ""
        assert answering == version


@pytest.mark.skipif(postgres.ENABLED, reason="the disk of a SQLite file")
def test_a_full_disk_is_answered_with_a_problem_and_not_a_crash(own_service, applicant):
    """A limit on the size of files stands for a full disk: writes beyond it fail."""
    size = 600_000

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    own_service.start(prepare=limited)
    responses: dict[int, httpx.Response] = {}
    answered = 0
    for _ in range(400):
        response = httpx.post(own_service.url + URL, json={"indicators": applicant})
        responses[response.status_code] = response
        answered += response.status_code == 200
        if response.status_code != 200:
            break
    assert set(responses) == {200, 503}, own_service.log.read_text()[-3000:]
    assert responses[503].json()["type"] == "/problems/store_full"
    assert responses[503].headers["retry-after"]
    assert httpx.get(own_service.url + "/healthz/live").status_code == 200
    assert recorded(store_url(own_service.environ)) == answered


def test_the_serving_process_stays_under_400_megabytes(service, applicant, people, made):
    columns = [column.name for column in (*made.card.inputs, *made.card.also)]
    csv = people.select(columns).write_csv().encode()
    with httpx.Client(timeout=60) as client:
        for _ in range(200):
            client.post(service.url + URL, json={"indicators": applicant})
        client.post(service.url + URL + "/batch", content=csv, headers={"Content-Type": "text/csv"})
    size = psutil.Process(service.worker()).memory_info().rss / 1e6
    print(f"serving process: {size:.0f} MB")
    assert size < 400


def test_serving_imports_no_library_that_only_training_needs():
    heavy = {
        "lightgbm",
        "sklearn",
        "pandas",
        "mlflow",
        "torch",
        "z3",
        "matplotlib",
        "optuna",
        "scipy",
        "pyarrow",
        "onnx",
    }
    modules = "serving.service, serving.decisions.products.credit_limit, serving.privacy.subjects.ingestion"
    code = f"import sys, {modules}; print(*sorted(sys.modules))"
    environ = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "true"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert not heavy & set(result.stdout.split())


def test_no_process_of_the_service_looks_up_an_outside_host(own_service, applicant, tmp_path):
    """ONNX Runtime and BentoML look up hosts by default, one in native code: hence libc is traced in each process."""
    own_service.environ |= traced(tmp_path)
    own_service.start()
    assert httpx.post(own_service.url + URL, json={"indicators": applicant}).status_code == 200
    batch = {"content": b"declared_income\n5\n", "headers": {"Content-Type": "text/csv"}}
    assert httpx.post(own_service.url + URL + "/batch", **batch).status_code == 200
    time.sleep(1.0)
    assert looked_up(tmp_path) <= OURS


@pytest.mark.slow
def test_a_million_rows_go_through_in_bounded_memory(made, bundles, people, tmp_path):
    running = Service(environment(bundles, made, tmp_path), tmp_path / "log")
    running.start()
    try:
        columns = [column.name for column in (*made.card.inputs, *made.card.also)]
        table = people.select(columns).write_csv(include_header=False).encode()
        header = ",".join(columns).encode() + b"\n"
        worker, peak, done = psutil.Process(running.worker()), 0.0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                peak = max(peak, worker.memory_info().rss / 1e6)

        watcher = threading.Thread(target=watch)
        watcher.start()

        def upload():
            yield header
            for _ in range(1_000_000 // people.height + 1):
                yield table

        rows = 0
        with httpx.stream(
            "POST", running.url + URL + "/batch", content=upload(), headers={"Content-Type": "text/csv"}, timeout=600
        ) as response:
            assert response.status_code == 200
            for chunk in response.iter_bytes():
                rows += chunk.count(b"\n")
        done.set()
        watcher.join()
        print(f"{rows - 1:,} rows; at most {peak:.0f} MB resident")
        assert rows - 1 >= 1_000_000
        assert peak < 500
    finally:
        running.kill()
