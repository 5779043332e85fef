"""From a trained network to a graph that is proved to say the same, fp32 and int8. Training only: torch is loaded.

graph = tiles_graph(net, known)                            # ONNX bytes: tiles (n, side, side, 3) uint8 in
small = quantize(graph, calibration_tiles)                 # the same with 8-bit weights and activations
verdict = int8_verdict(graph, small, tiles, label2)        # offered only where faster and not worse
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.pathology.abstention import NEIGHBOURS, Familiar, Stain, density
from models.pathology.attention_pooling import GatedAttention
from models.pathology.network import TileNet
from models.pathology.onnx_sessions import TileGraph, session

OPSET = 18
TOLERANCE = 1e-4  # largest difference between torch and ONNX Runtime that is let pass, in logits and embedding
AUC_COST = 0.005  # what int8 may cost


class Differs(Exception):
    """The graph and the network differ: nothing is exported."""


class _Knowing(torch.nn.Module):
    """A network that says as well how far each tile is from what is known: Familiar.distance in the graph, or
    Stain.distance where that is larger."""

    def __init__(self, net: TileNet, known: NDArray[np.float32], stain: Stain | None):
        super().__init__()
        self.net = net
        self.known = torch.from_numpy(np.ascontiguousarray(known.T))  # (d, m) unit length
        self.stain = stain
        if stain is not None:
            self.stains = torch.from_numpy(stain.known)
            self.middle, self.spread = torch.from_numpy(stain.middle), torch.from_numpy(stain.spread)

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, embedding = self.net(tiles)
        unit = embedding / embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)
        distance = 1 - (unit @ self.known).topk(NEIGHBOURS, dim=1).values[:, -1]
        if self.stain is None:
            return logits, embedding, distance
        optical = -(tiles[:, ::2, ::2].float().clamp(min=4) / 255).log().flatten(1, 2)  # (n, pixels, 3)
        mean = optical.mean(1)
        deviation = ((optical - mean[:, None]) ** 2).mean(1).sqrt()
        scaled = (torch.cat([mean, deviation], 1) - self.middle) / self.spread
        apart = ((scaled[:, None] - self.stains) ** 2).sum(2).sqrt()
        nearest = apart.topk(NEIGHBOURS, dim=1, largest=False).values[:, -1]
        return logits, embedding, torch.maximum(distance, self.stain.weight * nearest)


def tiles_graph(net: TileNet, known: NDArray[np.float32] | None = None, stain: Stain | None = None) -> bytes:
    """tiles (n, side, side, 3) uint8 -> logits (n, classes), embedding (n, 1280), and distance (n,) to `known`.

    known: (m, 1280) of unit length, as Familiar holds them; stain: whose distance counts where it is the larger one. By
    way of TorchScript: as exact as the newer road, and 1-4 s instead of 7-46.
    """
    side = net.config.side
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    whole = net if known is None else _Knowing(net, known, stain)
    outputs = ["logits", "embedding", *([] if known is None else ["distance"])]
    return _export(whole, example, ["tiles"], outputs, {"tiles": {0: "n"}})


class _Weighing(torch.nn.Module):
    """Attention that also says how much all tiles shown weigh together, so that a slide may be shown in parts."""

    def __init__(self, model: GatedAttention):
        super().__init__()
        self.model = model

    def forward(self, bag: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, attention = self.model(bag)
        return logits, attention, torch.logsumexp(self.model.scores(self.model.scaled(bag)), 0)


def slide_graph(model: GatedAttention) -> bytes:
    """embeddings (k, d) -> logits (classes,), attention (k,), mass (): log of the sum of the tiles' raw weights."""
    example = torch.zeros((3, len(model.mean)))
    outputs = ["logits", "attention", "mass"]
    return _export(_Weighing(model), example, ["embeddings"], outputs, {"embeddings": {0: "k"}})


