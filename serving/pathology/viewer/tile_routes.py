"""Routes of the viewer and of QuPath: image.dzi, heatmap.dzi and their tiles, annotations.geojson.

Each response has an ETag made of the slide's SHA-256, the model and the tile, so that a browser fetches a tile once and
gets 304 afterwards. Responses may only be cached privately, by the browser.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datasets.errors import FieldError
from datasets.slides.errors import SlideError
from datasets.slides.reader import PlaneError
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response, StreamingResponse, etag_matches, make_etag
from serving.core.http.router import Routes
from serving.core.http.validation import RequestModel, matching, parse_query, whole_number
from serving.pathology.context import state_problem
from serving.pathology.viewer import geojson
from serving.pathology.viewer.deepzoom import DeepZoom, Pyramid, display_stretch, render_heatmap_tile

TILE_PATTERN = re.compile(r"(\d{1,6})_(\d{1,6})\.(jpeg|png)", re.ASCII)
PROBABILITY_PATTERN = r"0(\.[0-9]{1,9})?|1(\.0{1,9})?"
DEFAULT_THRESHOLD = 0.5  # tiles that are more likely positive than not; the caller may choose another threshold
LEVEL_PATTERN = re.compile(r"\d{1,2}", re.ASCII)
# Cached only in the browser of an authorised user; a request with another session is not served from it.
CACHE_HEADERS = {"Cache-Control": "private, max-age=86400", "Vary": "Authorization, Cookie"}
XML, JPEG, PNG, GEOJSON = "application/xml", "image/jpeg", "image/png", "application/geo+json"


@dataclass(frozen=True, slots=True)
class SlideImage:
    """The files and data that the viewer needs of a slide.

    path: the de-identified copy. sha256: of the uploaded file. mpp: microns per pixel if an operator gave them.
    reading, heatmap (path of heat.npz): None before the slide has been read.
    """

    tenant: str
    path: Path
    sha256: str
    mpp: float | None
    state: str
    reading: dict[str, Any] | None
    heatmap: Path | None


class AnnotationQuery(RequestModel):
    threshold: Annotated[
        str,
        matching(f"({PROBABILITY_PATTERN})", "a probability from 0 to 1", "0 至 1 的概率"),
        Field(description=f"Tiles at or above; else {DEFAULT_THRESHOLD:g}."),
    ] = ""


MAX_PLANES = 1_000


class PlaneQuery(RequestModel):
    plane: Annotated[
        int,
        whole_number(1, MAX_PLANES),
        Field(description="Focal plane, from 1 at the slide upwards; else each tile's sharpest."),
    ] = 0

    @property
    def index(self) -> int | None:
        return self.plane - 1 if self.plane else None


class TileRoutes:
    """load_image: finds the slide named by a request's path; raises ProblemError if it cannot be shown."""

    def __init__(self, load_image: Callable[[Request], Awaitable[SlideImage]], deepzoom: DeepZoom | None = None):
        self.load_image, self.deepzoom = load_image, deepzoom or DeepZoom()

    def routes(self) -> Routes:
        base = "/v1/slides/{id}"
        return {
            f"{base}/image.dzi": {"GET": self.get_image_descriptor},
            f"{base}/image_files/{{level}}/{{tile}}": {"GET": self.get_image_tile},
            f"{base}/heatmap.dzi": {"GET": self.get_heatmap_descriptor},
            f"{base}/heatmap_files/{{level}}/{{tile}}": {"GET": self.get_heatmap_tile},
            f"{base}/annotations.geojson": {"GET": self.get_annotations},
        }

    async def get_image_descriptor(self, request: Request) -> Response:
        image = await self.load_image(request)
        etag = make_etag(image.sha256, "dzi")
        return _not_modified_response(request, etag) or _cacheable_response(
            (await self._pyramid(image)).dzi("jpeg"), XML, etag
        )

    async def get_image_tile(self, request: Request) -> Response:
        image, (level, x, y) = await self.load_image(request), _tile_coords(request, "jpeg")
        query = parse_query(request, PlaneQuery)
        etag = make_etag(image.sha256, "image", level, x, y, *([f"plane {query.plane}"] if query.plane else []))
        if not_modified := _not_modified_response(request, etag):
            return not_modified
        try:
            tile = await self.deepzoom.read_tile(image.tenant, image.path, image.mpp, level, x, y, query.index)
        except SlideError as error:
            raise _unreadable(error) from error
        except PlaneError as error:
            expected = f"a focal plane from 1 to {error.planes}", f"1 至 {error.planes} 的焦平面"
            raise ProblemError("bad_parameter", errors=[FieldError("plane", str(query.plane), *expected)]) from error
        if tile is None:
            raise _not_found(request)
        return _cacheable_response(tile, JPEG, etag)

    async def get_heatmap_descriptor(self, request: Request) -> Response:
        reading, _ = _require_reading(image := await self.load_image(request))
        pyramid = _reading_pyramid(reading)
        etag = make_etag(image.sha256, reading["model"]["bundle"], "dzi")
        return _not_modified_response(request, etag) or _cacheable_response(pyramid.dzi("png"), XML, etag)

    async def get_heatmap_tile(self, request: Request) -> Response:
        reading, heatmap_path = _require_reading(image := await self.load_image(request))
        level, x, y = _tile_coords(request, "png")
        etag = make_etag(image.sha256, reading["model"]["bundle"], reading["config_sha256"], "heat", level, x, y)
        if not_modified := _not_modified_response(request, etag):
            return not_modified
        pyramid = _reading_pyramid(reading)
        box = pyramid.tile_box(level, x, y)
        if box is None:
            raise _not_found(request)
        probabilities, _ = await self._load_heatmap(heatmap_path)
        stretch = display_stretch(reading["slide"]["mpp"])
        tile_width, tile_height = (
            side * factor for side, factor in zip(reading["grid"]["extent"], stretch, strict=True)
        )
        return _cacheable_response(
            await asyncio.to_thread(
                render_heatmap_tile, probabilities, (tile_width, tile_height), pyramid.downsample(level), box
            ),
            PNG,
            etag,
        )

    async def get_annotations(self, request: Request) -> Response:
        reading, heatmap_path = _require_reading(image := await self.load_image(request))
        threshold = float(parse_query(request, AnnotationQuery).threshold or DEFAULT_THRESHOLD)
        probability, attention = await self._load_heatmap(heatmap_path)

        async def chunks() -> AsyncGenerator[bytes, None]:
            for chunk in geojson.stream_features(reading, probability, attention, threshold):
                yield chunk
                await asyncio.sleep(0)  # lets other requests run between two chunks

        disposition = f'attachment; filename="{reading["slide_id"]}.geojson"'
        return StreamingResponse(chunks(), headers={"Content-Disposition": disposition}, media_type=GEOJSON)

    async def _pyramid(self, image: SlideImage) -> Pyramid:
        if image.reading is not None:
            return _reading_pyramid(image.reading)
        try:
            return await self.deepzoom.read_pyramid(image.tenant, image.path, image.mpp)
        except SlideError as error:
            raise _unreadable(error) from error

    async def _load_heatmap(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return await asyncio.to_thread(self.deepzoom.heatmap_cache.get, path)

    def close(self) -> None:
        self.deepzoom.close()


def _tile_coords(request: Request, image_format: str) -> tuple[int, int, int]:
    """(level, column, row) from the path. Raises ProblemError."""
    level, name = request.path_params["level"], request.path_params["tile"]
    match = TILE_PATTERN.fullmatch(name)
    if match is None or match[3] != image_format or not LEVEL_PATTERN.fullmatch(level):
        raise _not_found(request)
    return int(level), int(match[1]), int(match[2])


def _reading_pyramid(reading: dict[str, Any]) -> Pyramid:
    slide = reading["slide"]
    return Pyramid.of_slide((slide["width"], slide["height"]), slide["mpp"])


def _require_reading(image: SlideImage) -> tuple[dict[str, Any], Path]:
    if image.reading is None or image.heatmap is None:
        raise state_problem(image.state, "in_review")
    return image.reading, image.heatmap


def _not_modified_response(request: Request, etag: str) -> Response | None:
    matches = etag_matches(etag, request.headers.get("if-none-match"))
    return Response(status_code=304, headers={"ETag": etag, **CACHE_HEADERS}) if matches else None


def _cacheable_response(body: bytes, media_type: str, etag: str) -> Response:
    return Response(body, headers={"ETag": etag, **CACHE_HEADERS}, media_type=media_type)


def _not_found(request: Request) -> ProblemError:
    return ProblemError("not_found", actual=repr(request.scope["path"][:200]))


def _unreadable(error: SlideError) -> ProblemError:
    reason = error.issues[0]
    return ProblemError("slide_unreadable", actual=reason.en, actual_zh=reason.zh)
