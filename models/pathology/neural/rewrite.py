"""Rewrite exported graphs so that they compute the same in fewer steps.

graph = fold_padding(graph)                                # each Pad becomes part of the Conv after it
scale = find_input_scale(model)                            # how the graph scales the grey levels of tiles
read_levels_directly(int8_model, scale)                    # without scaling and quantising them
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


class InputScale(NamedTuple):
    """How a graph scales grey levels: (level - mean) / deviation, the same for all channels.

    tensor: the scaled levels. levels: the grey levels, of 8 bits.
    """

    tensor: str
    levels: str
    mean: int
    deviation: float

    def to_override(self) -> dict[str, NDArray[Any]]:
        """Its parameters for ONNX Runtime's quantizer, with which each grey level is a value of the 8 bits."""
        return {"scale": np.array(1 / self.deviation, np.float32), "zero_point": np.array(self.mean, np.uint8)}


def fold_padding(graph: bytes) -> bytes:
    """Make each Pad with zeros part of the Conv that reads it.

    The exporter writes a Pad where the padding is not the same on all sides. ONNX Runtime then copies the pixels, and
    cannot keep them in the order in which its convolutions are fastest.
    """
    model = onnx.load_model_from_string(_fold_constants(graph))
    constants = _constants(model)
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        readers = [node for node in model.graph.node if pad.output[0] in node.input]
        pads = constants.get(pad.input[1])
        if pads is None or [node.op_type for node in readers] != ["Conv"] or any(pad.input[2:]):
            continue
        own_pads = next(attribute for attribute in readers[0].attribute if attribute.name == "pads").ints
        top, left, bottom, right = (int(pads[index]) for index in (2, 3, 6, 7))
        own_pads[:] = [own + more for own, more in zip(own_pads, (top, left, bottom, right), strict=True)]
        readers[0].input[0] = pad.input[0]
        model.graph.node.remove(pad)
    return serialize(model)


def find_input_scale(model: onnx.ModelProto) -> InputScale | None:
    """The Cast, Sub and Div at the start of a graph; None if the mean is no grey level or not that of all channels."""
    constants = _constants(model)
    producers = {output: node for node in model.graph.node for output in node.output}
    for division in (node for node in model.graph.node if node.op_type == "Div" and node.input[1] in constants):
        subtraction = producers.get(division.input[0])
        if subtraction is None or subtraction.op_type != "Sub" or subtraction.input[1] not in constants:
            continue
        cast = producers.get(subtraction.input[0])
        means, deviations = np.unique(constants[subtraction.input[1]]), np.unique(constants[division.input[1]])
        if cast is not None and cast.op_type == "Cast" and len(means) == len(deviations) == 1 and means[0] % 1 == 0:
            return InputScale(division.output[0], cast.input[0], int(means[0]), float(deviations[0]))
    return None


def read_levels_directly(int8_model: onnx.ModelProto, scale: InputScale) -> None:
    """Let the first Conv of an 8-bit graph read the grey levels: quantising what was scaled by `scale` returns them."""
    quantizer = next(
        node for node in int8_model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == scale.tensor
    )
    for node in int8_model.graph.node:
        for index, name in enumerate(node.input):
            if name == quantizer.output[0]:
                node.input[index] = scale.levels


def cut_at(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy that ends at the named tensors."""
    shortened = onnx.ModelProto()
    shortened.CopyFrom(model)
    del shortened.graph.output[:]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    shortened.graph.output.extend(outputs)
    _remove_unread(shortened)
    return shortened


def serialize(model: onnx.ModelProto) -> bytes:
    """The graph without what no output needs."""
    _remove_unread(model)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _remove_unread(model: onnx.ModelProto) -> None:
    """Remove the nodes and constants that no output needs."""
    read, nodes = {output.name for output in model.graph.output}, []
    for node in reversed(model.graph.node):  # each after those that read its outputs
        if not read.isdisjoint(node.output):
            read.update(node.input)
            nodes.append(node)
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(nodes))
    model.graph.initializer.extend(tensors)


def _constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return constants


def _fold_constants(graph: bytes) -> bytes:
    """The graph with its constant parts computed, by ONNX Runtime."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()
