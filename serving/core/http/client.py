"""Requests of the command line to a service. What is on this machine is never asked through a proxy."""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1,localhost,::1"


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def build_opener(url: str, *handlers: Any) -> urllib.request.OpenerDirector:
    """An opener for `url`; urllib's own would ask the proxy of the environment even for 127.0.0.1."""
    direct = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
    return urllib.request.build_opener(*direct, *handlers)


def open_url(request: urllib.request.Request | str, timeout: float) -> Any:
    """As urllib.request.urlopen, with `build_opener`."""
    url = request if isinstance(request, str) else request.full_url
    return build_opener(url).open(request, timeout=timeout)


def bypass_proxy(environ: MutableMapping[str, str]) -> None:
    """Let processes that are started with this environment reach loopback directly too."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in environ.get(name, "").split(",") if host]
        environ[name] = ",".join([*hosts, *(host for host in LOOPBACK.split(",") if host not in hosts)])
