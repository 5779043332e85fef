"""What is on this machine is asked directly, whatever proxy the environment names."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.core.http.client import build_opener, bypass_proxy, is_loopback, open_url


@pytest.fixture
def server():
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"direct")

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running.server_address[1]
        running.shutdown()


@pytest.fixture
def dead_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_not_asked_through_a_proxy(server, dead_proxy, host):
    with open_url(f"http://{host}:{server}/", timeout=5) as answer:
        assert answer.read() == b"direct"


def test_another_host_is_asked_through_it(dead_proxy):
    handlers = [type(handler).__name__ for handler in build_opener("http://bank.example/").handlers]
    assert "ProxyHandler" in handlers
    with pytest.raises(OSError, match="refused"):
        open_url("http://bank.example/", timeout=5)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:3000/v1", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:3000", True),
        ("http://localhost", True),
        ("http://localhost.bank.example", False),
        ("http://127.0.0.1.bank.example", False),
        ("http://10.0.0.1", False),
        ("var/keys.json", False),
    ],
)
def test_what_is_loopback(url, expected):
    assert is_loopback(url) is expected


def test_what_is_started_reaches_loopback_directly_too():
    environ = {"NO_PROXY": "bank.example,127.0.0.1"}
    bypass_proxy(environ)
    assert environ["NO_PROXY"] == "bank.example,127.0.0.1,localhost,::1"
    assert environ["no_proxy"] == "127.0.0.1,localhost,::1"
