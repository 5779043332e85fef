"""The real service over HTTP, in processes of its own: nothing answered is lost, nothing calls out, nothing grows."""

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


def test_a_demo_that_is_ended_takes_its_services_along(bundles, made, tmp_path):
    environ = os.environ | environment(bundles, made, tmp_path)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "serving", "demo", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True)
    mine = []
    try:
        began = time.monotonic()
        while not any(works(child) for child in mine):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() - began < 60
            mine = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 0
        assert psutil.wait_procs(mine, timeout=30)[1] == []
    finally:
        for child in mine:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()


def test_an_answer_over_http_is_recorded_before_it_comes(service, applicant):
    found = httpx.post(service.url + URL, json={"indicators": applicant})
    assert found.status_code == 200, found.text
    mine = sa.select(DECISIONS.c.answer).where(DECISIONS.c.id == found.json()["decision_id"])
    [[kept]] = rows(store_url(service.environ), mine)
    assert kept == found.content


def test_the_service_listens_on_loopback_alone(service):
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


def test_the_addresses_of_bentoml_are_its_probes_alone(service):
    for path in ("/livez", "/readyz", "/healthz", "/schema.json"):
        assert httpx.get(service.url + path).status_code == 200
    for path in ("/", "/docs.json", "/static_content/index.html", "/predict"):
        found = httpx.get(service.url + path)
        assert (found.status_code, found.json()["type"]) == (404, "/problems/not_found")
    assert "yuheng_requests_total" in httpx.get(service.url + "/metrics").text
    pickled = httpx.post(
        service.url + URL, content=b"\x80\x04.", headers={"Content-Type": "application/vnd.bentoml+pickle"}
    )
    assert pickled.status_code == 415


def test_ten_megabytes_are_refused_and_the_next_request_is_answered(service, applicant):
    with httpx.Client() as client:
        big = client.post(service.url + URL, content=b" " * 10_000_000, headers={"Content-Type": "application/json"})
        assert (big.status_code, big.json()["type"]) == (413, "/problems/body_too_large")
        assert client.post(service.url + URL, json={"indicators": applicant}).status_code == 200


