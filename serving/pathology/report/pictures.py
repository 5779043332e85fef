"""The slide at a glance: its overview with the heatmap and the numbered places over it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.pathology.labels import COLOURS, OTHER, Body
from serving.pathology.viewer.colormap import colours

SIDE = 1_100  # pixels of the longer side, at most
Heat = NDArray[np.float32]  # (rows, columns) probability of each tile, NaN where nothing was read


def with_heat(body: Body, overview: bytes, heat: Heat | None) -> bytes:
    """JPEG of the overview, an image of the whole slide, under its heatmap and the frames of its evidence."""
    from PIL import Image

    with Image.open(io.BytesIO(overview)) as given:
        picture = given.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    if heat is not None:
        over = Image.fromarray(colours(heat))
        width, height = (round(side) for side in _extent(body, over.size, picture.size))
        over = over.resize((max(1, width), max(1, height)), Image.Resampling.NEAREST)
        picture.paste(over, (0, 0), over)
    _frames(body, picture)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def _extent(body: Body, cells: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """Pixels of the picture that all cells cover; the last ones reach beyond the slide."""
    grid, slide = body["grid"], body["slide"]
    across, down = grid["extent"]
    return cells[0] * across * size[0] / slide["width"], cells[1] * down * size[1] / slide["height"]


def _frames(body: Body, picture: Any) -> None:
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(13, max(picture.size) // 45))
    scale = picture.width / body["slide"]["width"]
    for number, spot in enumerate(body["evidence"], 1):
        left, top = spot["x"] * scale, spot["y"] * scale
        right, bottom = left + max(spot["width"] * scale, 8), top + max(spot["height"] * scale, 8)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(255, 255, 255), width=4)
        draw.rectangle((left, top, right, bottom), outline=colour(spot), width=2)
        # beside the frame, within the picture
        at = (right + 4, top) if right + 30 < picture.width else (left - 26, top)
        draw.text(at, str(number), fill=(0, 0, 0), font=font, stroke_width=3, stroke_fill=(255, 255, 255))


def colour(spot: Mapping[str, Any]) -> tuple[int, int, int]:
    return COLOURS.get(str(spot["code"]), OTHER)
