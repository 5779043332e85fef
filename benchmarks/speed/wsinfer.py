"""Compare slides read by this service and by WSInfer: the same slide, weights and cores.

    YUHENG_WSINFER=/path/to/python python -m benchmarks.speed.wsinfer [--var var] [--rounds 2]

YUHENG_WSINFER names the Python of an environment of its own in which WSInfer is installed, as it demands older versions
of some packages (tested: wsinfer 0.6.1, with zarr before 3, jsonschema and huggingface_hub). Both find the tissue,
cut it into tiles and run the network; this service also checks, de-identifies, proves and records the slide, and
returns out-of-distribution distances. WSInfer runs its Python functions with the defaults of its command, because the
command asks for a registry on the Internet when it starts; its start does not count, and of two runs, with as many
threads and workers as cores and with one thread alone, the faster counts. Runs alternate; other load disturbs the
processor time less than the wall time. A SIMULATED slide. The model is the champion of `var`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.common import ROOT
from benchmarks.speed.slides import SlideService, find_model, render_slide

GOAL = 2.0  # times WSInfer's tiles a second
CHILD = """
import json, resource, sys, tempfile, time
from pathlib import Path
import torch
from wsinfer.modellib.models import LocalModelTorchScript
from wsinfer.modellib.run_inference import run_inference
from wsinfer.patchlib import segment_and_patch_directory_of_slides
from wsinfer_zoo.client import ModelConfiguration
slides, model, config, threads, workers = sys.argv[1:]
config = json.loads(config)
torch.set_num_threads(int(threads))
def processor():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
started, before = time.perf_counter(), processor()
with tempfile.TemporaryDirectory() as results:
    segment_and_patch_directory_of_slides(slides, results, config["patch_size_pixels"], config["spacing_um_px"])
    info = LocalModelTorchScript(config=ModelConfiguration.from_dict(config), model_path=model)
    failures = run_inference(slides, results, info, batch_size=32, num_workers=int(workers))
    assert failures == ([], []), failures
    wall, cpu = time.perf_counter() - started, processor() - before
    rows = sum(len(path.read_text().splitlines()) - 1 for path in Path(results).glob("model-outputs-csv/*.csv"))
print(json.dumps([rows, wall, cpu]))
"""


def write_torchscript(graph: bytes, side: int, classes: int, path: Path) -> None:
    """The tile network of an exported graph as WSInfer reads it: normalised pixels (n, 3, h, w) -> logits."""
    import onnx
    import torch
    from onnx import numpy_helper

    from models.pathology.neural.network import NetConfig, TileNet

    model = onnx.load_model_from_string(graph)
    values = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    net = TileNet(NetConfig(side=side, classes=classes, imagenet=False)).eval()
    layers = [layer for layer in net.features.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d)]
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    for conv, norm, node in zip(layers[::2], layers[1::2], nodes, strict=True):
        assert isinstance(norm, torch.nn.BatchNorm2d)  # its part is in the exported weights, so it does nothing here
        norm.running_mean, norm.running_var = torch.zeros_like(norm.bias), torch.full_like(norm.bias, 1 - norm.eps)
        norm.weight.data = torch.ones_like(norm.bias)
        conv.weight.data, norm.bias.data = values[node.input[1]], values[node.input[2]]
    head = next(node for node in model.graph.node if node.op_type == "Gemm")
    net.head.weight.data, net.head.bias.data = values[head.input[1]], values[head.input[2]]

    class Logits(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = net.head(net.features(pixels).mean((2, 3)))
            return logits

    wrapper = Logits()
    wrapper.net = net
    with torch.inference_mode():
        torch.jit.trace(wrapper, torch.zeros(2, 3, side, side)).save(str(path))  # type: ignore[no-untyped-call]


def describe(card: dict[str, Any]) -> str:
    """WSInfer's configuration of the model. Grey levels less 127 over 128, as EfficientNet-Lite0 was trained."""
    normalise = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}
    return json.dumps(
        {
            "spec_version": "1.0",
            "architecture": card["backbone"],
            "num_classes": len(card["classes"]),
            "class_names": [item["code"] for item in card["classes"]],
            "patch_size_pixels": card["side"],
            "spacing_um_px": card["mpp"],
            "transform": [{"name": "ToTensor"}, {"name": "Normalize", "arguments": normalise}],
        }
    )


def run_wsinfer(python: str, arguments: list[str]) -> tuple[int, float, float]:
    """(tiles, wall seconds, processor seconds) of WSInfer, without its start."""
    environment = os.environ | {"WSINFER_FORCE_CPU": "1"}
    answer = subprocess.run(
        [python, "-c", CHILD, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise SystemExit(f"WSInfer failed:\n{answer.stderr[-2000:]}")
    tiles, wall, cpu = json.loads(answer.stdout.splitlines()[-1])
    return tiles, wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--var", type=Path, default=ROOT / "var")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    python = os.environ.get("YUHENG_WSINFER")
    if python is None:
        raise SystemExit("YUHENG_WSINFER is not set; name the Python of an environment in which WSInfer is installed.")
    from serving.pathology.workflow.runner import available_cpus

    var = args.var.resolve()
    version, cores = find_model(var), available_cpus()
    folder = var / "bundles/pathology" / version
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    service = SlideService(var, version)
    with tempfile.TemporaryDirectory() as temp:
        slides, model, copy = Path(temp) / "slides", Path(temp) / "model.pt", Path(temp) / "slide.tiff"
        slides.mkdir()
        source = render_slide("wsinfer", slides / "slide.tiff")
        write_torchscript((folder / "model.onnx").read_bytes(), card["side"], len(card["classes"]), model)
        try:
            service.start()
            shutil.copyfile(source, copy)
            service.wait_for_result(service.submit(copy))  # warm-up
            ratios = []
            for _ in range(args.rounds):
                runs = [
                    run_wsinfer(python, [str(slides), str(model), describe(card), str(threads), str(workers)])
                    for threads, workers in ((cores, cores), (1, 0))  # its command's defaults; the least overhead
                ]
                wall, cpu = min(run[1] / run[0] for run in runs), min(run[2] / run[0] for run in runs)
                shutil.copyfile(source, copy)
                slide_id, before = service.submit(copy), service.cpu_seconds()
                row, own_wall = service.wait_for_result(slide_id)
                own_cpu, own_tiles = service.cpu_seconds() - before, row["reading"]["tiles"]["read"]
                ratios.append((wall / (own_wall / own_tiles), cpu / (own_cpu / own_tiles)))
                print(
                    f"WSInfer {runs[0][0]:,} tiles, {1 / wall:.0f} a second, {1e3 * cpu:.2f} ms of processor each; "
                    f"this service {own_tiles:,}, {own_tiles / own_wall:.0f} a second, "
                    f"{1e3 * own_cpu / own_tiles:.2f} ms each",
                    flush=True,
                )
        finally:
            service.stop()
    wall_ratio, cpu_ratio = np.median(np.array(ratios), axis=0)
    print(
        f"tiles a second over WSInfer's, same slide and weights, {cores} cores: {wall_ratio:.2f} by wall time, "
        f"{cpu_ratio:.2f} by processor time (goal: {GOAL:g})"
    )


if __name__ == "__main__":
    main()
