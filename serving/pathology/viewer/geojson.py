"""Export evidence and positive tiles as GeoJSON for QuPath 0.5: polygons in level-0 pixels of the slide.

for chunk in stream_features(body, probability, attention, threshold): ...      # bytes of one FeatureCollection

Evidence tiles become annotations, which QuPath lists by name. Every tile at or above the threshold becomes a QuPath
tile, a kind of detection, of which it can hold hundreds of thousands. The output is streamed in chunks.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.pathology.labels import CLASS_COLOURS, OTHER_COLOUR, ReportBody

CHUNK_FEATURES = 250  # features
POSITIVE_COLOUR = (240, 228, 66)  # from the same palette as the classes
FloatGrid = NDArray[np.float32]


def stream_features(
    body: ReportBody, probability: FloatGrid, attention: FloatGrid, threshold: float
) -> Iterator[bytes]:
    """probability, attention: (rows, columns) of the body's grid, NaN where no tile was read. threshold: the lowest
    probability of an exported tile."""
    yield b'{"type":"FeatureCollection","features":['
    evidence = [_evidence_feature(body, number, tile) for number, tile in enumerate(body["evidence"], 1)]
    yield b",".join(map(orjson.dumps, evidence))
    rows, columns = np.nonzero(probability >= threshold)  # NaN is below any threshold
    for start in range(0, len(rows), CHUNK_FEATURES):
        chunk = slice(start, start + CHUNK_FEATURES)
        features = [
            orjson.dumps(
                _tile_feature(body, int(column), int(row), float(probability[row, column]), attention[row, column])
            )
            for row, column in zip(rows[chunk], columns[chunk], strict=True)
        ]
        yield (b"," if start or evidence else b"") + b",".join(features)
    yield b"]}"


def _evidence_feature(body: ReportBody, number: int, tile: dict[str, Any]) -> dict[str, Any]:
    name = f"{number} {tile['code']} {tile['probability']:.3f}"
    classification = _classification(str(tile["code"]), CLASS_COLOURS.get(str(tile["code"]), OTHER_COLOUR))
    measurements = _measurements(tile["probability"], tile["attention"])
    return _feature(body, "annotation", _tile_box(tile), classification, measurements, name)


def _tile_feature(body: ReportBody, column: int, row: int, probability: float, attention: float) -> dict[str, Any]:
    """Has the same position as in datasets.slides.tiling."""
    tile_width, tile_height = body["grid"]["extent"]
    box = (
        round(column * tile_width),
        round(row * tile_height),
        round((column + 1) * tile_width),
        round((row + 1) * tile_height),
    )
    return _feature(
        body, "tile", box, _classification("Positive", POSITIVE_COLOUR), _measurements(probability, float(attention))
    )


def _feature(
    body: ReportBody,
    object_type: str,
    box: tuple[int, int, int, int],
    classification: dict[str, Any],
    measurements: dict[str, float],
    name: str = "",
) -> dict[str, Any]:
    left, top, right, bottom = box
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    properties = {
        "objectType": object_type,
        "classification": classification,
        "isLocked": object_type == "annotation",
        "measurements": measurements,
    }
    return {
        "type": "Feature",
        "id": str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"{body['slide_id']}/{object_type}/{left},{top}")
        ),  # identical in every export
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {**properties, "name": name} if name else properties,
    }


def _tile_box(tile: dict[str, Any]) -> tuple[int, int, int, int]:
    return tile["x"], tile["y"], tile["x"] + tile["width"], tile["y"] + tile["height"]


def _classification(name: str, colour: tuple[int, int, int]) -> dict[str, Any]:
    return {"name": name, "color": list(colour)}


def _measurements(probability: float, attention: float) -> dict[str, float]:
    """Finite values only, because QuPath's tables accept nothing but numbers."""
    measurements = {"Probability": round(float(probability), 6), "Attention": float(attention)}
    return {name: value for name, value in measurements.items() if np.isfinite(value)}
