"""The console's part of the OpenAPI document: its page and the files that the page loads."""

from __future__ import annotations

from serving.console.pages import MEDIA_TYPES
from serving.core.http.schema import Schema, operation, path_param
from serving.core.security.permissions import CONSOLE_PATHS

PROBLEMS: dict[str, tuple[str, ...]] = {
    "GET /": (),
    **{f"GET {address}": ("console_not_built",) for address in CONSOLE_PATHS},
    "GET /assets/{name}": ("not_found", "console_not_built"),
}
NOT_MODIFIED = {"304": {"description": "If-None-Match names it: the browser has these bytes"}}


def paths() -> Schema:
    redirect = {"307": {"description": "To /console"}}
    operations: Schema = {"/": {"get": operation(PROBLEMS["GET /"], "start", "To the console", redirect)}}
    for depth, address in enumerate(CONSOLE_PATHS):
        path_params = [path_param(name, "a segment below the page's address") for name in "abcd"[:depth]]
        summary = "The console, for people: the same page whatever is below it"
        operations[address] = {
            "get": _get(f"GET {address}", f"console{depth}", summary, [MEDIA_TYPES[".html"]], path_params)
        }
    name = path_param("name", "a file of the build, as the page names it")
    types = sorted(set(MEDIA_TYPES.values()))
    operations["/assets/{name}"] = {"get": _get("GET /assets/{name}", "asset", "What the console loads", types, [name])}
    return operations


def _get(route: str, name: str, summary: str, types: list[str], parameters: list[Schema]) -> Schema:
    responses = {
        "200": {"description": "As asked", "content": {media_type: {} for media_type in types}},
        **NOT_MODIFIED,
    }
    return operation(PROBLEMS[route], name, summary, responses, parameters=parameters)
