"""The viewer's pages and what they load, out of serving/pathology/viewer: GET /slides, /slides/{id}, /static/{name}.

Only the files of FILES are ever served, from memory. The pages' policy lets a browser run, load and ask nothing that is
not of this service; nothing in a text becomes markup or script.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from serving.call import Call, Reply
from serving.pathology.deepzoom import etag, matches
from serving.pathology.desk import ID
from serving.problems import Problem

Handler = Callable[[Call], Awaitable[Reply]]
HERE = Path(__file__).parent / "viewer"
SCRIPT, STYLE, FONT = "text/javascript; charset=utf-8", "text/css; charset=utf-8", "font/ttf"
FILES = {  # address below /static -> file, media type
    **{f"{name}.js": (HERE / f"{name}.js", SCRIPT) for name in ("common", "viewer", "image", "report", "slides")},
    "hash-worker.js": (HERE / "hash-worker.js", SCRIPT),
    "app.css": (HERE / "app.css", STYLE),
    **{f"{name}.min.js": (HERE / "vendor" / f"{name}.min.js", SCRIPT) for name in ("openseadragon", "tus", "sha256")},
    "NotoSansSC-Regular.ttf": (HERE.parent / "report" / "fonts" / "NotoSansSC-Regular.ttf", FONT),
}
EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"  # a style element without content: see viewer/image.js
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
    "Cache-Control": "private, no-cache",  # kept, and asked about each time
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes
    etag: str


@cache
def _file(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, gzip.compress(body, 6, mtime=0), etag(body))


def routes() -> dict[str, dict[str, Handler]]:
    return {"/slides": {"GET": worklist}, "/slides/{id}": {"GET": viewer}, "/static/{name}": {"GET": static}}


async def worklist(call: Call) -> Reply:
    return _reply(call, HERE / "slides.html", "text/html; charset=utf-8")


async def viewer(call: Call) -> Reply:
    """The same page for every slide: what its script asks for says whether there is one. Raises Problem for no id."""
    if not ID.fullmatch(call.path[0]):
        raise Problem("not_found", found=repr(call.scope["path"][:200]))
    return _reply(call, HERE / "viewer.html", "text/html; charset=utf-8")


async def static(call: Call) -> Reply:
    found = FILES.get(call.path[0])
    if found is None:
        raise Problem("not_found", found=repr(call.scope["path"][:200]))
    return _reply(call, *found)


def _reply(call: Call, path: Path, media_type: str) -> Reply:
    file = _file(path)
    packs = "gzip" in (call.header(b"accept-encoding") or "")
    tag = f'{file.etag[:-1]}-gz"' if packs else file.etag
    headers = {**HEADERS, "ETag": tag, "Vary": "Accept-Encoding"}
    if matches(tag, call.header(b"if-none-match")):
        return Reply(b"", 304, media_type, headers)
    return (
        Reply(file.packed, 200, media_type, {**headers, "Content-Encoding": "gzip"})
        if packs
        else Reply(file.body, 200, media_type, headers)
    )