def _export(
    net: torch.nn.Module, example: torch.Tensor, inputs: list[str], outputs: list[str], free: dict[str, Any]
) -> bytes:
    free |= {name: {0: "n"} for name in outputs} if "embedding" in outputs else {"attention": {0: "k"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "graph.onnx"
        warnings.simplefilter("ignore")  # the tracer's remarks on sizes, which are fixed here on purpose
        torch.onnx.export(
            net.eval(),
            (example,),
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def parity(
    net: TileNet,
    graph: bytes,
    tiles: NDArray[np.uint8],
    familiar: Familiar | None = None,
    stain: Stain | None = None,
) -> float:
    """Largest difference between torch and ONNX Runtime on `tiles`, together and one by one. Raises Differs.

    familiar, stain: what the graph's distances must be those of.
    """
    served = TileGraph(graph)
    with torch.inference_mode():
        logits, embedding = (found.numpy() for found in net.eval()(torch.from_numpy(tiles)))
    expected = {"logits": logits, "embedding": embedding}
    if familiar is not None:
        far = familiar.distance(embedding)
        expected["distance"] = far if stain is None else np.maximum(far, stain.distance(density(tiles)))
    difference = 0.0
    for rows in [slice(None), *(slice(row, row + 1) for row in range(min(len(tiles), 4)))]:
        answer = served.run(tiles[rows])
        for name, values in expected.items():
            difference = max(difference, float(np.abs(getattr(answer, name) - values[rows]).max()))
    if not difference <= TOLERANCE:
        raise Differs(
            f"torch and ONNX Runtime differ by {difference:.1e} on {len(tiles)} tiles; at most {TOLERANCE:.0e} is "
            "needed. Nothing was exported: look for a layer that behaves otherwise in training and in use."
        )
    return difference


class _Tiles:
    """What the quantizer asks for: one batch after another, then None."""

    def __init__(self, tiles: NDArray[np.uint8], batch: int = 16):
        self.batches: Iterator[dict[str, Any]] = iter(
            {"tiles": tiles[start : start + batch]} for start in range(0, len(tiles), batch)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.batches, None)


def quantize(graph: bytes, tiles: NDArray[np.uint8]) -> bytes:
    """8-bit graph: activations unsigned, weights signed in 7 bits (without VNNI 8 would overflow), ranges from `tiles`.

    `tiles` are training tiles, never ones that will judge. The head stays fp32.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        first, ready, last = (Path(folder) / name for name in ("fp32.onnx", "ready.onnx", "int8.onnx"))
        first.write_bytes(graph)
        quant_pre_process(str(first), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(last),
            _Tiles(tiles),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv", "Add"],
        )
        return last.read_bytes()


@dataclass(frozen=True, slots=True)
class Verdict:
    """int8 beside fp32 on the same tiles, measured in turns on one core."""

    speed: float  # tiles a second of int8 over those of fp32
    auc: float  # of fp32
    auc_int8: float
    largest: float  # difference of probability

    @property
    def offered(self) -> bool:
        return self.speed > 1 and self.auc - self.auc_int8 < AUC_COST


def int8_verdict(
    graph: bytes, small: bytes, tiles: NDArray[np.uint8], label2: NDArray[np.intp], positive: NDArray[np.intp]
) -> Verdict:
    """label2 (n,) 0 or 1; positive: the classes whose probabilities add up to that of 1."""
    from sklearn.metrics import roc_auc_score

    fp32, int8 = TileGraph(graph), TileGraph(small)
    before, after = (one.run(tiles).probabilities[:, positive].sum(1) for one in (fp32, int8))
    times = np.array([[_seconds(one, tiles[:32]) for one in (fp32, int8)] for _ in range(7)])
    return Verdict(
        speed=float(np.median(times[:, 0] / times[:, 1])),
        auc=float(roc_auc_score(label2, before)),
        auc_int8=float(roc_auc_score(label2, after)),
        largest=float(np.abs(before - after).max()),
    )


def _seconds(graph: TileGraph, tiles: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    graph.run(tiles)
    return time.perf_counter() - start


def slide_parity(model: GatedAttention, graph: bytes, bags: list[NDArray[np.float32]]) -> float:
    """Largest difference between torch and ONNX Runtime over slides of several sizes. Raises Differs."""
    served, difference = session(graph), 0.0
    for bag in bags:
        with torch.inference_mode():
            expected = [found.numpy() for found in model.eval()(torch.from_numpy(bag))]
        found = served.run(["logits", "attention"], {"embeddings": bag})
        difference = max(difference, *(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True)))
    if not difference <= TOLERANCE:
        raise Differs(f"torch and ONNX Runtime differ by {difference:.1e} on slides; {TOLERANCE:.0e} is allowed.")
    return difference
