"""The graph in 8 bits: what is left in full precision, and how near it comes."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from models.pathology.neural import export, network, quantization
from models.pathology.neural.network import NetConfig, TileNet
from models.pathology.onnx_sessions import TileGraph

SIDE = 64


def stained_tiles(count, seed):
    """Flat backgrounds of several colours with a few dark round cells: SIMULATED."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    tiles = np.empty((count, SIDE, SIDE, 3), np.float32)
    for tile in tiles:
        tile[:] = rng.uniform(200, 245, 3)
        for _ in range(rng.integers(1, 6)):
            inside = (x - rng.integers(SIDE)) ** 2 + (y - rng.integers(SIDE)) ** 2 < rng.integers(3, 14) ** 2
            tile[inside] = rng.uniform(40, 180, 3)
    return (tiles + rng.normal(0, 3, tiles.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["efficientnet_lite0", "mobilenet_v2"])
def graphs(request):
    """(fp32, int8) of each backbone, with its ImageNet weights where they are installed."""
    torch.manual_seed(0)
    try:
        weights = network.weights_file(request.param).exists()
    except ModuleNotFoundError:
        weights = False
    net = TileNet(NetConfig(backbone=request.param, side=SIDE, imagenet=weights)).eval()
    graph = export.export_tile_graph(net)
    return graph, quantization.quantize(graph, stained_tiles(64, seed=0))


def test_nothing_between_the_pixels_and_the_embedding_is_left_in_full_precision(graphs):
    model = onnx.load_model_from_string(graphs[1])
    operators = Counter(node.op_type for node in model.graph.node)
    assert "Clip" not in operators
    assert "Pad" not in operators
    readers = [node for node in model.graph.node if "tiles" in node.input]
    assert [node.op_type for node in readers] == ["Transpose"]
    if "Sub" not in operators:  # one scale for all channels, as of EfficientNet-Lite0
        assert "Cast" not in operators
        levels = next(node for node in model.graph.node if readers[0].output[0] in node.input)
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        assert levels.op_type == "DequantizeLinear"
        assert [float(values[name]) for name in levels.input[1:]] == [1 / 128, 127]


def test_the_embedding_in_8_bits_is_near_the_one_in_full_precision_on_other_tiles(graphs):
    fp32, int8 = (TileGraph(graph).run(stained_tiles(48, seed=1)).embedding for graph in graphs)
    error = np.sqrt(np.mean((fp32 - int8) ** 2)) / np.std(fp32 - fp32.mean(0))
    assert error < 0.35, error
    assert np.abs((int8 - fp32).mean(0)).mean() < 0.05 * fp32.std()


def test_pointwise_weights_have_7_bits_and_depthwise_ones_8(graphs):
    model = onnx.load_model_from_string(graphs[1])
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    largest = {True: 0, False: 0}
    for node in (node for node in model.graph.node if node.op_type == "Conv"):
        weights = values[producers[node.input[1]].input[0]]
        depthwise = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        largest[depthwise] = max(largest[depthwise], int(np.abs(weights.astype(int)).max()))
    assert largest[False] <= 64  # two products with 255 stay below 32,767
    assert largest[True] > 64
