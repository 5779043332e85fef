"""Quantise the graph of a tile network to 8 bits.

int8_graph = quantize(graph, training_tiles)               # the same with 8-bit weights and activations
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.pathology.neural import rewrite
from models.pathology.onnx_sessions import open_session

BATCH = 16
CORRECTION_TILES = 64  # on which the mean error of each layer is measured


def quantize(graph: bytes, tiles: NDArray[np.uint8]) -> bytes:
    """8-bit graph: activations unsigned, weights signed, ranges from `tiles`, and the mean error of each Conv removed.

    `tiles` are training tiles, never evaluation tiles. The head stays fp32. What only limits values (ReLU6) becomes
    part of the 8 bits' range. Weights have 7 bits, because without VNNI sums of two products of 8 bits would overflow;
    those of depthwise convolutions have 8, because ONNX Runtime's kernel for them adds in more bits.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        fp32_path, prepared_path, int8_path = (Path(folder) / name for name in ("fp32.onnx", "ready.onnx", "int8.onnx"))
        fp32_path.write_bytes(graph)
        quant_pre_process(str(fp32_path), str(prepared_path), skip_symbolic_shape=True)
        prepared = onnx.load_model(prepared_path)
        scale = rewrite.find_input_scale(prepared)
        overrides: dict[str, list[dict[str, Any]]] = {
            node.input[1]: [{"quant_type": QuantType.QInt8, "reduce_range": False, "axis": 0}]
            for node in prepared.graph.node
            if any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        }
        if scale is not None:
            overrides[scale.tensor] = [scale.to_override()]
        quantize_static(
            str(prepared_path),
            str(int8_path),
            _CalibrationDataReader(tiles),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv", "Add", "Clip"],
            extra_options={"TensorQuantOverrides": overrides},
        )
        int8_model = onnx.load_model(int8_path)
    if scale is not None:
        rewrite.read_levels_directly(int8_model, scale)
    _correct_biases(prepared, int8_model, tiles[:CORRECTION_TILES])
    return rewrite.serialize(int8_model)


class _CalibrationDataReader:
    """Batches for the quantizer, then None."""

    def __init__(self, tiles: NDArray[np.uint8]):
        self.batches: Iterator[dict[str, Any]] = iter(
            {"tiles": tiles[start : start + BATCH]} for start in range(0, len(tiles), BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.batches, None)


def _correct_biases(model: onnx.ModelProto, int8_model: onnx.ModelProto, tiles: NDArray[np.uint8]) -> None:
    """Give every Conv of the 8-bit model the mean outputs that it has in `model`, from the first to the last.

    Rounding shifts flat areas, such as the background of a slide, by the same amount everywhere, and later layers
    amplify it (Nagel et al. 2019, data-free quantization).
    """
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    int8_layers = {node.name: node for node in int8_model.graph.node if node.op_type == "Conv"}
    producers = {output: node for node in int8_model.graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in int8_model.graph.initializer}
    expected_means = _channel_means(model, [layer.output[0] for layer in layers], tiles)
    for layer, expected in zip(layers, expected_means, strict=True):
        int8_layer = int8_layers[layer.name]
        (actual,) = _channel_means(int8_model, [int8_layer.output[0]], tiles)
        values, scale = (tensors[name] for name in producers[int8_layer.input[2]].input[:2])
        steps = np.rint((expected - actual) / numpy_helper.to_array(scale)).astype(np.int32)
        values.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(values) + steps, values.name))


def _channel_means(model: onnx.ModelProto, names: Sequence[str], tiles: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """The mean of each channel of each of the named tensors (n, channels, h, w), over all tiles."""
    session = open_session(rewrite.cut_at(model, names).SerializeToString())
    batches = [tiles[start : start + BATCH] for start in range(0, len(tiles), BATCH)]
    sums: list[Any] = [0.0] * len(names)
    for batch in batches:
        outputs = session.run(list(names), {"tiles": batch})
        sums = [
            total + output.mean((2, 3), dtype=np.float64).sum(0) for total, output in zip(sums, outputs, strict=True)
        ]
    return [np.asarray(total) / len(tiles) for total in sums]
