"""The real service under attack: what is too much is refused in bounded memory, and honest calls go on meanwhile."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from serving import settings as settings_module
from tests.serving.conftest import ROOT, Service, bearer_of, environment

MB = 1_000_000
BODY = 300 * MB
URL = "/v1/credit-limits"


@pytest.fixture(scope="module")
def attacked(bundles, made, tmp_path_factory) -> Iterator[tuple[Service, dict[str, str]]]:
    """The service, which asks for tokens and gives headers two seconds, and a bank's token."""
    folder = tmp_path_factory.mktemp("attacked")
    environ = environment(bundles, made, folder)
    environ |= {"YUHENG_ACCESS_REQUIRED": "true", "YUHENG_LIMITS_HEADER_TIMEOUT_SECONDS": "2"}
    running = Service(environ, folder / "log")
    running.start()
    yield running, bearer_of(settings_module.load_settings(environ=environ), "bank")
    running.kill()


class Honest:
    """A bank that asks on while a test attacks: its statuses and the seconds each took."""

    def __init__(self, service: Service, headers: dict[str, str], applicant: Any):
        self.took: list[float] = []
        self.statuses: set[int] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(service, headers, {"indicators": applicant}))

    def _ask(self, service: Service, headers: dict[str, str], body: Any) -> None:
        with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
            while not self._done.is_set():
                began = time.perf_counter()
                self.statuses.add(client.post(URL, json=body).status_code)
                self.took.append(time.perf_counter() - began)
                time.sleep(0.01)

    def __enter__(self) -> Honest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@contextlib.contextmanager
def bounded(service: Service, most: int) -> Iterator[None]:
    """The worker's memory is looked at all the while: it grows by no more than `most` bytes."""
    process, peak, done = psutil.Process(service.worker()), [0], threading.Event()
    before = process.memory_info().rss

    def look() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert peak[0] - before < most, f"{(peak[0] - before) / MB:.0f} MB more"


def flood(service: Service, path: str, headers: dict[str, str], chunked: bool) -> int:
    """The status that 300 MB get; the sender goes on for as long as it is let."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BODY}"
    told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{told}{length}\r\n\r\n"
    part = b" " * (MB if not chunked else MB - 16)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as line:
        line.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(BODY // MB):
                line.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        return int(line.recv(12).split()[1])


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize(("path", "known", "status"), [
    (URL, True, 413), (URL, False, 401), ("/v1/session", False, 413), ("/v1/nowhere", False, 404),
    (f"{URL}/batch?format=x", True, 415),
])  # fmt: skip
def test_300_megabytes_are_refused_in_bounded_memory_while_honest_calls_go_on(
    attacked, applicant, path, known, status, chunked
):
    service, bank = attacked
    with Honest(service, bank, applicant) as honest, bounded(service, 60 * MB):
        assert flood(service, path, bank if known else {}, chunked) == status
        time.sleep(0.2)
    assert honest.statuses == {200}
    assert max(honest.took) < 2


def test_a_thousand_slow_heads_are_cut_off_and_honest_calls_go_on(attacked, applicant):
    service, bank = attacked
    with Honest(service, bank, applicant) as honest, bounded(service, 100 * MB):
        lines = []
        for _ in range(1_000):
            line = socket.create_connection(("127.0.0.1", service.port), timeout=20)
            line.sendall(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            lines.append(line)
        began = time.monotonic()
        while time.monotonic() - began < 3:  # a byte now and then keeps none of them open
            for line in lines[::50]:
                with contextlib.suppress(OSError):
                    line.send(b"a")
            time.sleep(0.2)
        answered = 0
        for line in lines:
            with contextlib.suppress(OSError):
                answered += line.recv(12).endswith(b"408")
            line.close()
        assert answered > 900
    assert honest.statuses == {200}
    assert len(honest.took) > 50
    assert max(honest.took) < 2
    assert httpx.get(service.url + "/healthz/live").status_code == 200


@pytest.mark.parametrize("size", [9_000, MB])
def test_a_token_of_a_megabyte_costs_nothing(attacked, applicant, size):
    service, bank = attacked
    with Honest(service, bank, applicant) as honest, bounded(service, 30 * MB):
        for _ in range(20):
            try:
                found = httpx.get(service.url + "/v1/models", headers={"Authorization": "Bearer " + "x" * size})
            except httpx.TransportError:  # cut off while it still sends
                continue
            assert found.status_code == (401 if size < 10_000 else 431)
    assert honest.statuses == {200}
    assert max(honest.took) < 1


def test_many_forged_tokens_hold_nobody_up_and_leave_nothing(attacked, applicant):
    service, bank = attacked
    good = bank["Authorization"]
    with (
        Honest(service, bank, applicant) as honest,
        bounded(service, 30 * MB),
        httpx.Client(base_url=service.url) as client,
    ):
        for i in range(500):
            forged = {"Authorization": f"{good[:-6]}{i:06d}"}
            assert client.get("/v1/models", headers=forged).status_code == 401
    assert honest.statuses == {200}
    assert good.rpartition(" ")[2][:-10] not in service.log.read_text(), "no token stands in the log"


# --- who may reach it


def test_without_tokens_only_loopback_is_served(own_service):
    command = [sys.executable, "-m", "serving", "serve", "--host", "0.0.0.0", "--port", str(own_service.port)]
    environ = os.environ | own_service.environ
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "loopback" in done.stderr


@pytest.fixture
def certificate(tmp_path) -> Any:
    """Self-signed, for the loopback address."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "t")])
    at = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number()).not_valid_before(at - datetime.timedelta(hours=1))
    built = built.not_valid_after(at + datetime.timedelta(days=1))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = built.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    certificate, private = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


