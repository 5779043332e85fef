"""The places that mattered as GeoJSON that QuPath 0.5 opens: polygons in level-0 pixels of the slide.

for part in stream(body, probability, attention, threshold): ...      # bytes of one FeatureCollection

Evidence comes as annotations, which are listed by name, and every tile at or above the threshold as a QuPath tile,
a kind of detection, which it can hold by the hundred thousand. Nothing is built whole: a part is some hundred tiles.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.pathology.labels import COLOURS, OTHER, Body

PART = 250  # features
POSITIVE = (240, 228, 66)  # of the same palette as the classes
Values = NDArray[np.float32]


def stream(body: Body, probability: Values, attention: Values, threshold: float) -> Iterator[bytes]:
    """probability, attention: (rows, columns) of the body's grid, NaN where no tile was read. threshold: of a tile."""
    yield b'{"type":"FeatureCollection","features":['
    evidence = [_evidence(body, number, spot) for number, spot in enumerate(body["evidence"], 1)]
    yield b",".join(map(orjson.dumps, evidence))
    rows, columns = np.nonzero(probability >= threshold)  # NaN is below any threshold
    for start in range(0, len(rows), PART):
        part = slice(start, start + PART)
        told = [
            orjson.dumps(_tile(body, int(column), int(row), float(probability[row, column]), attention[row, column]))
            for row, column in zip(rows[part], columns[part], strict=True)
        ]
        yield (b"," if start or evidence else b"") + b",".join(told)
    yield b"]}"


def _evidence(body: Body, number: int, spot: dict[str, Any]) -> dict[str, Any]:
    name = f"{number} {spot['code']} {spot['probability']:.3f}"
    look = _class(str(spot["code"]), COLOURS.get(str(spot["code"]), OTHER))
    values = _measured(spot["probability"], spot["attention"])
    return _feature(body, "annotation", _box(spot), look, values, name)


def _tile(body: Body, column: int, row: int, probability: float, attention: float) -> dict[str, Any]:
    """Placed as datasets.slides.tiling places it."""
    across, down = body["grid"]["extent"]
    box = round(column * across), round(row * down), round((column + 1) * across), round((row + 1) * down)
    return _feature(body, "tile", box, _class("Positive", POSITIVE), _measured(probability, float(attention)))


def _feature(
    body: Body,
    kind: str,
    box: tuple[int, int, int, int],
    look: dict[str, Any],
    values: dict[str, float],
    name: str = "",
) -> dict[str, Any]:
    left, top, right, bottom = box
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    told = {"objectType": kind, "classification": look, "isLocked": kind == "annotation", "measurements": values}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{body['slide_id']}/{kind}/{left},{top}")),  # the same each time
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {**told, "name": name} if name else told,
    }


def _box(spot: dict[str, Any]) -> tuple[int, int, int, int]:
    return spot["x"], spot["y"], spot["x"] + spot["width"], spot["y"] + spot["height"]


def _class(name: str, colour: tuple[int, int, int]) -> dict[str, Any]:
    return {"name": name, "color": list(colour)}


def _measured(probability: float, attention: float) -> dict[str, float]:
    """QuPath's tables take numbers only: what is none is left out."""
    values = {"Probability": round(float(probability), 6), "Attention": float(attention)}
    return {name: value for name, value in values.items() if np.isfinite(value)}