def raw(service: Service, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(sent)
        return connection.recv(65_536)


def test_endless_headers_are_cut_off(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        with suppress(ConnectionError):  # reset or broken pipe, as the kernel has it
            while sent < 100_000_000:
                connection.sendall(b"X-%d: %s\r\n" % (sent, b"y" * 1_000))
                sent += 1_000
    assert sent < 20_000_000
    assert httpx.get(service.url + "/healthz/live").status_code == 200


def test_what_is_no_http_is_refused(service):
    assert raw(service, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_slow_headers_are_timed_out(service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz/live HTTP/1.1\r\nHost:")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_who_takes_nothing_of_an_answer_is_taken_to_have_hung_up(own_service):
    """Else four of them held all the places for reading batches' rows."""
    own_service.environ |= {
        "YUHENG_LIMITS_MAX_CONCURRENT_BATCH_READS": "1",
        "YUHENG_LIMITS_RESPONSE_IDLE_TIMEOUT_SECONDS": "3",
    }
    own_service.start()
    body = b"declared_income\n" + b"50000\n" * 100_000
    sent = httpx.post(f"{own_service.url}{URL}/batch", content=body, headers={"Content-Type": "text/csv"}, timeout=60)
    address = f"{sent.headers['location']}/rows"
    with socket.create_connection(("127.0.0.1", own_service.port), timeout=20) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        idle.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % address.encode())
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        assert httpx.get(own_service.url + address).status_code == 503
        until = time.monotonic() + 20
        while (found := httpx.get(own_service.url + address, timeout=60)).status_code == 503:
            assert time.monotonic() < until, "it holds its place"
            time.sleep(0.1)
        assert found.content == sent.content


def test_who_takes_an_answer_slowly_gets_all_of_it(own_service):
    own_service.environ |= {"YUHENG_LIMITS_RESPONSE_IDLE_TIMEOUT_SECONDS": "2"}
    own_service.start()
    body = b"declared_income\n" + b"50000\n" * 60_000
    sent = httpx.post(f"{own_service.url}{URL}/batch", content=body, headers={"Content-Type": "text/csv"}, timeout=60)
    with httpx.stream("GET", f"{own_service.url}{sent.headers['location']}/rows") as slow:
        taken = b""
        for part in slow.iter_raw(1 << 20):
            taken += part
            time.sleep(0.4)
    assert taken == sent.content


def test_nothing_answered_is_lost_when_the_service_is_killed(own_service, applicant):
    """kill -9 in the midst of answering: each answer that a caller holds can be had again, byte for byte."""
    own_service.start()
    answers: list[bytes] = []

    def ask() -> None:
        with httpx.Client() as client:
            while True:
                try:
                    found = client.post(own_service.url + URL, json={"indicators": applicant})
                except httpx.TransportError:
                    return
                answers.append(found.content)

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
            found = re.search(rb'"decision_id":"(\w+)"', answer)
            assert found
            assert client.get(f"{own_service.url}/v1/decisions/{found[1].decode()}").content == answer


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_knows_the_keys(own_service, applicant):
    own_service.start()
    request = {"json": {"indicators": applicant}, "headers": {"Idempotency-Key": "once"}}
    first = httpx.post(own_service.url + URL, **request)
    worker = own_service.worker()
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            again = httpx.post(own_service.url + URL, **request, timeout=5)
            break
        except httpx.TransportError:
            time.sleep(0.2)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert own_service.worker() != worker


def test_a_champion_is_swapped_in_the_running_service(service, made, applicant):
    model, bundles = "credit_limit_moving", Path(service.environ["YUHENG_BUNDLES"])
    question = {"indicators": applicant, "model": model}
    for version in ("1", "2"):
        made.publish(bundles, version, model=model)
        deadline = time.monotonic() + 60
        found = ""
        while found != version and time.monotonic() < deadline:
            answer = httpx.post(service.url + URL, json=question)
            found = answer.json()["model"]["version"] if answer.status_code == 200 else ""
        assert found == version


@pytest.mark.skipif(postgres.ASKED, reason="the disk of a SQLite file")
def test_a_disk_that_takes_no_more_is_a_refusal_not_a_crash(own_service, applicant):
    """A limit on the size of files stands for a full disk: writes beyond it fail."""
    size = 600_000

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    own_service.start(prepare=limited)
    seen: dict[int, httpx.Response] = {}
    kept = 0
    for _ in range(400):
        found = httpx.post(own_service.url + URL, json={"indicators": applicant})
        seen[found.status_code] = found
        kept += found.status_code == 200
        if found.status_code != 200:
            break
    assert set(seen) == {200, 503}, own_service.log.read_text()[-3000:]
    assert seen[503].json()["type"] == "/problems/store_full"
    assert seen[503].headers["retry-after"]
    assert httpx.get(own_service.url + "/healthz/live").status_code == 200
    assert recorded(store_url(own_service.environ)) == kept


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


def test_serving_loads_none_of_what_only_training_needs():
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
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert not heavy & set(done.stdout.split())


def test_no_process_of_ours_looks_up_an_outside_host(own_service, applicant, tmp_path):
    """ONNX DecisionService and BentoML look hosts up by default, one in native code: so every process's libc is asked."""
    own_service.environ |= traced(tmp_path)
    own_service.start()
    assert httpx.post(own_service.url + URL, json={"indicators": applicant}).status_code == 200
    sent = {"content": b"declared_income\n5\n", "headers": {"Content-Type": "text/csv"}}
    assert httpx.post(own_service.url + URL + "/batch", **sent).status_code == 200
    time.sleep(1.0)
    assert looked_up(tmp_path) <= OURS


@pytest.mark.slow
def test_a_million_rows_go_through_in_bounded_memory(made, bundles, people, tmp_path):
    running = Service(environment(bundles, made, tmp_path), tmp_path / "log")
    running.start()
    try:
        columns = [column.name for column in (*made.card.inputs, *made.card.also)]
        part = people.select(columns).write_csv(include_header=False).encode()
        head = ",".join(columns).encode() + b"\n"
        worker, most, done = psutil.Process(running.worker()), 0.0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.1):
                most = max(most, worker.memory_info().rss / 1e6)

        watcher = threading.Thread(target=watch)
        watcher.start()

        def upload():
            yield head
            for _ in range(1_000_000 // people.height + 1):
                yield part

        rows = 0
        with httpx.stream(
            "POST", running.url + URL + "/batch", content=upload(), headers={"Content-Type": "text/csv"}, timeout=600
        ) as found:
            assert found.status_code == 200
            for chunk in found.iter_bytes():
                rows += chunk.count(b"\n")
        done.set()
        watcher.join()
        print(f"{rows - 1:,} rows; at most {most:.0f} MB resident")
        assert rows - 1 >= 1_000_000
        assert most < 500
    finally:
        running.kill()
