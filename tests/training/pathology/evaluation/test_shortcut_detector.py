"""A label that the lamp, the file or the focus tells is noticed; one that only the cells tell is not."""

import io
import os
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from datasets.pathology import herlev, lbc
from datasets.slides.simulate import fields as simulated
from training.pathology.shortcut_detector import ShortcutConfig, detect, image_features

LABELS = np.arange(120) % 2
GROUPS = np.arange(120) // 4  # both labels in each


def fields(rng, background=0.0, blur=False):
    """(120, 64, 64, 3) glass with one cell: large where the label is 1. The background's green rises with the label."""
    y, x = np.mgrid[:64, :64] - 32
    found = []
    for label in LABELS:
        glass = rng.normal([235, 230, 240], 4) + np.array([0, background * label, 0])
        cell = (np.hypot(y, x) < 8 + 6 * label)[..., None]
        field = np.where(cell, [150, 90, 140], glass) + rng.normal(0, 3, (64, 64, 3))
        if blur and label:
            field = (field + np.roll(field, 1, 0) + np.roll(field, 1, 1) + np.roll(field, (1, 1), (0, 1))) / 4
        found.append(np.clip(field, 0, 255).astype(np.uint8))
    return np.stack(found)


def test_a_cell_that_tells_is_no_shortcut():
    found = detect(fields(np.random.default_rng(0)), LABELS, GROUPS)
    assert not found.flagged
    assert found.description.startswith("No shortcut was found")
    assert found.zh.startswith("未发现捷径")


@pytest.mark.parametrize(
    ("confound", "loudest"), [({"background": 12}, "background green"), ({"blur": True}, "spread")]
)
def test_a_lamp_or_a_focus_that_tells_is_cried_out(confound, loudest):
    found = detect(fields(np.random.default_rng(0), **confound), LABELS, GROUPS)
    assert found.flagged
    assert any(name.endswith(loudest) for name, _ in found.top_features)
    assert 0.8 < found.low <= found.auc <= found.high
    assert found.permutation_auc < found.auc


def test_files_stored_otherwise_are_cried_out():
    def stored():
        for field, label in zip(fields(np.random.default_rng(0)), LABELS, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(field).save(buffer, "JPEG", quality=90 if label else 80)
            yield field, buffer.getvalue()

    found = detect(stored(), LABELS, GROUPS)
    assert found.flagged
    assert found.top_features[0] == ("coarseness of brightness", 1.0)


def test_a_label_that_goes_with_three_groups_is_not_told_by_luck():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(6), 20)
    lamp = rng.normal(0, 15, 6)[groups]  # of a group, whatever its label
    pictures = fields(rng).astype(np.int16)
    pictures[..., 1] = np.clip(pictures[..., 1] + lamp[:, None, None].astype(np.int16), 0, 255)
    assert not detect(pictures.astype(np.uint8), groups % 2, groups).flagged


def test_the_limit_is_a_setting():
    pictures = fields(np.random.default_rng(0), background=12)
    found = detect(pictures, LABELS, GROUPS, config=ShortcutConfig(limit=0.9999))
    assert not found.flagged
    assert "above 0.9999" in found.en
    assert found.groups == 30


def test_simulated_tiles_have_no_shortcut():
    made = simulated.simulate_tiles(200, seed=3)
    assert not detect(made.images, (made.labels > 0).astype(np.intp), made.slides).flagged


def test_the_same_pictures_give_the_same_answer():
    pictures = fields(np.random.default_rng(0), background=5)
    assert detect(pictures, LABELS, GROUPS, seed=4) == detect(pictures, LABELS, GROUPS, seed=4)


def test_a_picture_without_its_file_still_has_its_numbers():
    assert np.isfinite(image_features(np.full((16, 24, 3), 255, np.uint8))).all()


def test_what_cannot_be_looked_at_is_told():
    pictures = fields(np.random.default_rng(0))
    with pytest.raises(ValueError, match="Label 1 stands in 1 groups; two at least"):
        detect(pictures, (np.arange(120) < 4).astype(int), GROUPS)
    with pytest.raises(ValueError, match="120 pictures, 119 labels"):
        detect(pictures, LABELS[1:], GROUPS)


@pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the pictures are not shipped")
def test_the_fields_with_the_known_shortcut_are_cried_out_by_file_and_by_colour():
    fields = list(islice(lbc.read(), 0, None, 12))
    positive = np.array([field.label != "NL" for field in fields]).astype(int)
    groups = np.array([field.batch for field in fields])
    found = detect(((field.image(), field.jpeg) for field in fields), positive, groups)
    assert found.flagged
    assert found.top_features[0] == (
        "coarseness of brightness",
        1.0,
    )  # the carrier stored its augmented classes otherwise
    bare = detect(((field.image(), None) for field in fields), positive, groups)
    assert bare.flagged
    assert "background red" in [name for name, _ in bare.top_features]


@pytest.mark.slow  # half of it reads the masks
@pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the pictures are not shipped")
def test_cells_as_they_came_are_not_cried_out_and_their_colour_is_told_apart():
    """Dark nuclei are the disease."""
    cells = herlev.read()
    some = np.arange(0, len(cells), 3)
    found = detect(cells.images[some], cells.label2[some], cells.groups[some])
    assert not found.flagged
    assert 0.6 < found.reported_auc < 0.8
