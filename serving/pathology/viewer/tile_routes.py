"""A slide's pictures for the viewer and for QuPath, tile by tile: image.dzi, heatmap.dzi, annotations.geojson.

`find` says what there is of a slide; each answer has an ETag of the slide's SHA-256, the model and the tile, so that a
browser asks for a tile once and is told 304 afterwards. What is private to the clinic stays in its browser's cache.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.errors import Fault
from datasets.slides.errors import SlideRefused
from serving.core.http.caching import etag, matches
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply, query
from serving.pathology.context import state_problem
from serving.pathology.viewer import geojson
from serving.pathology.viewer.deepzoom import DeepZoom, Pyramid, heat_tile

Handler = Callable[[Call], Awaitable[Reply]]
TILE = re.compile(r"(\d{1,6})_(\d{1,6})\.(jpeg|png)", re.ASCII)
SHARE = re.compile(r"0(\.\d{1,9})?|1(\.0{1,9})?", re.ASCII)
LIKELY = 0.5  # a tile that is likelier positive than not; who asks may draw the line elsewhere
LEVEL = re.compile(r"\d{1,2}", re.ASCII)
# Kept by the browser of who was allowed to see it: with another session it asks anew.
CACHED = {"Cache-Control": "private, max-age=86400", "Vary": "Authorization, Cookie"}
XML, JPEG, PNG, GEOJSON = "application/xml", "image/jpeg", "image/png", "application/geo+json"


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to show of a slide.

    path: its stripped copy. sha256: of what came. mpp: the operator's, where one was given. heat: heat.npz.
    reading, heat: None while it is not read.
    """

    path: Path
    sha256: str
    mpp: float | None
    state: str
    reading: dict[str, Any] | None
    heat: Path | None


class Images:
    """`find` gets the request, whose address names the slide; it raises Problem where there is nothing to show."""

    def __init__(self, find: Callable[[Call], Awaitable[Shown]], deepzoom: DeepZoom | None = None):
        self.find, self.deepzoom = find, deepzoom or DeepZoom()

    def routes(self) -> dict[str, dict[str, Handler]]:
        base = "/v1/slides/{id}"
        return {
            f"{base}/image.dzi": {"GET": self.image},
            f"{base}/image_files/{{level}}/{{tile}}": {"GET": self.image_tile},
            f"{base}/heatmap.dzi": {"GET": self.heatmap},
            f"{base}/heatmap_files/{{level}}/{{tile}}": {"GET": self.heatmap_tile},
            f"{base}/annotations.geojson": {"GET": self.annotations},
        }

    async def image(self, call: Call) -> Reply:
        shown = await self.find(call)
        tag = etag(shown.sha256, "dzi")
        return _same(call, tag) or _reply((await self._pyramid(shown)).dzi("jpeg"), XML, tag)

    async def image_tile(self, call: Call) -> Reply:
        shown, (level, x, y) = await self.find(call), _place(call, "jpeg")
        tag = etag(shown.sha256, "image", level, x, y)
        if same := _same(call, tag):
            return same
        try:
            found = await self.deepzoom.tile(shown.path, shown.mpp, level, x, y)
        except SlideRefused as error:
            raise _unreadable(error) from error
        if found is None:
            raise _nowhere(call)
        return _reply(found, JPEG, tag)

    async def heatmap(self, call: Call) -> Reply:
        reading, _ = _read(shown := await self.find(call))
        pyramid = Pyramid(reading["slide"]["width"], reading["slide"]["height"])
        tag = etag(shown.sha256, reading["model"]["bundle"], "dzi")
        return _same(call, tag) or _reply(pyramid.dzi("png"), XML, tag)

    async def heatmap_tile(self, call: Call) -> Reply:
        reading, heat = _read(shown := await self.find(call))
        level, x, y = _place(call, "png")
        tag = etag(shown.sha256, reading["model"]["bundle"], reading["config_sha256"], "heat", level, x, y)
        if same := _same(call, tag):
            return same
        pyramid = Pyramid(reading["slide"]["width"], reading["slide"]["height"])
        box = pyramid.box(level, x, y)
        if box is None:
            raise _nowhere(call)
        values, _ = await self._heat(heat)
        across, down = reading["grid"]["extent"]
        return _reply(await asyncio.to_thread(heat_tile, values, (across, down), pyramid.shrink(level), box), PNG, tag)

    async def annotations(self, call: Call) -> Reply:
        reading, heat = _read(shown := await self.find(call))
        options, faults = query(call, ("threshold",))
        told = options.get("threshold", str(LIKELY))
        if not SHARE.fullmatch(told):
            faults.append(Fault("threshold", repr(told[:60]), "a probability from 0 to 1", "0 至 1 的概率"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        probability, attention = await self._heat(heat)

        async def parts() -> AsyncGenerator[bytes, None]:
            for part in geojson.stream(reading, probability, attention, float(told)):
                yield part
                await asyncio.sleep(0)  # others are served between two parts

        name = f'attachment; filename="{reading["slide_id"]}.geojson"'
        return Reply(parts(), 200, GEOJSON, {"Content-Disposition": name})

    async def _pyramid(self, shown: Shown) -> Pyramid:
        if shown.reading is not None:
            return Pyramid(shown.reading["slide"]["width"], shown.reading["slide"]["height"])
        try:
            return await self.deepzoom.pyramid(shown.path, shown.mpp)
        except SlideRefused as error:
            raise _unreadable(error) from error

    async def _heat(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return await asyncio.to_thread(self.deepzoom.heats.get, path)

    def close(self) -> None:
        self.deepzoom.close()


def _place(call: Call, kind: str) -> tuple[int, int, int]:
    """(level, column, row) of the address."""
    _, level, name = call.path
    found = TILE.fullmatch(name)
    if found is None or found[3] != kind or not LEVEL.fullmatch(level):
        raise _nowhere(call)
    return int(level), int(found[1]), int(found[2])


def _read(shown: Shown) -> tuple[dict[str, Any], Path]:
    if shown.reading is None or shown.heat is None:
        raise state_problem(shown.state, "in_review")
    return shown.reading, shown.heat


def _same(call: Call, tag: str) -> Reply | None:
    known = matches(tag, call.header(b"if-none-match"))
    return Reply(b"", 304, JPEG, {"ETag": tag, **CACHED}) if known else None


def _reply(body: bytes, media_type: str, tag: str) -> Reply:
    return Reply(body, 200, media_type, {"ETag": tag, **CACHED})


def _nowhere(call: Call) -> Problem:
    return Problem("not_found", found=repr(call.scope["path"][:200]))


def _unreadable(error: SlideRefused) -> Problem:
    reason = error.faults[0]
    return Problem("slide_unreadable", found=reason.en, found_zh=reason.zh)
