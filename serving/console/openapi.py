"""For GET /openapi.json: the console's page and what it loads."""

from __future__ import annotations

from serving.console.pages import KINDS
from serving.core.http.schema import Schema, in_path, operation
from serving.core.security.permissions import CONSOLE_PATHS

PROBLEMS: dict[str, tuple[str, ...]] = {
    **{f"GET {address}": ("console_not_built",) for address in CONSOLE_PATHS},
    "GET /assets/{name}": ("not_found", "console_not_built"),
}
KNOWN = {"304": {"description": "If-None-Match names it: the browser has these bytes"}}


def paths() -> Schema:
    told: Schema = {}
    for deep, address in enumerate(CONSOLE_PATHS):
        below = [in_path(name, "a segment below the page's address") for name in "abcd"[:deep]]
        summary = "The console, for people: the same page whatever is below it"
        told[address] = {"get": _get(f"GET {address}", f"console{deep}", summary, [KINDS[".html"]], below)}
    name = in_path("name", "a file of the build, as the page names it")
    types = sorted(set(KINDS.values()))
    told["/assets/{name}"] = {"get": _get("GET /assets/{name}", "asset", "What the console loads", types, [name])}
    return told


def _get(route: str, name: str, summary: str, types: list[str], parameters: list[Schema]) -> Schema:
    fine = {"200": {"description": "As asked", "content": {each: {} for each in types}}, **KNOWN}
    return operation(PROBLEMS[route], name, summary, fine, parameters=parameters)
