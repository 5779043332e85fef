"""The evaluation counts patients, not slides; the gate refuses a model and says exactly why."""

from __future__ import annotations

import dataclasses
import json
import os
import re

import numpy as np
import pytest

from models.metrics import Interval
from models.pathology.neural.export import TOLERANCE, Int8Comparison
from models.pathology.operating_point import fit_operating_point, lower_bound
from training.evaluation.promotion_gate import ChampionComparison, check_parity
from training.pathology import data as data_loading
from training.pathology.evaluation import holdout
from training.pathology.evaluation.evaluate import (
    HoldoutPredictions,
    SlideEvaluationReport,
    SlideGateConfig,
    compute_metrics,
    decide,
)
from training.pathology.evaluation.shortcut_detector import ShortcutResult
from training.pathology.reporting import model_card

PARITY = check_parity({"tiles": 1e-6, "slides": 1e-7}, {"tiles": TOLERANCE, "slides": TOLERANCE})
ABSTAINED = np.full(400, "undecided")
SHORTCUT = ShortcutResult(
    auc=0.97,
    interval=Interval(0.97, 0.95, 0.99),
    permutation_auc=0.6,
    reported_auc=0.98,
    top_features=(("background red", 0.96), ("background blue", 0.9), ("blur", 0.6)),
    flagged=True,
)


def make_predictions(rows=400, seed=0, **changes):
    """Slides with calibrated probabilities, two of each patient; nine in ten get the right class."""
    rng = np.random.default_rng(seed)
    probability = np.repeat(rng.choice([0.002, 0.998], rows // 2), 2)
    positive = rng.random(rows) < probability
    labels = np.where(positive, rng.integers(1, 4, rows), 0)
    predicted = np.where(rng.random(rows) < 0.9, labels, (labels + 1) % 4)
    predictions = HoldoutPredictions(
        unit="slides",
        labels=labels,
        class_probabilities=np.eye(4)[predicted],
        positive_probability=probability,
        positive_classes=np.array([1, 2, 3]),
        groups=np.arange(rows) // 2,
        abstention_reasons=np.where(np.arange(rows) % 20 == 0, "undecided", ""),
        operating_point=fit_operating_point([0.9] * 60, [1] * 60, list(range(60)), 0.95),
    )
    return dataclasses.replace(predictions, **changes)


def report(predictions=None, **changes):
    predictions = predictions or make_predictions()
    evaluation = SlideEvaluationReport(
        main=compute_metrics(predictions, predictions.bootstrap_samples(60, 0)),
        tiles=None,
        claim=predictions.operating_point.claim(),
        claim_zh=predictions.operating_point.claim_zh(),
        claimable=predictions.operating_point.claimable,
        ood_threshold=0.2,
        false_alarm_rate=0.05,
        ood_detection_rate=0.9,
        int8_verdict=None,
        int8_extra_alarms=None,
        shortcut=None,
    )
    return dataclasses.replace(evaluation, **changes)


def run_gate(evaluation, comparison=None, parity=PARITY):
    return decide(evaluation, SlideGateConfig(slope=(0.2, 5)), parity, comparison, without_evidence=True)


def test_a_patient_with_one_missed_slide_counts_as_missed_once():
    predictions = make_predictions(
        positive_probability=np.where(np.arange(400) == 0, 0.0, 1.0), labels=np.ones(400, int)
    )
    metrics = compute_metrics(predictions, predictions.bootstrap_samples(40, 0))
    assert metrics.missed_groups == 1
    assert metrics.sensitivity_bound == pytest.approx(lower_bound(199, 200))
    assert metrics.sensitivity.value == pytest.approx(399 / 400)


def test_the_metrics_agree_with_the_confusion_matrix():
    predictions = make_predictions()
    metrics = compute_metrics(predictions, predictions.bootstrap_samples(60, 0))
    assert metrics.confusion.sum() == 400
    accuracy = metrics.accuracy_classes
    assert accuracy.value == pytest.approx(np.trace(metrics.confusion) / 400)
    assert 0.85 < accuracy.low < accuracy.value < accuracy.high < 0.95
    assert metrics.abstention_shares == {"undecided": 0.05}


def test_a_good_model_passes_and_its_evaluation_is_json_without_nan():
    evaluation = report()
    assert run_gate(evaluation).passed, run_gate(evaluation).failures
    assert json.dumps(evaluation.to_json(), allow_nan=False)
    assert all(np.isfinite(value) for value in evaluation.to_metrics().values())


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (
            report(shortcut=SHORTCUT),
            "shortcut: Shortcut: background, border, blur and compression alone predict the label",
        ),
        (report(ood_detection_rate=0.2), "strange tiles: 20.0% recognised"),
        (report(false_alarm_rate=0.4), "familiar tiles: 40.0% of the held-out tiles"),
        (report(claimable=False, claim="Not claimable."), "sensitivity: Not claimable."),
        (report(make_predictions(abstention_reasons=ABSTAINED)), "answers: no answer for 100.0%"),
    ],
)
def test_a_model_that_fails_one_condition_is_refused_for_that_reason(evaluation, message):
    verdict = run_gate(evaluation)
    assert not verdict.passed
    assert [message in failure for failure in verdict.failures] == [True]


def test_graphs_that_differ_from_their_networks_are_refused():
    parity = check_parity({"tiles": 2 * TOLERANCE, "slides": 0.0}, {"tiles": TOLERANCE, "slides": TOLERANCE})
    assert [failure.startswith("parity: ") for failure in run_gate(report(), parity=parity).failures] == [True]


