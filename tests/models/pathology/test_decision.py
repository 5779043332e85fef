"""A reading says what was found, abstains where it must, and lets nothing about the patient near the image's result."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.pathology import decision, patient_risk
from models.pathology.abstention import ConformalClassifier
from models.pathology.calibration import PlattCalibration
from models.pathology.card import OutputCalibration, SlideCard, TileClass
from models.pathology.decision import TileTable, decide, usable_rows, worklist_priority
from models.pathology.operating_point import fit_operating_point
from models.pathology.policy import ReadingPolicy
from models.policy.config import PolicyError
from tests.paths import ROOT

POLICY_FILE = ROOT / "configs" / "policies" / "pathology.toml"
POLICY = ReadingPolicy.load(POLICY_FILE)


def fitted(threshold=0.2, lowest=(0.0, 0.0)):
    """Identity calibration; the operating point of 59 positives that all score `threshold` or more."""
    scores = [threshold] * 59 + [0.01] * 20
    point = fit_operating_point(scores, [1] * 59 + [0] * 20, list(range(79)), 0.95)
    return OutputCalibration(
        temperature=1.0, line=PlattCalibration(1.0, 0.0), point=point, conformal=ConformalClassifier(lowest)
    )


def card(**changes):
    names = (("NILM", False), ("LSIL", True), ("HSIL", True))
    return SlideCard(
        product="pathology",
        model="pathology",
        version="1",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="test",
        not_for="anything else",
        classes=tuple(TileClass(code=code, en=code, zh=code, positive=positive, tbs=code) for code, positive in names),
        side=128,
        mpp=0.5,
        backbone="efficientnet_lite0",
        specimens=("cervical_cytology",),
        tile=fitted(),
        familiar=0.5,
        slide=changes.pop("slide", fitted(lowest=(0.4, 0.1))),
        **changes,
    )


def table(n=40, unfit=(), far=(), logits=None):
    reasons = np.full(n, "", "<U8")
    for index in unfit:
        reasons[index] = "focus"
    distance = np.full(n, 0.1, np.float32)
    distance[list(far)] = 0.9
    return TileTable(
        positions=np.stack([np.arange(n) * 256, np.zeros(n, np.int64)], 1),
        extent=(256.0, 256.0),
        reasons=reasons,
        logits=np.zeros((n, 3), np.float32) if logits is None else logits,
        embedding=np.ones((n, 4), np.float16),
        distance=distance,
        grid=n,
    )


def read(tiles, odds, card=None, policy=POLICY):
    """The reading of a slide whose log-odds of a positive class are `odds`."""
    card = card or CARD
    used = usable_rows(card, tiles)
    logits = np.array([0.0, odds - np.log(2), odds - np.log(2)], np.float32)
    return decide(card, policy, tiles, used, logits, np.full(len(used), 1 / max(len(used), 1), np.float32))


CARD = card()


@pytest.mark.parametrize(("odds", "triage"), [(-3.0, "negative"), (-0.5, "abstained"), (3.0, "positive")])
def test_the_triage_follows_the_operating_point_and_the_set_that_spans_it_abstains(odds, triage):
    assert read(table(), odds).triage == triage


def test_between_the_operating_point_and_a_clear_positive_lies_review():
    decisive = card(slide=fitted(lowest=(0.9, 0.1)))
    result = read(table(), -0.5, decisive)
    assert (result.triage, result.abstained) == ("review", ())


@given(st.floats(-20, 20), st.floats(0, 1), st.floats(0.01, 0.9))
def test_a_slide_at_or_above_the_operating_point_is_never_negative(odds, positive_at, threshold):
    triage = POLICY.triage.model_copy(update={"positive_at": positive_at})
    result = read(table(), odds, card(slide=fitted(threshold)), POLICY.model_copy(update={"triage": triage}))
    assert result.probability is not None
    if result.triage == "negative":
        assert result.probability < threshold


def test_too_few_fit_tiles_are_unsatisfactory_whatever_the_model_says():
    result = read(table(40, unfit=range(20)), 5.0)
    assert result.triage == "abstained"
    assert [why.code for why in result.abstained] == ["unsatisfactory"]
    assert (result.adequacy.adequate, result.adequacy.tiles, result.tiles.unfit) == (False, 20, {"focus": 20})
    assert "20" in result.abstained[0].zh


def test_a_slide_without_a_fit_tile_abstains():
    tiles = table(5, unfit=range(5))
    used = usable_rows(CARD, tiles)
    result = decide(CARD, POLICY, tiles, used, None, None)
    assert (len(used), result.triage, result.probability, result.evidence) == (0, "abstained", None, ())


def test_a_slide_unlike_anything_learned_from_abstains():
    result = read(table(100, far=range(40)), 5.0)
    assert [why.code for why in result.abstained] == ["out_of_distribution"]
    assert result.tiles.unknown == 40


@pytest.mark.parametrize(("count", "adequate"), [(100, None), (10, False)])
def test_a_slide_unlike_anything_learned_from_has_no_figure_no_class_and_no_evidence(count, adequate):
    result = read(table(count, far=range(4 * count // 10)), 5.0)
    assert (result.probability, result.classes, result.evidence) == (None, (), ())
    assert result.adequacy.adequate is adequate
    assert ("not assessed" in result.adequacy.en) == (adequate is None)


def test_tiles_unlike_anything_known_do_not_reach_the_slide_graph_and_a_missing_distance_is_unlike():
    tiles = table(10, far=[2])
    tiles.distance[3] = np.nan
    assert usable_rows(CARD, tiles).tolist() == [0, 1, 4, 5, 6, 7, 8, 9]


def test_evidence_is_the_likeliest_tiles_first_in_pixels_of_the_slide():
    logits = np.zeros((40, 3), np.float32)
    logits[7, 2], logits[5, 1] = 6.0, 4.0
    result = read(table(logits=logits), 3.0).evidence
    assert [(spot.x, spot.code) for spot in result[:2]] == [(7 * 256, "HSIL"), (5 * 256, "LSIL")]
    assert len(result) == POLICY.evidence.max_tiles


def test_a_reading_survives_json():
    result = read(table(), 3.0)
    assert decision.Reading.model_validate_json(result.model_dump_json()) == result


def test_a_card_survives_json():
    assert SlideCard.model_validate_json(CARD.model_dump_json()) == CARD


FORM = {
    "hpv_result": "positive",
    "hpv_genotype": ["16", "52"],
    "previous_result": "HSIL",
    "menopause": "after",
    "context": [{"name": "bleeding", "value": True, "source": "clinic", "authorisation": "A-1"}],
}


def test_the_patients_risk_names_each_thing_that_counts():
    result = patient_risk.assess_risk(FORM, POLICY.patient)
    assert result is not None
    assert {reason.code for reason in result.reasons} == {
        "hpv_16",
        "hpv_other",
        "previous_high",
        "bleeding_after_menopause",
    }
    assert (result.points, result.level, result.unknown) == (100, "urgent", ())


def test_a_context_field_without_its_authorisation_does_not_count():
    bare = FORM | {"context": [{"name": "immunosuppressed", "value": True, "source": "clinic"}]}
    result = patient_risk.assess_risk(bare, POLICY.patient)
    assert result is not None
    assert "immunosuppressed" not in {reason.code for reason in result.reasons}


def test_where_nothing_is_known_of_the_patient_nothing_is_said():
    assert patient_risk.assess_risk({"accession": "A1"}, POLICY.patient) is None


@given(st.floats(-8, 8), st.sampled_from(["routine", "raised", "urgent"]))
def test_the_patients_risk_can_only_raise_the_priority_and_no_negative_goes_before_a_positive(odds, level):
    result = read(table(), odds)
    assert worklist_priority(result, POLICY, level) >= worklist_priority(result, POLICY)
    assert worklist_priority(read(table(), 5.0), POLICY) >= worklist_priority(read(table(), -5.0), POLICY)


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ("positive = 70", "positive must not be below review"),
        ('code = "hpv_18"', "factors"),
        ("urgent_from = 50", "must be above raised_from"),
        ("max_unknown = 0.3", "max_unknown"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused_in_a_sentence(change, output):
    broken = {
        "positive = 70": "positive = 20",
        'code = "hpv_18"': 'code = "hpv_16"',
        "urgent_from = 50": "urgent_from = 10",
        "max_unknown = 0.3": "most_unknown = 3.0",
    }[change]
    text = POLICY_FILE.read_text().replace(change, broken)
    with pytest.raises(PolicyError, match=output):
        ReadingPolicy.load(text.encode())


def test_the_words_of_an_abstention_are_told_in_both_languages():
    assert all(en.endswith(".") and zh.endswith("。") for en, zh in decision.ABSTENTION_REASONS.values())
    assert json.dumps(decision.ABSTENTION_REASONS)
