"""Draw the slide's overview with its heatmap and the numbered evidence tiles."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.pathology.labels import CLASS_COLOURS, OTHER_COLOUR, ReportBody
from serving.pathology.viewer.colormap import to_rgba

MAX_SIDE = 1_100  # pixels of the longer side, at most
Heatmap = NDArray[np.float32]  # (rows, columns) probability of each tile, NaN where nothing was read


def overlay_heatmap(body: ReportBody, overview: bytes, heatmap: Heatmap | None) -> bytes:
    """JPEG of the overview (an image of the whole slide) with the heatmap and frames around the evidence tiles."""
    from PIL import Image

    with Image.open(io.BytesIO(overview)) as image:
        picture = image.convert("RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    if heatmap is not None:
        layer = Image.fromarray(to_rgba(heatmap))
        width, height = (round(side) for side in _heatmap_size(body, layer.size, picture.size))
        layer = layer.resize((max(1, width), max(1, height)), Image.Resampling.NEAREST)
        picture.paste(layer, (0, 0), layer)
    _draw_frames(body, picture)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def _heatmap_size(body: ReportBody, cells: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """Pixels (x, y) of the image that the grid covers, which may reach beyond the slide's edge."""
    grid, slide = body["grid"], body["slide"]
    tile_width, tile_height = grid["extent"]
    return cells[0] * tile_width * size[0] / slide["width"], cells[1] * tile_height * size[1] / slide["height"]


def _draw_frames(body: ReportBody, picture: Any) -> None:
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(13, max(picture.size) // 45))
    scale = picture.width / body["slide"]["width"]
    for number, tile in enumerate(body["evidence"], 1):
        left, top = tile["x"] * scale, tile["y"] * scale
        right, bottom = left + max(tile["width"] * scale, 8), top + max(tile["height"] * scale, 8)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(255, 255, 255), width=4)
        draw.rectangle((left, top, right, bottom), outline=class_colour(tile), width=2)
        # beside the frame, inside the image
        label_position = (right + 4, top) if right + 30 < picture.width else (left - 26, top)
        draw.text(label_position, str(number), fill=(0, 0, 0), font=font, stroke_width=3, stroke_fill=(255, 255, 255))


def class_colour(tile: Mapping[str, Any]) -> tuple[int, int, int]:
    """Red, green, blue of the tile's class."""
    return CLASS_COLOURS.get(str(tile["code"]), OTHER_COLOUR)