@pytest.mark.parametrize(
    "evaluation",
    [
        report(),
        report(shortcut=SHORTCUT, ood_detection_rate=0.2, false_alarm_rate=0.4),
        report(make_predictions(abstention_reasons=ABSTAINED)),
    ],
)
def test_every_check_states_finding_and_condition_in_chinese_too(evaluation):
    for check in run_gate(evaluation, ChampionComparison("v1", failure="it reads other tiles")).to_card().checks:
        assert re.search("[\u4e00-\u9fff]", check.needed_zh)
        is_numeric = check.name in ("discrimination", "calibration slope", "calibration intercept")
        assert is_numeric or re.search("[\u4e00-\u9fff]", check.found_zh)


def test_a_champion_stays_until_it_is_beaten_beyond_chance():
    assert not run_gate(report(), ChampionComparison("v1", Interval(0.01, -0.01, 0.03))).passed
    assert not run_gate(report(), ChampionComparison("v1", failure="it reads other tiles")).passed
    assert run_gate(report(), ChampionComparison("v1", Interval(0.02, 0.01, 0.03))).passed


def test_an_8_bit_graph_is_offered_only_if_it_is_faster_ranks_as_well_and_adds_few_false_alarms():
    fast = Int8Comparison(speed=1.6, auc=0.95, auc_int8=0.949, max_probability_difference=0.05)
    assert report(int8_verdict=fast, int8_extra_alarms=0.01).offers_int8
    assert not report(int8_verdict=fast, int8_extra_alarms=0.2).offers_int8
    assert not report(int8_verdict=dataclasses.replace(fast, speed=0.9), int8_extra_alarms=0.0).offers_int8
    assert not report(int8_verdict=dataclasses.replace(fast, auc_int8=0.94), int8_extra_alarms=0.0).offers_int8


def test_a_card_warns_of_a_shortcut_before_anything_else(slides_home):
    from models import bundle
    from models.pathology.card import SlideCard

    public_key = slides_home.var / "keys" / "signing.pub.pem"
    card = bundle.load_bundle(slides_home.model.bundle_dir, public_key, SlideCard).card
    evaluation = report(shortcut=SHORTCUT)
    text = model_card.render(card, evaluation, run_gate(evaluation), [])
    assert "> **Shortcut: background" in text.split("## ")[0]
    assert "No metric below can be trusted. 发现捷径" in text.split("## ")[0]


def test_stored_images_belong_to_their_labels(slides_home):
    """The mean grey of a stored image is the distance that the encoder stub computed from its tile."""
    from models.pathology.policy import ReadingPolicy
    from training.pathology import recipe, slide_reader

    class MeanGreyEncoder:
        def run(self, tiles):
            from models.pathology.onnx_sessions import TileOutputs

            grey = tiles.reshape(len(tiles), -1).mean(1, dtype=np.float64).astype(np.float32)
            return TileOutputs(np.stack([grey] * 4, 1), np.zeros((len(tiles), 2), np.float32), grey)

    config = recipe.load(slides_home.config)
    policy = ReadingPolicy.load(config.policy)
    slides = recipe.read(config).slides["test"][-3:]
    cells = holdout.from_slides(list(slide_reader.read_slides(slides, MeanGreyEncoder(), 64, 1.0, policy)))
    mean_grey = cells.images.reshape(len(cells.images), -1).mean(1)
    np.testing.assert_allclose(mean_grey, cells.distance[cells.image_rows], rtol=1e-5)
    assert (cells.labels[cells.image_rows] > 0).any()


def test_no_slide_is_in_two_parts_and_a_seed_determines_the_slides(slides_home):
    from training.pathology import recipe

    config = recipe.load(slides_home.config)
    first, second = recipe.read(config), recipe.read(config)
    seeds = [slide.seed for subset in data_loading.SUBSETS for slide in first.slides[subset]]
    assert len(set(seeds)) == len(seeds)
    assert first.data == second.data
    assert first.slides == second.slides


def test_no_group_of_cells_is_in_two_parts_and_their_images_are_not_shown():
    from datasets.pathology.herlev import CLASSES

    if "YUHENG_DATA" not in os.environ:
        pytest.skip("YUHENG_DATA is not set: the cells are not shipped")
    data = data_loading.load_herlev(data_loading.HerlevConfig(source="herlev"), CLASSES, 96)
    groups = [set(data.learn.groups), *(set(data.cells[subset].groups) for subset in ("calibrate", "test"))]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert not data.show_images


def test_a_network_on_a_device_agrees_with_its_graph_and_the_original_stays_on_the_cpu():
    import torch

    from models.pathology.abstention import KnnOodDetector, StainOodDetector, stain_density
    from models.pathology.neural import export
    from models.pathology.neural.network import NetConfig, TileNet
    from models.pathology.onnx_sessions import TileGraph
    from training.pathology.slide_reader import DeviceEncoder

    torch.manual_seed(0)
    net = TileNet(NetConfig(classes=3, side=32)).eval()
    tiles = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    detector = KnnOodDetector.from_embeddings(TileGraph(export.export_tile_graph(net)).run(tiles[:8]).embedding)
    stain = StainOodDetector.from_densities(stain_density(tiles[:8]))
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def distance(embedding, density):
        return np.maximum(detector.distance(embedding), stain.distance(density))

    actual = DeviceEncoder(net, device, distance, batch=5).run(tiles)
    expected = TileGraph(export.export_tile_graph(net, detector.reference_embeddings, stain)).run(tiles)
    for name in ("logits", "embedding", "distance"):
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), atol=1e-3)
    assert next(net.parameters()).device.type == "cpu"
