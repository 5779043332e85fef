"""What the small look finds dark is what is worth reading."""

import numpy as np
import pytest

from datasets.slides import tiling, tissue
from datasets.slides.reader import open_slide
from datasets.slides.simulate import pyramid
from datasets.slides.simulate.slides import simulate_slide as painted
from datasets.slides.simulate.slides import worst_labels
from datasets.slides.tiling import GridConfig
from serving.pathology.workflow.sampling import darkness


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """(open slide, its grid, the true class of each tile)."""
    made = painted(seed=5, label="HSIL", columns=8, rows=6)
    path = pyramid.write_tiff(tmp_path_factory.mktemp("coarse") / "hsil.tiff", made)
    with open_slide(path) as slide:
        grid = tiling.tile_grid(slide.metadata, tissue.find_tissue(slide), GridConfig(mpp=0.5, tile_size=128))
        yield slide, grid, worst_labels(list(made.cells()), grid.positions, grid.extent, 0.5)


def test_the_darkest_third_of_the_tiles_holds_most_of_the_abnormal_ones(laid):
    slide, grid, truth = laid
    darkest = np.argsort(-darkness(slide, grid), kind="stable")[: len(grid) // 3]
    abnormal = truth > 0
    assert abnormal.sum() >= 3
    assert abnormal[darkest].sum() / abnormal.sum() > 1.5 / 3  # far more than by chance
