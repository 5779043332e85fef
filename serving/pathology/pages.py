"""Where the slides' pages were before the console had them: GET /slides, /slides/{id} lead on to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply
from serving.pathology.context import ID

Handler = Callable[[Call], Awaitable[Reply]]
WORKLIST = "/console/slides"


def routes() -> dict[str, dict[str, Handler]]:
    return {"/slides": {"GET": worklist}, "/slides/{id}": {"GET": viewer}}


async def worklist(call: Call) -> Reply:
    return _moved(WORKLIST)


async def viewer(call: Call) -> Reply:
    """Raises Problem for no id."""
    if not ID.fullmatch(call.path[0]):
        raise Problem("not_found", found=repr(call.scope["path"][:200]))
    return _moved(f"{WORKLIST}/{call.path[0]}")


def _moved(to: str) -> Reply:
    return Reply(b"", 308, "text/plain; charset=utf-8", {"Location": to})
