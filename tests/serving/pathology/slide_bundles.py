"""A small signed slide model, exported as real ones are; its outputs are noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from datasets.slides.simulate import fields
from models import bundle
from models.evaluation_summary import GateVerdict
from models.pathology.abstention import ConformalClassifier, KnnOodDetector, StainOodDetector, stain_density
from models.pathology.calibration import PlattCalibration
from models.pathology.card import OutputCalibration, SlideCard, TileClass
from models.pathology.neural import export
from models.pathology.neural.attention_pooling import AttentionConfig, GatedAttention
from models.pathology.neural.network import NetConfig, TileNet
from models.pathology.operating_point import fit_operating_point
from tests.paths import ROOT

POLICY = ROOT / "configs" / "policies" / "pathology.toml"
SIDE, MPP = 64, 1.0  # coarse and small, so that a slide is read quickly
NAMES = (("NILM", "未见上皮内病变", False), ("LSIL", "低级别病变", True), ("HSIL", "高级别病变", True))
CLASSES = tuple(TileClass(code=code, en=code, zh=zh, positive=positive, tbs=code) for code, zh, positive in NAMES)


def fit_output(threshold: float = 0.2) -> OutputCalibration:
    scores = [threshold] * 59 + [0.01] * 20
    point = fit_operating_point(scores, [1] * 59 + [0] * 20, list(range(79)), 0.95)
    return OutputCalibration(
        temperature=1.0, line=PlattCalibration(1.0, 0.0), point=point, conformal=ConformalClassifier((0.0, 0.9999))
    )


def publish(
    bundles: Path,
    keys: tuple[Path, Path],
    version: str = "1",
    familiar: float = 2.0,
    policy: str = "",
    simulated: int = 0,
    passed: bool | None = True,
) -> str:
    """Publish a champion in `bundles`/pathology; returns its digest.

    familiar: the distance up to which a tile counts as familiar; 2 accepts every tile, -1 none. simulated: number of
    simulated tiles, embedded by ImageNet weights, that serve as references and calibrate `familiar`. passed:
    the verdict of the gate.
    """
    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    net = TileNet(NetConfig(classes=3, side=SIDE, imagenet=simulated > 0)).eval()
    model = GatedAttention(AttentionConfig(classes=3)).eval()
    torch.random.set_rng_state(state)
    reference_embeddings, stain = (
        KnnOodDetector.from_embeddings(np.random.default_rng(1).random((16, 1280))).reference_embeddings,
        None,
    )
    if simulated:
        tiles = fields.simulate_tiles(2 * simulated, 3, SIDE, MPP).images
        with torch.inference_mode():
            embeddings, densities = net(torch.from_numpy(tiles))[1].numpy(), stain_density(tiles)
        detector, stain = (
            KnnOodDetector.from_embeddings(embeddings[:simulated]),
            StainOodDetector.from_densities(densities[:simulated]),
        )
        stain_distances, embedding_distances = (
            stain.distance(densities[simulated:]),
            detector.distance(embeddings[simulated:]),
        )
        stain = stain.matched_to(stain_distances, embedding_distances)
        familiar = detector.calibrate(np.maximum(stain.distance(densities[simulated:]), embedding_distances)).threshold
        reference_embeddings = detector.reference_embeddings
    card = SlideCard(
        product="pathology",
        model="pathology",
        version=version,
        verdict=None if passed is None else GateVerdict(passed=passed, checks=()),
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="a test",
        not_for="anything else",
        classes=CLASSES,
        side=SIDE,
        mpp=MPP,
        backbone="efficientnet_lite0",
        specimens=("cervical_cytology",),
        tile=fit_output(),
        familiar=familiar,
        slide=fit_output(),
    )
    folder = bundle.write_bundle(
        bundles / "pathology" / version,
        graph=export.export_tile_graph(net, reference_embeddings, stain),
        card=card,
        policy=policy.encode() or POLICY.read_bytes(),
        private_key=keys[0],
        extra_graphs={bundle.SLIDE_GRAPH: export.export_slide_graph(model)},
    )
    bundle.set_alias(bundles / "pathology", "champion", version)
    return bundle.verify_bundle(folder, keys[1]).digest
