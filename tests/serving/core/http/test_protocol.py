"""The real service under attack: excess is refused in bounded memory while honest calls are answered."""

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
    """A service that requires tokens and gives headers two seconds, and the header of a bank."""
    folder = tmp_path_factory.mktemp("attacked")
    environ = environment(bundles, made, folder)
    environ |= {"YUHENG_ACCESS_REQUIRED": "true", "YUHENG_LIMITS_HEADER_TIMEOUT_SECONDS": "2"}
    running = Service(environ, folder / "log")
    running.start()
    yield running, bearer_of(settings_module.load_settings(environ=environ), "bank")
    running.kill()


class Honest:
    """A bank that calls on while a test attacks: the statuses it gets and the seconds each call takes."""

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
def bounded(service: Service, max_bytes: int) -> Iterator[None]:
    """Assert that the worker's memory grows by no more than `max_bytes` meanwhile."""
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
    assert peak[0] - before < max_bytes, f"{(peak[0] - before) / MB:.0f} MB more"


def flood(service: Service, path: str, headers: dict[str, str], chunked: bool) -> int:
    """Send 300 MB, as long as the service reads them; the status of the response."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BODY}"
    header_lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{header_lines}{length}\r\n\r\n"
    chunk = b" " * (MB if not chunked else MB - 16)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as line:
        line.sendall(head.encode())
        with contextlib.suppress(OSError):
            for _ in range(BODY // MB):
                line.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk)
        return int(line.recv(12).split()[1])


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize(("path", "known", "status"), [
    (URL, True, 413), (URL, False, 401), ("/v1/session", False, 413), ("/v1/nowhere", False, 404),
    (f"{URL}/batch?format=x", True, 415),
])  # fmt: skip
def test_300_megabytes_are_refused_in_bounded_memory_while_honest_calls_are_answered(
    attacked, applicant, path, known, status, chunked
):
    service, bank = attacked
    with Honest(service, bank, applicant) as honest, bounded(service, 60 * MB):
        assert flood(service, path, bank if known else {}, chunked) == status
        time.sleep(0.2)
    assert honest.statuses == {200}
    assert max(honest.took) < 2


def test_a_thousand_slow_headers_are_closed_while_honest_calls_are_answered(attacked, applicant):
    service, bank = attacked
    with Honest(service, bank, applicant) as honest, bounded(service, 100 * MB):
        lines = []
        for _ in range(1_000):
            line = socket.create_connection(("127.0.0.1", service.port), timeout=20)
            line.sendall(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            lines.append(line)
        began = time.monotonic()
        while time.monotonic() - began < 3:  # an occasional byte keeps none of them open
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
def test_a_token_of_a_megabyte_costs_no_memory(attacked, applicant, size):
    service, bank = attacked
    with Honest(service, bank, applicant) as honest, bounded(service, 30 * MB):
        for _ in range(20):
            try:
                response = httpx.get(service.url + "/v1/models", headers={"Authorization": "Bearer " + "x" * size})
            except httpx.TransportError:  # closed while the client still sends
                continue
            assert response.status_code == (401 if size < 10_000 else 431)
    assert honest.statuses == {200}
    assert max(honest.took) < 1


def test_many_forged_tokens_delay_nobody_and_are_not_logged(attacked, applicant):
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


# --- addresses and TLS


def test_a_service_without_tokens_starts_on_loopback_only(own_service):
    command = [sys.executable, "-m", "serving", "serve", "--host", "0.0.0.0", "--port", str(own_service.port)]
    environ = os.environ | own_service.environ
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert "loopback" in result.stderr


@pytest.fixture
def certificate(tmp_path) -> Any:
    """Self-signed, for the loopback address."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "t")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    certificate, private = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, private


def over_tls(service, certificate):
    """Start the service with TLS; the context that trusts its certificate."""
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


def test_a_service_with_a_certificate_speaks_tls_only(own_service, certificate):
    own_service.environ["YUHENG_ACCESS_REQUIRED"] = "true"
    over_tls(own_service, certificate)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{own_service.port}/healthz/live")
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(f"https://127.0.0.1:{own_service.port}/healthz/live")


def test_slow_readers_get_all_and_idle_ones_are_closed_over_tls_too(own_service, certificate):
    own_service.environ |= {
        "YUHENG_LIMITS_RESPONSE_IDLE_TIMEOUT_SECONDS": "2",
        "YUHENG_LIMITS_MAX_CONCURRENT_BATCH_READS": "1",
    }
    trusted, base_url = over_tls(own_service, certificate), f"https://127.0.0.1:{own_service.port}"
    body = b"declared_income\n" + b"50000\n" * 60_000
    with httpx.Client(base_url=base_url, verify=trusted, timeout=60) as client:
        batch = client.post(f"{URL}/batch", content=body, headers={"Content-Type": "text/csv"})
        address = f"{batch.headers['location']}/rows"
        with client.stream("GET", address) as slow:
            received = b""
            for chunk in slow.iter_raw(1 << 20):
                received += chunk
                time.sleep(0.4)
        assert received == batch.content
        with httpx.Client(base_url=base_url, verify=trusted) as idle, idle.stream("GET", address):
            deadline = time.monotonic() + 30
            while client.get(address).status_code == 503:
                assert time.monotonic() < deadline, "the idle client still occupies its read"
                time.sleep(0.1)
    assert "Traceback" not in own_service.log.read_text()
