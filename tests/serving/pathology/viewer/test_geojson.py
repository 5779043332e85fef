from __future__ import annotations

import tracemalloc
import uuid

import geojson
import numpy as np
import pytest

from serving.pathology.viewer.geojson import stream_features
from tests.serving.pathology.fake_readings import READING, heat


def told(threshold: float = 0.5) -> geojson.FeatureCollection:
    return geojson.loads(b"".join(stream_features(READING, *heat(), threshold)).decode())


def of(kind: str, threshold: float = 0.5) -> list[geojson.Feature]:
    return [one for one in told(threshold)["features"] if one["properties"]["objectType"] == kind]


def test_it_is_valid_geojson_whatever_is_in_it():
    assert told().is_valid
    assert all(feature.is_valid and feature["geometry"].is_valid for feature in told()["features"])
    assert (
        b"".join(stream_features({**READING, "evidence": []}, *heat(), 2.0))
        == b'{"type":"FeatureCollection","features":[]}'
    )
    assert geojson.loads(b"".join(stream_features({**READING, "evidence": []}, *heat(), 0.5)).decode()).is_valid


def test_evidence_is_an_annotation_with_its_class_place_and_measurements():
    first, spot = of("annotation")[0], READING["evidence"][0]
    assert first["properties"]["classification"] == {"name": "HSIL", "color": [213, 94, 0]}
    assert first["properties"]["measurements"] == {"Probability": spot["probability"], "Attention": spot["attention"]}
    corners = np.array(first["geometry"]["coordinates"][0])
    assert corners.min(0).tolist() == [spot["x"], spot["y"]]
    assert corners.max(0).tolist() == [spot["x"] + spot["width"], spot["y"] + spot["height"]]


def test_every_tile_at_or_above_the_threshold_is_there_and_no_other():
    probability, _ = heat()
    for threshold in (0.0, 0.3, 0.9):
        assert len(of("tile", threshold)) == int((probability >= threshold).sum())


def test_tiles_lie_side_by_side_where_the_grid_has_them():
    tiles = {tuple(one["geometry"]["coordinates"][0][0]): one for one in of("tile", 0.0)}
    assert (round(5 * 128.256), round(7 * 128.256)) in tiles
    right = tiles[round(5 * 128.256), round(7 * 128.256)]["geometry"]["coordinates"][0][1]
    assert tuple(right) in tiles


def test_ids_are_those_that_qupath_keeps_and_the_same_each_time():
    ids = [one["id"] for one in told()["features"]]
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(each)) == each for each in ids)
    assert ids == [one["id"] for one in told()["features"]]


def test_many_tiles_are_streamed_in_bounded_memory():
    many = np.full((20, 800), 0.9, np.float32)
    tracemalloc.start()
    size = sum(len(part) for part in stream_features(READING, many, many, 0.5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 5_000_000
    assert peak < 4_000_000  # of 16,000 tiles


def test_no_attention_is_left_out_rather_than_told_as_no_number():
    probability, attention = heat()
    features = geojson.loads(b"".join(stream_features(READING, probability, attention * np.nan, 0.5)).decode())[
        "features"
    ]
    tiles = [one["properties"]["measurements"] for one in features if one["properties"]["objectType"] == "tile"]
    assert tiles
    assert all(set(each) == {"Probability"} for each in tiles)
    assert tiles[0]["Probability"] == pytest.approx(probability[probability >= 0.5][0], abs=1e-6)
