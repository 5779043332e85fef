"""The console's one page and what it loads: GET /console and below, /assets/{name}.

`make console` builds them from serving/console/web into serving/console/dist. Only files that stand there at the first
request are ever served, from memory. The page's policy lets a browser run, load and ask nothing that is not of this
service; what the page shows it asks for, so the page itself is the same for everybody.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from serving.core.http.caching import matches
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply
from serving.core.security.permissions import CONSOLE_PATHS

Handler = Callable[[Call], Awaitable[Reply]]
DIST = Path(__file__).parent / "dist"
PAGE = "index.html"
KINDS = {  # what a build may hold: suffix -> media type; anything else in the folder is not served
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".ttf": "font/ttf",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
}
EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"  # a style element without content: OpenSeadragon's
POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "font", "connect", "worker")),
        f"style-src 'self' {EMPTY}",
        "img-src 'self' data: blob:",
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors", "object-src")),
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ASKED = "private, no-cache"  # kept, and asked about each time
FOREVER = "private, max-age=31536000, immutable"  # its name holds a digest of its content


@dataclass(frozen=True, slots=True)
class Page:
    media_type: str
    body: bytes
    packed: bytes
    tag: str


@cache
def built(folder: Path) -> Mapping[str, Page]:
    """Name -> file, of a build. Raises Problem where there is none."""
    names = [folder / PAGE, *(folder / "assets").glob("*")] if (folder / PAGE).is_file() else []
    if not names:
        raise Problem("console_not_built")
    return {path.name: _page(path) for path in names if path.suffix in KINDS}


def _page(path: Path) -> Page:
    body = path.read_bytes()
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Page(KINDS[path.suffix], body, gzip.compress(body, 9, mtime=0), tag)


def routes() -> dict[str, dict[str, Handler]]:
    return {**{address: {"GET": page} for address in CONSOLE_PATHS}, "/assets/{name}": {"GET": asset}}


async def page(call: Call) -> Reply:
    return _reply(call, built(DIST)[PAGE], ASKED)


async def asset(call: Call) -> Reply:
    found = built(DIST).get(call.path[0])
    if found is None or call.path[0] == PAGE:
        raise Problem("not_found", found=repr(call.scope["path"][:200]))
    return _reply(call, found, FOREVER)


def _reply(call: Call, found: Page, keeps: str) -> Reply:
    packs = re.search(r"gzip(?!\s*;\s*q=0(\.0*)?\s*(,|$))", call.header(b"accept-encoding") or "") is not None
    tag = f'"{found.tag}{"-gz" if packs else ""}"'
    headers = {**HEADERS, "Cache-Control": keeps, "ETag": tag, "Vary": "Accept-Encoding"}
    if matches(tag, call.header(b"if-none-match")):
        return Reply(b"", 304, found.media_type, headers)
    if packs:
        return Reply(found.packed, 200, found.media_type, {**headers, "Content-Encoding": "gzip"})
    return Reply(found.body, 200, found.media_type, headers)
