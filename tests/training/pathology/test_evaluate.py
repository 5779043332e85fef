"""The judge counts patients, not slides; the gate says no, and exactly why."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from models.pathology.neural.export import Int8Comparison as Int8Verdict
from models.pathology.operating_point import fit_operating_point, lower_bound
from training.evaluation.metrics import Interval
from training.evaluation.promotion_gate import ChampionComparison
from training.pathology import data as data_loading
from training.pathology import holdout
from training.pathology.evaluate import (
    HoldoutPredictions,
    SlideEvaluationReport,
    SlideGateConfig,
    compute_metrics,
    decide,
)
from training.pathology.shortcut_detector import ShortcutResult
from training.reporting import pathology_model_card

PARITY = {"tiles": 1e-6, "slides": 1e-7}

CRY = ShortcutResult(
    auc=0.97,
    interval=Interval(0.97, 0.95, 0.99),
    permutation_auc=0.6,
    reported_auc=0.98,
    top_features=(("background red", 0.96), ("background blue", 0.9), ("blur", 0.6)),
    flagged=True,
)


def answered(rows=400, seed=0, **changes):
    """Slides whose stated probability is true, two of each patient, and classes told rightly nine times in ten."""
    rng = np.random.default_rng(seed)
    stated = np.repeat(rng.choice([0.002, 0.998], rows // 2), 2)
    positive = rng.random(rows) < stated
    labels = np.where(positive, rng.integers(1, 4, rows), 0)
    told = np.where(rng.random(rows) < 0.9, labels, (labels + 1) % 4)
    found = HoldoutPredictions(
        unit="slides",
        labels=labels,
        class_probabilities=np.eye(4)[told],
        positive_probability=stated,
        positive_classes=np.array([1, 2, 3]),
        groups=np.arange(rows) // 2,
        abstention_reasons=np.where(np.arange(rows) % 20 == 0, "undecided", ""),
        operating_point=fit_operating_point([0.9] * 60, [1] * 60, list(range(60)), 0.95),
    )
    return dataclasses.replace(found, **changes)


def judged(rows=None, **changes):
    rows = rows or answered()
    found = SlideEvaluationReport(
        main=compute_metrics(rows, rows.bootstrap_samples(60, 0)),
        tiles=None,
        claim=rows.operating_point.claim(),
        claim_zh=rows.operating_point.claim_zh(),
        claimable=rows.operating_point.claimable,
        ood_threshold=0.2,
        false_alarm_rate=0.05,
        ood_detection_rate=0.9,
        int8_verdict=None,
        int8_extra_alarms=None,
        shortcut=None,
    )
    return dataclasses.replace(found, **changes)


def ask(judgement, against=None):
    return decide(judgement, SlideGateConfig(slope=(0.2, 5)), PARITY, against)


def test_a_patient_whose_one_slide_is_missed_is_missed_and_counts_once():
    rows = answered(positive_probability=np.where(np.arange(400) == 0, 0.0, 1.0), labels=np.ones(400, int))
    found = compute_metrics(rows, rows.bootstrap_samples(40, 0))
    assert found.missed_groups == 1
    assert found.sensitivity_bound == pytest.approx(lower_bound(199, 200))
    assert found.sensitivity.value == pytest.approx(399 / 400)


def test_the_figures_are_those_of_the_counts():
    rows = answered()
    found = compute_metrics(rows, rows.bootstrap_samples(60, 0))
    assert found.confusion.sum() == 400
    assert found.accuracy_classes.value == pytest.approx(np.trace(found.confusion) / 400)
    assert 0.85 < found.accuracy_classes.low < found.accuracy_classes.value < found.accuracy_classes.high < 0.95
    assert found.abstention_shares == {"undecided": 0.05}


def test_a_sound_model_passes_and_the_whole_judgement_is_json_without_nan():
    import json

    judgement = judged()
    assert ask(judgement).passed, ask(judgement).failures
    assert json.dumps(judgement.to_json(), allow_nan=False)
    assert all(np.isfinite(value) for value in judgement.to_metrics().values())


@pytest.mark.parametrize(
    ("judgement", "told"),
    [
        (judged(shortcut=CRY), "shortcut: Shortcut: background, border, blur and compression alone tell the label"),
        (judged(ood_detection_rate=0.2), "strange tiles: 20.0% of them recognised"),
        (judged(false_alarm_rate=0.4), "familiar tiles: 40.0% of the held-out tiles"),
        (judged(claimable=False, claim="Not claimable."), "sensitivity: Not claimable."),
        (judged(answered(abstention_reasons=np.full(400, "undecided"))), "answers: no answer for 100.0%"),
    ],
)
def test_each_thing_that_falls_short_is_refused_in_a_sentence(judgement, told):
    verdict = ask(judgement)
    assert not verdict.passed
    assert [told in why for why in verdict.failures] == [True]


@pytest.mark.parametrize(
    "judgement",
    [
        judged(),
        judged(shortcut=CRY, ood_detection_rate=0.2, false_alarm_rate=0.4),
        judged(answered(abstention_reasons=np.full(400, "undecided"))),
    ],
)
def test_each_check_says_in_chinese_too_what_was_found_and_what_is_needed(judgement):
    for check in ask(judgement, ChampionComparison("v1", failure="it reads other tiles")).to_card().checks:
        assert re.search("[\u4e00-\u9fff]", check.needed_zh)
        figures = check.name in ("discrimination", "calibration slope", "calibration intercept", "parity")
        assert figures or re.search("[\u4e00-\u9fff]", check.found_zh)


def test_a_champion_stays_until_it_is_beaten_beyond_chance():
    assert not ask(judged(), ChampionComparison("v1", Interval(0.01, -0.01, 0.03))).passed
    assert not ask(judged(), ChampionComparison("v1", failure="it reads other tiles")).passed
    assert ask(judged(), ChampionComparison("v1", Interval(0.02, 0.01, 0.03))).passed


def test_eight_bits_are_offered_only_where_they_are_faster_and_neither_order_worse_nor_take_fright():
    fast = Int8Verdict(speed=1.6, auc=0.95, auc_int8=0.949, max_probability_difference=0.05)
    assert judged(int8_verdict=fast, int8_extra_alarms=0.01).offers_int8
    assert not judged(int8_verdict=fast, int8_extra_alarms=0.2).offers_int8
    assert not judged(int8_verdict=dataclasses.replace(fast, speed=0.9), int8_extra_alarms=0.0).offers_int8
    assert not judged(int8_verdict=dataclasses.replace(fast, auc_int8=0.94), int8_extra_alarms=0.0).offers_int8


def test_a_card_that_cries_says_so_first_and_in_bold(slides_home):
    from models import bundle
    from models.pathology.card import SlideCard

    card = bundle.load_bundle(slides_home.made.bundle_dir, slides_home.var / "keys" / "signing.pub.pem", SlideCard).card
    told = pathology_model_card.render(card, judged(shortcut=CRY), ask(judged(shortcut=CRY)), [])
    assert "> **Shortcut: background" in told.split("## ")[0]
    assert "No figure below can be trusted. 发现捷径" in told.split("## ")[0]


def test_the_images_that_are_kept_are_those_of_their_labels(slides_home):
    """A tile painted again at the place of a kept one is that very tile."""
    from models.pathology.policy import ReadingPolicy
    from training.pathology import recipe, slide_reader

    class Mean:
        def run(self, tiles):
            from models.pathology.onnx_sessions import TileOutputs

            grey = tiles.reshape(len(tiles), -1).mean(1, dtype=np.float64).astype(np.float32)
            return TileOutputs(np.stack([grey] * 4, 1), np.zeros((len(tiles), 2), np.float32), grey)

    config = recipe.load(slides_home.config)
    policy = ReadingPolicy.load(config.policy)
    slides = recipe.read(config).slides["test"][-3:]
    cells = holdout.from_slides(list(slide_reader.read_slides(slides, Mean(), 64, 1.0, policy)))
    shown = cells.images.reshape(len(cells.images), -1).mean(1)
    np.testing.assert_allclose(shown, cells.distance[cells.image_rows], rtol=1e-5)
    assert (cells.labels[cells.image_rows] > 0).any()


def test_no_slide_is_in_two_parts_and_the_same_seed_paints_the_same_slides(slides_home):
    from training.pathology import recipe

    config = recipe.load(slides_home.config)
    once, again = recipe.read(config), recipe.read(config)
    seeds = [slide.seed for part in data_loading.PARTS for slide in once.slides[part]]
    assert len(set(seeds)) == len(seeds)
    assert once.data == again.data
    assert once.slides == again.slides


def test_no_group_of_cells_is_in_two_parts_and_the_images_are_not_to_be_shown():
    import os

    from datasets.pathology.herlev import CLASSES

    if "YUHENG_DATA" not in os.environ:
        pytest.skip("YUHENG_DATA is not set: the cells are not shipped")
    found = data_loading.load_herlev(data_loading.HerlevConfig(source="herlev"), CLASSES, 96)
    parts = [set(found.learn.groups), *(set(found.cells[part].groups) for part in ("calibrate", "test"))]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert not found.show_images


def test_a_network_on_a_device_says_what_its_graph_says_and_stays_where_it_was():
    import torch

    from models.pathology.abstention import KnnOodDetector, StainOodDetector, stain_density
    from models.pathology.neural import export
    from models.pathology.neural.network import NetConfig, TileNet
    from models.pathology.onnx_sessions import TileGraph
    from training.pathology.slide_reader import DeviceEncoder

    torch.manual_seed(0)
    net = TileNet(NetConfig(classes=3, side=32)).eval()
    tiles = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    familiar = KnnOodDetector.from_embeddings(TileGraph(export.export_tile_graph(net)).run(tiles[:8]).embedding)
    stain = StainOodDetector.from_densities(stain_density(tiles[:8]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = DeviceEncoder(
        net, device, lambda seen, dyes: np.maximum(familiar.distance(seen), stain.distance(dyes)), batch=5
    ).run(tiles)
    expected = TileGraph(export.export_tile_graph(net, familiar.reference_embeddings, stain)).run(tiles)
    for name in ("logits", "embedding", "distance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-3)
    assert next(net.parameters()).device.type == "cpu"
