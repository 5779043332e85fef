"""The pathology sets hold what their READMEs say, and a changed file is refused."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import DataError, UnreadableFileError
from datasets.pathology import bcss, colon, herlev, lbc
from datasets.pathology.catalog import SOURCES, load_source

pytestmark = pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: pictures not shipped")


@pytest.fixture(scope="module")
def cells():
    return herlev.read()


def test_herlev_holds_the_cells_of_its_manifest(cells):
    count = Counter(herlev.CLASSES[label] for label in cells.label7)
    assert count == {"carcinoma_in_situ": 120, "light_dysplastic": 146, "moderate_dysplastic": 117,
                     "normal_columnar": 78, "normal_intermediate": 56, "normal_superficiel": 59,
                     "severe_dysplastic": 158}  # fmt: skip
    assert cells.images.shape == (734, 200, 200, 3)
    assert int(cells.label2.sum()) == 541


def test_no_source_of_cells_is_on_both_sides_of_a_fold(cells):
    holdout = []
    for _, learn, judge in cells.cross_validation_folds():
        assert not set(cells.groups[learn]) & set(cells.groups[judge])
        assert set(cells.label7[judge]) == set(range(7))
        holdout.append(judge)
    assert sorted(np.concatenate(holdout)) == list(range(734))


def test_every_cell_has_a_nucleus_and_a_cytoplasm(cells):
    assert all((mask == herlev.NUCLEUS).any() and (mask == herlev.CYTOPLASM).any() for mask in cells.masks)


def test_severe_cells_have_the_larger_share_of_nucleus(cells):
    """Medicine's own sign of dysplasia: so the masks are read the right way round."""
    nucleus = (cells.masks == herlev.NUCLEUS).sum((1, 2))
    share = nucleus / (nucleus + (cells.masks == herlev.CYTOPLASM).sum((1, 2)))
    medians = [np.median(share[cells.label7 == label]) for label in range(7)]
    assert medians[0] < 0.05
    assert medians[3] < medians[4] < medians[5] < medians[6]


def test_padding_is_no_part_of_a_mask(cells):
    for image, mask in zip(cells.images[:100], cells.masks[:100], strict=True):
        top, bottom, left, right = herlev.content_box(image)
        assert not mask[:top].any()
        assert not mask[bottom:].any()
        assert not mask[:, :left].any()
        assert not mask[:, right:].any()


@given(st.integers(0, 733), st.sampled_from([32, 96, 128]), st.sampled_from(["cell", "nucleus"]))
def test_a_crop_is_a_square_of_the_side_asked_for(cells, row, side, crop):
    cut = herlev.crop_cells(cells.select_rows(np.array([row])), side, crop)
    assert cut.shape == (1, side, side, 3)
    assert cut.dtype == np.uint8


def test_an_empty_mask_gives_no_crop(cells):
    with pytest.raises(ValueError, match="mask is empty"):
        herlev.crop_square(cells.images[0], np.zeros((200, 200), bool), 64)


def test_one_changed_byte_in_a_cell_is_noticed(tmp_path):
    original = Path(os.environ["YUHENG_DATA"]) / "pathology/herlev"
    copied = tmp_path / "pathology/herlev"
    shutil.copytree(original, copied)
    picture = next((copied / "images").rglob("*.jpg"))
    picture.chmod(0o644)
    picture.write_bytes(picture.read_bytes() + b"\0")
    with pytest.raises(UnreadableFileError, match="images and masks have the sha256"):
        herlev.read(tmp_path)
    picture.unlink()
    with pytest.raises(UnreadableFileError, match="no such file, though the manifest names it"):
        herlev.read(tmp_path)


def test_the_colon_set_has_ten_tiles_of_seven_tissues():
    tiles = colon.read()
    assert tiles.images.shape == (70, 224, 224, 3)
    assert Counter(tiles.tissue) == dict.fromkeys(["ADI", "LYM", "MUC", "MUS", "NORM", "STR", "TUM"], 10)


@pytest.mark.parametrize(
    ("name", "tumour_tiles", "normal_tiles"), [("1008", 79, 18), ("1015", 32, 36), ("1019", 65, 22)]
)
def test_a_region_has_the_tumour_tiles_counted_in_its_readme(name, tumour_tiles, normal_tiles):
    region = bcss.read(name)
    images, share = bcss.cut_tiles(region, 256)
    assert len(images) == len(share)
    assert (int((share >= 0.5).sum()), int((share <= 0.1).sum())) == (tumour_tiles, normal_tiles)
    assert np.array_equal(images[1], region.image[:256, 256:512])


def test_the_fields_come_one_by_one_with_class_and_batch():
    fields = list(lbc.read())
    assert Counter(field.label for field in fields) == {"NL": 600, "LSIL": 113, "HSIL": 163, "SCC": 74}
    assert len({field.batch for field in fields}) == 61
    assert fields[0].image().shape == (512, 512, 3)


def test_a_listed_picture_that_was_changed_is_refused(tmp_path):
    original = Path(os.environ["YUHENG_DATA"]) / "pathology/crc_val_he_70"
    shutil.copytree(original, tmp_path / "pathology/crc_val_he_70")
    picture = next((tmp_path / "pathology").rglob("*.jpg"))
    picture.chmod(0o644)
    picture.write_bytes(picture.read_bytes()[:-1])
    with pytest.raises(UnreadableFileError, match=r"its md5 is .*Copy the file again"):
        colon.read(tmp_path)


def test_a_misspelt_set_is_told_the_nearest_name():
    assert load_source("herlev") is herlev
    with pytest.raises(DataError, match="'herlef' is not an image set; did you mean 'herlev'"):
        load_source("herlef")
    assert all(load_source(name).read for name in SOURCES)