def over_tls(service, certificate):
    """Starts it; what a caller trusts."""
    public, private = certificate
    service.environ |= {"YUHENG_TLS_CERTIFICATE": str(public), "YUHENG_TLS_KEY": str(private)}
    trusted = ssl.create_default_context(cafile=str(public))
    service.launch()
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"https://127.0.0.1:{service.port}/healthz/ready", verify=trusted).status_code == 200:
                return trusted
        assert time.monotonic() < deadline, service.log.read_text()[-2_000:]
        time.sleep(0.2)


def test_with_a_certificate_only_tls_is_spoken(own_service, certificate):
    own_service.environ["YUHENG_ACCESS_REQUIRED"] = "true"
    over_tls(own_service, certificate)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{own_service.port}/healthz/live")
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(f"https://127.0.0.1:{own_service.port}/healthz/live")


def test_over_tls_too_who_takes_an_answer_slowly_gets_all_of_it_and_who_takes_nothing_is_cut_off(
    own_service, certificate
):
    own_service.environ |= {
        "YUHENG_LIMITS_RESPONSE_IDLE_TIMEOUT_SECONDS": "2",
        "YUHENG_LIMITS_MAX_CONCURRENT_BATCH_READS": "1",
    }
    trusted, there = over_tls(own_service, certificate), f"https://127.0.0.1:{own_service.port}"
    body = b"declared_income\n" + b"50000\n" * 60_000
    with httpx.Client(base_url=there, verify=trusted, timeout=60) as client:
        sent = client.post(f"{URL}/batch", content=body, headers={"Content-Type": "text/csv"})
        address = f"{sent.headers['location']}/rows"
        with client.stream("GET", address) as slow:
            taken = b""
            for part in slow.iter_raw(1 << 20):
                taken += part
                time.sleep(0.4)
        assert taken == sent.content
        with httpx.Client(base_url=there, verify=trusted) as idle, idle.stream("GET", address):
            deadline = time.monotonic() + 30
            while client.get(address).status_code == 503:
                assert time.monotonic() < deadline, "it holds its place"
                time.sleep(0.1)
    assert "Traceback" not in own_service.log.read_text()
