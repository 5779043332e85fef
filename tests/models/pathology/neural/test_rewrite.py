"""Rewritten graphs compute what they computed before, in fewer steps."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.pathology.neural import export, rewrite
from models.pathology.neural.network import NetConfig, TileNet

SIDE = 9


def padded_conv(pads, own_pads, *, value=None, read_twice=False):
    """A graph of a Pad and the Conv that reads it."""
    weights = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    top, left, bottom, right = pads
    tensors = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([0, 0, top, left, 0, 0, bottom, right]), "pads"),
    ]
    inputs = ["pixels", "pads"]
    if value is not None:
        tensors.append(numpy_helper.from_array(np.array(value, np.float32), "value"))
        inputs.append("value")
    nodes = [
        helper.make_node("Pad", inputs, ["padded"]),
        helper.make_node("Conv", ["padded", "weights"], ["out"], pads=own_pads, strides=[2, 2]),
    ]
    outputs = ["out"]
    if read_twice:
        nodes.append(helper.make_node("Relu", ["padded"], ["copy"]))
        outputs.append("copy")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def run(graph):
    pixels = np.random.default_rng(1).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels})[0]


def operators(graph):
    return Counter(node.op_type for node in onnx.load_model_from_string(graph).graph.node)


edges = st.tuples(*[st.integers(0, 3)] * 4)


@given(edges, edges)
@settings(max_examples=30, deadline=None)
def test_a_convolution_pads_as_the_step_before_it_did(pads, own_pads):
    graph = padded_conv(pads, own_pads)
    folded = rewrite.fold_padding(graph)
    assert operators(folded) == {"Conv": 1}
    np.testing.assert_allclose(run(folded), run(graph), atol=1e-5)


def test_padding_with_another_value_or_another_reader_stays():
    for graph in (padded_conv((0, 0, 1, 1), (0,) * 4, value=0.5), padded_conv((0, 0, 1, 1), (0,) * 4, read_twice=True)):
        folded = rewrite.fold_padding(graph)
        assert operators(folded)["Pad"] == 1
        np.testing.assert_allclose(run(folded), run(graph), atol=1e-5)


def test_no_exported_network_pads_in_a_step_of_its_own():
    graph = export.export_tile_graph(TileNet(NetConfig(side=64, imagenet=False)).eval())
    assert "Pad" not in operators(graph)


def test_the_scale_of_the_grey_levels_is_found_where_it_is_one_for_all_channels():
    lite0, mobilenet = (
        onnx.load_model_from_string(
            export.export_tile_graph(TileNet(NetConfig(backbone=backbone, side=64, imagenet=False)).eval())
        )
        for backbone in ("efficientnet_lite0", "mobilenet_v2")
    )
    scale = rewrite.find_input_scale(lite0)
    assert (scale.mean, scale.deviation) == (127, 128.0)
    assert rewrite.find_input_scale(mobilenet) is None  # it has a mean for each channel
