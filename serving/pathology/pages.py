"""Where the slides' pages were before the console had them: GET /slides, /slides/{id} lead on to it."""

from __future__ import annotations

from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response
from serving.core.http.router import Routes
from serving.pathology.context import ID_PATTERN

WORKLIST = "/console/slides"


def routes() -> Routes:
    return {"/slides": {"GET": worklist}, "/slides/{id}": {"GET": viewer}}


async def worklist(request: Request) -> Response:
    return _redirect(WORKLIST)


async def viewer(request: Request) -> Response:
    """Raises Problem for no id."""
    if not ID_PATTERN.fullmatch(request.path_params["id"]):
        raise ProblemError("not_found", actual=repr(request.scope["path"][:200]))
    return _redirect(f"{WORKLIST}/{request.path_params['id']}")


def _redirect(location: str) -> Response:
    return Response(status_code=308, headers={"Location": location}, media_type="text/plain; charset=utf-8")
