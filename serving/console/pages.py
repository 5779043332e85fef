"""Serve the console: GET /console and below it, where / leads, and the files that the page loads from /assets/{name}.

`make console` builds them from serving/console/web into serving/console/dist. Files are read at the first request and
served from memory. The content security policy lets a browser run, load and request nothing but this service's own; the
page holds no data and is the same for everybody.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response, etag_matches
from serving.core.http.router import Routes
from serving.core.security.permissions import CONSOLE_PATHS

DIST_DIR = Path(__file__).parent / "dist"
INDEX_FILE = "index.html"
MEDIA_TYPES = {  # suffix -> media type; files with another suffix are not served
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".ttf": "font/ttf",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
}
EMPTY_STYLE_HASH = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"  # a style element without content: OpenSeadragon's
)
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "font", "connect", "worker")),
        f"style-src 'self' {EMPTY_STYLE_HASH}",
        "img-src 'self' data: blob:",
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors", "object-src")),
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NO_CACHE = "private, no-cache"  # cached, and revalidated each time
IMMUTABLE = "private, max-age=31536000, immutable"  # the name holds a digest of the content


@dataclass(frozen=True, slots=True)
class ConsoleFile:
    media_type: str
    body: bytes
    gzipped: bytes
    digest: str


@cache
def load_build(folder: Path) -> Mapping[str, ConsoleFile]:
    """Name -> file of a build. Raises ProblemError where there is none."""
    files = [folder / INDEX_FILE, *(folder / "assets").glob("*")] if (folder / INDEX_FILE).is_file() else []
    if not files:
        raise ProblemError("console_not_built")
    return {path.name: _load_file(path) for path in files if path.suffix in MEDIA_TYPES}


def _load_file(path: Path) -> ConsoleFile:
    body = path.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:32]
    return ConsoleFile(MEDIA_TYPES[path.suffix], body, gzip.compress(body, 9, mtime=0), digest)


def routes() -> Routes:
    pages: Routes = {address: {"GET": get_page} for address in CONSOLE_PATHS}
    return {"/": {"GET": redirect_to_console}, **pages, "/assets/{name}": {"GET": get_asset}}


async def redirect_to_console(request: Request) -> Response:
    return Response(status_code=307, headers={"Location": CONSOLE_PATHS[0]})


async def get_page(request: Request) -> Response:
    return _file_response(request, load_build(DIST_DIR)[INDEX_FILE], NO_CACHE)


async def get_asset(request: Request) -> Response:
    file = load_build(DIST_DIR).get(request.path_params["name"])
    if file is None or request.path_params["name"] == INDEX_FILE:
        raise ProblemError("not_found", actual=repr(request.scope["path"][:200]))
    return _file_response(request, file, IMMUTABLE)


def _file_response(request: Request, file: ConsoleFile, cache_control: str) -> Response:
    accepts_gzip = (
        re.search(r"gzip(?!\s*;\s*q=0(\.0*)?\s*(,|$))", request.headers.get("accept-encoding") or "") is not None
    )
    etag = f'"{file.digest}{"-gz" if accepts_gzip else ""}"'
    headers = {**SECURITY_HEADERS, "Cache-Control": cache_control, "ETag": etag, "Vary": "Accept-Encoding"}
    if etag_matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    if accepts_gzip:
        return Response(file.gzipped, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)
