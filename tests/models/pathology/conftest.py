"""Real cells and colon tiles, and what a frozen network makes of them."""

import os

import numpy as np
import pytest

from datasets.pathology import colon, herlev

SIDE = 96


@pytest.fixture(scope="session")
def cells():
    if "YUHENG_DATA" not in os.environ:
        pytest.skip("YUHENG_DATA is not set: the cells are not shipped")
    return herlev.read()


@pytest.fixture(scope="session")
def tiles(cells):
    """(734, 96, 96, 3) each cell with its cytoplasm."""
    return herlev.crop_cells(cells, SIDE)


@pytest.fixture(scope="session")
def colon_tiles():
    from PIL import Image

    if "YUHENG_DATA" not in os.environ:
        pytest.skip("YUHENG_DATA is not set: the tiles are not shipped")
    result = colon.read().images
    return np.stack([np.asarray(Image.fromarray(tile).resize((SIDE, SIDE))) for tile in result])


@pytest.fixture(scope="session")
def frozen():
    """The graph of Lite0 as ImageNet left it: its embedding tells, its head does not."""
    from models.pathology.neural import export
    from models.pathology.neural.network import NetConfig, TileNet

    return export.export_tile_graph(TileNet(NetConfig(backbone="efficientnet_lite0", side=SIDE)))


@pytest.fixture(scope="session")
def embeddings(frozen, tiles):
    from models.pathology.onnx_sessions import TileGraph

    return TileGraph(frozen, threads=2).run(tiles).embedding
