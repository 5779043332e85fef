"""The judge counts patients, not slides; the gate says no, and exactly why."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from models.pathology.export import Verdict as Small
from models.pathology.operating_point import choose, lower_bound
from training.evaluation.metrics import Interval
from training.evaluation.promotion_gate import Against
from training.pathology import data as material
from training.pathology import holdout
from training.pathology.evaluate import Answered, Judgement, PathologyGate, decide, look
from training.pathology.shortcut_detector import Shortcut
from training.reporting import pathology_model_card

PARITY = {"tiles": 1e-6, "slides": 1e-7}

CRY = Shortcut(
    auc=0.97,
    interval=Interval(0.97, 0.95, 0.99),
    by_chance=0.6,
    whole=0.98,
    loudest=(("background red", 0.96), ("background blue", 0.9), ("blur", 0.6)),
    cries=True,
)


def answered(rows=400, seed=0, **changes):
    """Slides whose stated probability is true, two of each patient, and classes told rightly nine times in ten."""
    rng = np.random.default_rng(seed)
    stated = np.repeat(rng.choice([0.002, 0.998], rows // 2), 2)
    positive = rng.random(rows) < stated
    labels = np.where(positive, rng.integers(1, 4, rows), 0)
    told = np.where(rng.random(rows) < 0.9, labels, (labels + 1) % 4)
    found = Answered(
        unit="slides",
        labels=labels,
        told=np.eye(4)[told],
        stated=stated,
        positive=np.array([1, 2, 3]),
        groups=np.arange(rows) // 2,
        abstained=np.where(np.arange(rows) % 20 == 0, "undecided", ""),
        point=choose([0.9] * 60, [1] * 60, list(range(60)), 0.95),
    )
    return dataclasses.replace(found, **changes)


def judged(rows=None, **changes):
    rows = rows or answered()
    found = Judgement(
        main=look(rows, rows.draws(60, 0)),
        tiles=None,
        claim=rows.point.claim(),
        claim_zh=rows.point.claim_zh(),
        claimable=rows.point.claimable,
        familiar=0.2,
        alarms=0.05,
        strange=0.9,
        small=None,
        small_extra=None,
        shortcut=None,
    )
    return dataclasses.replace(found, **changes)


def ask(judgement, against=None):
    return decide(judgement, PathologyGate(slope=(0.2, 5)), PARITY, against)


def test_a_patient_whose_one_slide_is_missed_is_missed_and_counts_once():
    rows = answered(stated=np.where(np.arange(400) == 0, 0.0, 1.0), labels=np.ones(400, int))
    found = look(rows, rows.draws(40, 0))
    assert found.missed == 1
    assert found.bound == pytest.approx(lower_bound(199, 200))
    assert found.sensitivity.value == pytest.approx(399 / 400)


def test_the_figures_are_those_of_the_counts():
    rows = answered()
    found = look(rows, rows.draws(60, 0))
    assert found.confusion.sum() == 400
    assert found.accuracy_classes.value == pytest.approx(np.trace(found.confusion) / 400)
    assert 0.85 < found.accuracy_classes.low < found.accuracy_classes.value < found.accuracy_classes.high < 0.95
    assert found.abstained == {"undecided": 0.05}


def test_a_sound_model_passes_and_the_whole_judgement_is_json_without_nan():
    import json

    judgement = judged()
    assert ask(judgement).passed, ask(judgement).why
    assert json.dumps(judgement.json(), allow_nan=False)
    assert all(np.isfinite(value) for value in judgement.flat().values())


@pytest.mark.parametrize(
    ("judgement", "told"),
    [
        (judged(shortcut=CRY), "shortcut: Shortcut: background, border, blur and compression alone tell the label"),
        (judged(strange=0.2), "strange tiles: 20.0% of them recognised"),
        (judged(alarms=0.4), "familiar tiles: 40.0% of the held-out tiles"),
        (judged(claimable=False, claim="Not claimable."), "sensitivity: Not claimable."),
        (judged(answered(abstained=np.full(400, "undecided"))), "answers: no answer for 100.0%"),
    ],
)
def test_each_thing_that_falls_short_is_refused_in_a_sentence(judgement, told):
    verdict = ask(judgement)
    assert not verdict.passed
    assert [told in why for why in verdict.why] == [True]


@pytest.mark.parametrize(
    "judgement",
    [judged(), judged(shortcut=CRY, strange=0.2, alarms=0.4), judged(answered(abstained=np.full(400, "undecided")))],
)
def test_each_check_says_in_chinese_too_what_was_found_and_what_is_needed(judgement):
    for check in ask(judgement, Against("v1", refused="it reads other tiles")).told().checks:
        assert re.search("[\u4e00-\u9fff]", check.needed_zh)
        figures = check.name in ("discrimination", "calibration slope", "calibration intercept", "parity")
        assert figures or re.search("[\u4e00-\u9fff]", check.found_zh)


def test_a_champion_stays_until_it_is_beaten_beyond_chance():
    assert not ask(judged(), Against("v1", Interval(0.01, -0.01, 0.03))).passed
    assert not ask(judged(), Against("v1", refused="it reads other tiles")).passed
    assert ask(judged(), Against("v1", Interval(0.02, 0.01, 0.03))).passed


def test_eight_bits_are_offered_only_where_they_are_faster_and_neither_order_worse_nor_take_fright():
    fast = Small(speed=1.6, auc=0.95, auc_int8=0.949, largest=0.05)
    assert judged(small=fast, small_extra=0.01).offers_small
    assert not judged(small=fast, small_extra=0.2).offers_small
    assert not judged(small=dataclasses.replace(fast, speed=0.9), small_extra=0.0).offers_small
    assert not judged(small=dataclasses.replace(fast, auc_int8=0.94), small_extra=0.0).offers_small


def test_a_card_that_cries_says_so_first_and_in_bold(slides_home):
    from models import bundle
    from models.pathology.card import SlideCard

    card = bundle.load(slides_home.made.folder, slides_home.var / "keys" / "signing.pub.pem", SlideCard).card
    told = pathology_model_card.text(card, judged(shortcut=CRY), ask(judged(shortcut=CRY)), [])
    assert "> **Shortcut: background" in told.split("## ")[0]
    assert "No figure below can be trusted. 发现捷径" in told.split("## ")[0]


def test_the_images_that_are_kept_are_those_of_their_labels(slides_home):
    """A tile painted again at the place of a kept one is that very tile."""
    from models.pathology.policy import ReadingPolicy
    from training.pathology import recipe, slide_reader

    class Mean:
        def run(self, tiles):
            from models.pathology.onnx_sessions import Tiles

            grey = tiles.reshape(len(tiles), -1).mean(1, dtype=np.float64).astype(np.float32)
            return Tiles(np.stack([grey] * 4, 1), np.zeros((len(tiles), 2), np.float32), grey)

    config = recipe.load(slides_home.config)
    policy = ReadingPolicy.load(config.policy)
    slides = recipe.read(config).slides["test"][-3:]
    cells = holdout.of_slides(list(slide_reader.read(slides, Mean(), 64, 1.0, policy)))
    shown = cells.images.reshape(len(cells.images), -1).mean(1)
    np.testing.assert_allclose(shown, cells.distance[cells.kept], rtol=1e-5)
    assert (cells.labels[cells.kept] > 0).any()


def test_no_slide_is_in_two_parts_and_the_same_seed_paints_the_same_slides(slides_home):
    from training.pathology import recipe

    config = recipe.load(slides_home.config)
    once, again = recipe.read(config), recipe.read(config)
    seeds = [slide.seed for part in material.PARTS for slide in once.slides[part]]
    assert len(set(seeds)) == len(seeds)
    assert once.data == again.data
    assert once.slides == again.slides


def test_no_group_of_cells_is_in_two_parts_and_the_images_are_not_to_be_shown():
    import os

    from datasets.pathology.herlev import CLASSES

    if "YUHENG_DATA" not in os.environ:
        pytest.skip("YUHENG_DATA is not set: the cells are not shipped")
    found = material.herlev(material.Herlev(source="herlev"), CLASSES, 96)
    parts = [set(found.learn.groups), *(set(found.cells[part].groups) for part in ("calibrate", "test"))]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert not found.shown


def test_a_network_on_a_device_says_what_its_graph_says_and_stays_where_it_was():
    import torch

    from models.pathology import export
    from models.pathology.abstention import Familiar, Stain, density
    from models.pathology.network import NetConfig, TileNet
    from models.pathology.onnx_sessions import TileGraph
    from training.pathology.slide_reader import OnDevice

    torch.manual_seed(0)
    net = TileNet(NetConfig(classes=3, side=32)).eval()
    tiles = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    familiar = Familiar.of(TileGraph(export.tiles_graph(net)).run(tiles[:8]).embedding)
    stain = Stain.of(density(tiles[:8]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = OnDevice(
        net, device, lambda seen, dyes: np.maximum(familiar.distance(seen), stain.distance(dyes)), batch=5
    ).run(tiles)
    expected = TileGraph(export.tiles_graph(net, familiar.known, stain)).run(tiles)
    for name in ("logits", "embedding", "distance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-3)
    assert next(net.parameters()).device.type == "cpu"
