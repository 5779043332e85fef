"""Export a trained network to ONNX graphs and check that they agree with it. Imports torch.

graph = export_tile_graph(net, known)                      # ONNX bytes: tiles (n, side, side, 3) uint8 in
comparison = compare_int8(graph, int8_graph, tiles, label2)     # int8 is offered only if faster and not worse
"""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.pathology.abstention import (
    NEIGHBOURS,
    OPTICAL_DENSITY,
    KnnOodDetector,
    StainOodDetector,
    stain_density,
)
from models.pathology.neural import rewrite
from models.pathology.neural.attention_pooling import GatedAttention
from models.pathology.neural.network import TileNet
from models.pathology.onnx_sessions import TileGraph, open_session

OPSET = 18
TOLERANCE = 1e-4  # largest difference between torch and ONNX Runtime that is let pass, in logits and embedding
MAX_AUC_LOSS = 0.005  # what int8 may cost


class ParityError(Exception):
    """The graph and the network differ, so nothing is exported."""


class _TileNetWithDistance(torch.nn.Module):
    """A network with a further output: the larger of KnnOodDetector.distance and StainOodDetector.distance."""

    def __init__(self, net: TileNet, references: NDArray[np.float32], stain: StainOodDetector | None):
        super().__init__()
        self.net = net
        self.references = torch.from_numpy(np.ascontiguousarray(references.T))  # (d, m) unit length
        self.stain = stain
        if stain is not None:
            self.optical_density = torch.from_numpy(OPTICAL_DENSITY)
            self.stain_references = torch.from_numpy(np.ascontiguousarray(stain.reference_densities.T))  # (6, m)
            self.stain_mean, self.stain_deviation = torch.from_numpy(stain.mean), torch.from_numpy(stain.deviation)

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, embedding = self.net(tiles)
        unit = embedding / embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)
        distance = 1 - (unit @ self.references).topk(NEIGHBOURS, dim=1).values[:, -1]
        if self.stain is None:
            return logits, embedding, distance
        # Channels and features come before pixels and references, so that the long axis is the one in memory order.
        levels = tiles[:, ::2, ::2].permute(0, 3, 1, 2).flatten(2)
        optical = self.optical_density[levels.long()]  # (n, 3, pixels)
        mean = optical.mean(2)
        deviation = ((optical - mean[:, :, None]) ** 2).mean(2).sqrt()
        scaled = (torch.cat([mean, deviation], 1) - self.stain_mean) / self.stain_deviation
        stain_distances = ((scaled[:, :, None] - self.stain_references) ** 2).sum(1).sqrt()
        nearest = stain_distances.topk(NEIGHBOURS, dim=1, largest=False).values[:, -1]
        return logits, embedding, torch.maximum(distance, self.stain.weight * nearest)


def export_tile_graph(
    net: TileNet, references: NDArray[np.float32] | None = None, stain: StainOodDetector | None = None
) -> bytes:
    """tiles (n, side, side, 3) uint8 -> logits (n, classes), embedding (n, 1280), and distance (n,) to `known`.

    known: (m, 1280) of unit length, as in KnnOodDetector. stain: its distance counts if it is the larger one. Exported
    through TorchScript, which is as exact as the newer exporter and takes 1-4 s instead of 7-46.
    """
    side = net.config.side
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    module = net if references is None else _TileNetWithDistance(net, references, stain)
    outputs = ["logits", "embedding", *([] if references is None else ["distance"])]
    return rewrite.fold_padding(_export_onnx(module, example, ["tiles"], outputs, {"tiles": {0: "n"}}))


