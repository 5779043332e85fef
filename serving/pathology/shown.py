"""For GET /openapi.json: a slide's pictures, and where its pages were."""

from __future__ import annotations

from serving.core.http.schema import STORE, Schema, in_path, in_query, operation
from serving.pathology.viewer.tile_routes import GEOJSON, JPEG, PNG, SHARE, XML

PROBLEMS: dict[str, tuple[str, ...]] = {
    "GET /slides": (),
    "GET /slides/{id}": ("not_found",),
    **{
        f"GET /v1/slides/{{id}}/{name}": ("unknown_slide", "slide_state", *more, *STORE)
        for name, more in (
            ("image.dzi", ("slide_unreadable",)),
            ("image_files/{level}/{tile}", ("not_found", "slide_unreadable")),
            ("heatmap.dzi", ()),
            ("heatmap_files/{level}/{tile}", ("not_found",)),
            ("annotations.geojson", ("bad_parameter",)),
        )
    },
}
SLIDE = in_path("id", "slide_id", pattern="^[0-9a-f]{32}$")
KNOWN = {"304": {"description": "If-None-Match names it: the browser has these bytes"}}


def paths() -> Schema:
    tile = [
        SLIDE,
        in_path("level", "0 is one pixel, the last the whole slide", pattern="^[0-9]{1,2}$"),
        in_path("tile", "column_row, and the kind of picture", pattern="^[0-9]{1,6}_[0-9]{1,6}\\.(jpeg|png)$"),
    ]
    least = in_query("threshold", {"type": "string", "pattern": f"^({SHARE.pattern})$"}, "Tiles at or above; else 0.5.")
    return {
        "/slides": _moved("GET /slides", "worklistMoved"),
        "/slides/{id}": _moved("GET /slides/{id}", "slideMoved", SLIDE),
        **_pictures("image", "jpeg", JPEG, "the slide", tile),
        **_pictures("heatmap", "png", PNG, "the probability of its tiles", tile),
        "/v1/slides/{id}/annotations.geojson": _get(
            "GET /v1/slides/{id}/annotations.geojson",
            "annotations",
            "Evidence and positive tiles in level-0 pixels, as QuPath opens them",
            [GEOJSON],
            SLIDE,
            least,
        ),
    }


def _moved(route: str, name: str, *parameters: Schema) -> Schema:
    place = {"Location": {"schema": {"type": "string"}}}
    fine = {"308": {"description": "The console has this page at Location", "headers": place}}
    return {"get": operation(PROBLEMS[route], name, "The page's earlier address", fine, parameters=list(parameters))}


def _pictures(name: str, kind: str, media_type: str, what: str, tile: list[Schema]) -> Schema:
    one, files = f"/v1/slides/{{id}}/{name}.dzi", f"/v1/slides/{{id}}/{name}_files/{{level}}/{{tile}}"
    summary = f"A tile of {what}, {kind}, at most 256 pixels a side"
    return {
        one: _get(f"GET {one}", f"{name}Pyramid", f"Deep Zoom of {what}", [XML], SLIDE),
        files: _get(f"GET {files}", f"{name}Tile", summary, [media_type], *tile),
    }


def _get(route: str, name: str, summary: str, types: list[str], *parameters: Schema) -> Schema:
    fine = {"200": {"description": "As asked", "content": {each: {} for each in types}}, **KNOWN}
    return {"get": operation(PROBLEMS[route], name, summary, fine, parameters=list(parameters))}
