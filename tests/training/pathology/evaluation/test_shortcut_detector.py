"""A label that lamp, file or focus predict is flagged; one that only the cells predict is not."""

import io
import os
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from datasets.pathology import herlev, lbc
from datasets.slides.simulate import fields as simulated
from training.pathology.evaluation.shortcut_detector import ShortcutConfig, detect, image_features

LABELS = np.arange(120) % 2
GROUPS = np.arange(120) // 4  # both labels in each


def fields(rng, background=0.0, blur=False):
    """(120, 64, 64, 3) glass with one cell, large where the label is 1; `background` adds green to label 1."""
    y, x = np.mgrid[:64, :64] - 32
    images = []
    for label in LABELS:
        glass = rng.normal([235, 230, 240], 4) + np.array([0, background * label, 0])
        cell = (np.hypot(y, x) < 8 + 6 * label)[..., None]
        field = np.where(cell, [150, 90, 140], glass) + rng.normal(0, 3, (64, 64, 3))
        if blur and label:
            field = (field + np.roll(field, 1, 0) + np.roll(field, 1, 1) + np.roll(field, (1, 1), (0, 1))) / 4
        images.append(np.clip(field, 0, 255).astype(np.uint8))
    return np.stack(images)


def test_a_label_that_the_cell_predicts_is_no_shortcut():
    result = detect(fields(np.random.default_rng(0)), LABELS, GROUPS)
    assert not result.flagged
    assert result.en.startswith("No shortcut was found")
    assert result.zh.startswith("未发现捷径")


@pytest.mark.parametrize(
    ("confounder", "strongest"), [({"background": 12}, "background green"), ({"blur": True}, "spread")]
)
def test_a_lamp_or_a_focus_that_predicts_the_label_is_flagged(confounder, strongest):
    result = detect(fields(np.random.default_rng(0), **confounder), LABELS, GROUPS)
    assert result.flagged
    assert any(name.endswith(strongest) for name, _ in result.top_features)
    assert 0.8 < result.low <= result.auc <= result.high
    assert result.permutation_auc < result.auc


def test_files_compressed_differently_by_label_are_flagged():
    def encoded_fields():
        for field, label in zip(fields(np.random.default_rng(0)), LABELS, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(field).save(buffer, "JPEG", quality=90 if label else 80)
            yield field, buffer.getvalue()

    result = detect(encoded_fields(), LABELS, GROUPS)
    assert result.flagged
    assert result.top_features[0] == ("coarseness of brightness", 1.0)


def test_a_label_of_only_three_groups_is_not_flagged_by_chance():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(6), 20)
    lamp = rng.normal(0, 15, 6)[groups]  # one for each group, independent of the label
    images = fields(rng).astype(np.int16)
    images[..., 1] = np.clip(images[..., 1] + lamp[:, None, None].astype(np.int16), 0, 255)
    assert not detect(images.astype(np.uint8), groups % 2, groups).flagged


def test_the_limit_is_a_setting():
    images = fields(np.random.default_rng(0), background=12)
    result = detect(images, LABELS, GROUPS, config=ShortcutConfig(limit=0.9999))
    assert not result.flagged
    assert "above 0.9999" in result.en
    assert result.groups == 30


def test_simulated_tiles_have_no_shortcut():
    tiles = simulated.simulate_tiles(200, seed=3)
    assert not detect(tiles.images, (tiles.labels > 0).astype(np.intp), tiles.slides).flagged


def test_the_result_is_reproducible():
    images = fields(np.random.default_rng(0), background=5)
    assert detect(images, LABELS, GROUPS, seed=4) == detect(images, LABELS, GROUPS, seed=4)


def test_an_image_without_its_file_has_finite_features():
    assert np.isfinite(image_features(np.full((16, 24, 3), 255, np.uint8))).all()


def test_unusable_labels_are_refused_in_a_sentence():
    images = fields(np.random.default_rng(0))
    with pytest.raises(ValueError, match="Label 1 occurs in 1 groups; at least two"):
        detect(images, (np.arange(120) < 4).astype(int), GROUPS)
    with pytest.raises(ValueError, match="120 images, 119 labels"):
        detect(images, LABELS[1:], GROUPS)


@pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the images are not shipped")
def test_the_data_set_with_the_known_shortcut_is_flagged_by_file_and_by_colour():
    fields = list(islice(lbc.read(), 0, None, 12))
    positive = np.array([field.label != "NL" for field in fields]).astype(int)
    groups = np.array([field.batch for field in fields])
    result = detect(((field.image(), field.jpeg) for field in fields), positive, groups)
    assert result.flagged
    # The publisher compressed the augmented classes differently.
    assert result.top_features[0] == ("coarseness of brightness", 1.0)
    without_files = detect(((field.image(), None) for field in fields), positive, groups)
    assert without_files.flagged
    assert "background red" in [name for name, _ in without_files.top_features]


@pytest.mark.slow  # half of it reads the masks
@pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the images are not shipped")
def test_cells_as_they_were_taken_are_not_flagged_and_their_colour_is_reported_separately():
    """Dark nuclei are part of the disease."""
    cells = herlev.read()
    rows = np.arange(0, len(cells), 3)
    result = detect(cells.images[rows], cells.label2[rows], cells.groups[rows])
    assert not result.flagged
    assert 0.6 < result.reported_auc < 0.8
