from __future__ import annotations

import tracemalloc
import uuid

import geojson
import numpy as np
import pytest

from serving.pathology.viewer.geojson import stream_features
from tests.serving.pathology.fake_readings import READING, heatmap


def export(threshold: float = 0.5) -> geojson.FeatureCollection:
    return geojson.loads(b"".join(stream_features(READING, *heatmap(), threshold)).decode())


def features_of(kind: str, threshold: float = 0.5) -> list[geojson.Feature]:
    return [feature for feature in export(threshold)["features"] if feature["properties"]["objectType"] == kind]


def test_the_export_is_valid_geojson_with_and_without_evidence():
    assert export().is_valid
    assert all(feature.is_valid and feature["geometry"].is_valid for feature in export()["features"])
    assert (
        b"".join(stream_features({**READING, "evidence": []}, *heatmap(), 2.0))
        == b'{"type":"FeatureCollection","features":[]}'
    )
    assert geojson.loads(b"".join(stream_features({**READING, "evidence": []}, *heatmap(), 0.5)).decode()).is_valid


def test_evidence_is_an_annotation_with_class_position_and_measurements():
    first, tile = features_of("annotation")[0], READING["evidence"][0]
    assert first["properties"]["classification"] == {"name": "HSIL", "color": [213, 94, 0]}
    assert first["properties"]["measurements"] == {"Probability": tile["probability"], "Attention": tile["attention"]}
    corners = np.array(first["geometry"]["coordinates"][0])
    assert corners.min(0).tolist() == [tile["x"], tile["y"]]
    assert corners.max(0).tolist() == [tile["x"] + tile["width"], tile["y"] + tile["height"]]


def test_exactly_the_tiles_at_or_above_the_threshold_are_exported():
    probability, _ = heatmap()
    for threshold in (0.0, 0.3, 0.9):
        assert len(features_of("tile", threshold)) == int((probability >= threshold).sum())


def test_tiles_adjoin_as_in_the_grid():
    tiles = {tuple(feature["geometry"]["coordinates"][0][0]): feature for feature in features_of("tile", 0.0)}
    assert (round(5 * 128.256), round(7 * 128.256)) in tiles
    right = tiles[round(5 * 128.256), round(7 * 128.256)]["geometry"]["coordinates"][0][1]
    assert tuple(right) in tiles


def test_ids_are_uuids_and_identical_in_every_export():
    ids = [feature["id"] for feature in export()["features"]]
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(feature_id)) == feature_id for feature_id in ids)
    assert ids == [feature["id"] for feature in export()["features"]]


def test_thousands_of_tiles_are_streamed_in_bounded_memory():
    positive = np.full((20, 800), 0.9, np.float32)
    tracemalloc.start()
    size = sum(len(chunk) for chunk in stream_features(READING, positive, positive, 0.5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 5_000_000
    assert peak < 4_000_000  # of 16,000 tiles


def test_attention_that_is_nan_is_left_out():
    probability, attention = heatmap()
    features = geojson.loads(b"".join(stream_features(READING, probability, attention * np.nan, 0.5)).decode())[
        "features"
    ]
    tiles = [
        feature["properties"]["measurements"] for feature in features if feature["properties"]["objectType"] == "tile"
    ]
    assert tiles
    assert all(set(measurements) == {"Probability"} for measurements in tiles)
    assert tiles[0]["Probability"] == pytest.approx(probability[probability >= 0.5][0], abs=1e-6)