class _AttentionWithMass(torch.nn.Module):
    """Attention with a further output: the total weight of the tiles, so that a slide can be read in parts."""

    def __init__(self, model: GatedAttention):
        super().__init__()
        self.model = model

    def forward(self, bag: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, attention = self.model(bag)
        return logits, attention, torch.logsumexp(self.model.scores(self.model.normalise(bag)), 0)


def export_slide_graph(model: GatedAttention) -> bytes:
    """embeddings (k, d) -> logits (classes,), attention (k,), mass (): log of the sum of the tiles' raw weights."""
    example = torch.zeros((3, len(model.mean)))
    outputs = ["logits", "attention", "mass"]
    return _export_onnx(_AttentionWithMass(model), example, ["embeddings"], outputs, {"embeddings": {0: "k"}})


def _export_onnx(
    net: torch.nn.Module, example: torch.Tensor, inputs: list[str], outputs: list[str], dynamic_axes: dict[str, Any]
) -> bytes:
    dynamic_axes |= {name: {0: "n"} for name in outputs} if "embedding" in outputs else {"attention": {0: "k"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "graph.onnx"
        warnings.simplefilter("ignore")  # the tracer's remarks on sizes, which are fixed here on purpose
        torch.onnx.export(
            net.eval(),
            (example,),
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=dynamic_axes,
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def check_tile_parity(
    net: TileNet,
    graph: bytes,
    tiles: NDArray[np.uint8],
    detector: KnnOodDetector | None = None,
    stain: StainOodDetector | None = None,
) -> float:
    """Largest difference between torch and ONNX Runtime on `tiles`, in one batch and one by one. Raises ParityError.

    familiar, stain: the detectors whose distances the graph must reproduce.
    """
    session = TileGraph(graph)
    with torch.inference_mode():
        logits, embedding = (output.numpy() for output in net.eval()(torch.from_numpy(tiles)))
    expected = {"logits": logits, "embedding": embedding}
    if detector is not None:
        distances = detector.distance(embedding)
        expected["distance"] = (
            distances if stain is None else np.maximum(distances, stain.distance(stain_density(tiles)))
        )
    difference = 0.0
    for rows in [slice(None), *(slice(row, row + 1) for row in range(min(len(tiles), 4)))]:
        outputs = session.run(tiles[rows])
        for name, values in expected.items():
            difference = max(difference, float(np.abs(getattr(outputs, name) - values[rows]).max()))
    if not difference <= TOLERANCE:
        raise ParityError(
            f"torch and ONNX Runtime differ by {difference:.1e} on {len(tiles)} tiles; at most {TOLERANCE:.0e} is "
            "needed. Nothing was exported: look for a layer that behaves otherwise in training and in use."
        )
    return difference


@dataclass(frozen=True, slots=True)
class Int8Comparison:
    """int8 compared with fp32 on the same tiles, measured alternately on one core."""

    speed: float  # tiles a second of int8 over those of fp32
    auc: float  # of fp32
    auc_int8: float
    max_probability_difference: float  # difference of probability

    @property
    def acceptable(self) -> bool:
        return self.speed > 1 and self.auc - self.auc_int8 < MAX_AUC_LOSS


def compare_int8(
    graph: bytes, int8_graph: bytes, tiles: NDArray[np.uint8], labels: NDArray[np.intp], positive: NDArray[np.intp]
) -> Int8Comparison:
    """label2 (n,) 0 or 1; positive: the classes whose probabilities add up to that of 1."""
    from sklearn.metrics import roc_auc_score

    fp32_session, int8_session = TileGraph(graph), TileGraph(int8_graph)
    fp32_scores, int8_scores = (
        session.run(tiles).probabilities[:, positive].sum(1) for session in (fp32_session, int8_session)
    )
    times = np.array([[_time_run(session, tiles[:32]) for session in (fp32_session, int8_session)] for _ in range(7)])
    return Int8Comparison(
        speed=float(np.median(times[:, 0] / times[:, 1])),
        auc=float(roc_auc_score(labels, fp32_scores)),
        auc_int8=float(roc_auc_score(labels, int8_scores)),
        max_probability_difference=float(np.abs(fp32_scores - int8_scores).max()),
    )


def _time_run(graph: TileGraph, tiles: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    graph.run(tiles)
    return time.perf_counter() - start


def check_slide_parity(model: GatedAttention, graph: bytes, bags: list[NDArray[np.float32]]) -> float:
    """Largest difference between torch and ONNX Runtime over slides of several sizes. Raises ParityError."""
    onnx_session, difference = open_session(graph), 0.0
    for bag in bags:
        with torch.inference_mode():
            expected = [tensor.numpy() for tensor in model.eval()(torch.from_numpy(bag))]
        actual = onnx_session.run(["logits", "attention"], {"embeddings": bag})
        difference = max(
            difference,
            *(float(np.abs(output - reference).max()) for output, reference in zip(actual, expected, strict=True)),
        )
    if not difference <= TOLERANCE:
        raise ParityError(f"torch and ONNX Runtime differ by {difference:.1e} on slides; {TOLERANCE:.0e} is allowed.")
    return difference
