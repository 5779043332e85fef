"""OpenAPI of the viewer's routes: tiles of a slide and of its heatmap, annotations."""

from __future__ import annotations

from serving.core.http.schema import STORE_PROBLEMS, Schema, operation, path_param, query_params
from serving.pathology.viewer.tile_routes import GEOJSON, JPEG, PNG, XML, AnnotationQuery, PlaneQuery

VIEWER_PROBLEMS: dict[str, tuple[str, ...]] = {
    **{
        f"GET /v1/slides/{{id}}/{name}": ("unknown_slide", "slide_state", *more, *STORE_PROBLEMS)
        for name, more in (
            ("image.dzi", ("slide_unreadable",)),
            ("image_files/{level}/{tile}", ("not_found", "slide_unreadable", "bad_parameter")),
            ("heatmap.dzi", ()),
            ("heatmap_files/{level}/{tile}", ("not_found",)),
            ("annotations.geojson", ("bad_parameter",)),
        )
    },
}
SLIDE_ID_PARAM = path_param("id", "slide_id", pattern="^[0-9a-f]{32}$")
NOT_MODIFIED_RESPONSE = {"304": {"description": "If-None-Match names it: the browser has these bytes"}}


def viewer_paths() -> Schema:
    tile_params = [
        SLIDE_ID_PARAM,
        path_param("level", "0 is one pixel, the last the whole slide", pattern="^[0-9]{1,2}$"),
        path_param("tile", "column_row, and the kind of picture", pattern="^[0-9]{1,6}_[0-9]{1,6}\\.(jpeg|png)$"),
    ]
    return {
        **_pyramid_paths("image", "jpeg", JPEG, "the slide", [*tile_params, *query_params(PlaneQuery)]),
        **_pyramid_paths("heatmap", "png", PNG, "the probability of its tiles", tile_params),
        "/v1/slides/{id}/annotations.geojson": _get_operation(
            "GET /v1/slides/{id}/annotations.geojson",
            "annotations",
            "Evidence and positive tiles in level-0 pixels, as QuPath opens them",
            [GEOJSON],
            SLIDE_ID_PARAM,
            *query_params(AnnotationQuery),
        ),
    }


def _pyramid_paths(name: str, image_format: str, media_type: str, subject: str, tile_params: list[Schema]) -> Schema:
    descriptor_path, tiles_path = f"/v1/slides/{{id}}/{name}.dzi", f"/v1/slides/{{id}}/{name}_files/{{level}}/{{tile}}"
    summary = f"A tile of {subject}, {image_format}, at most 256 pixels a side"
    return {
        descriptor_path: _get_operation(
            f"GET {descriptor_path}", f"{name}Pyramid", f"Deep Zoom of {subject}", [XML], SLIDE_ID_PARAM
        ),
        tiles_path: _get_operation(f"GET {tiles_path}", f"{name}Tile", summary, [media_type], *tile_params),
    }


def _get_operation(route: str, name: str, summary: str, media_types: list[str], *parameters: Schema) -> Schema:
    responses = {
        "200": {"description": "As asked", "content": {media_type: {} for media_type in media_types}},
        **NOT_MODIFIED_RESPONSE,
    }
    return {"get": operation(VIEWER_PROBLEMS[route], name, summary, responses, parameters=list(parameters))}
