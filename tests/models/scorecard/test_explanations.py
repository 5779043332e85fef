"""Reasons: what moves a score away from the approval line, in full and in order."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datasets.schema import ColumnSchema, format_number
from models.card import Card, ContributionReference, ScoreHead
from models.scorecard.explanations import OTHERS, Explainer, cutoff_points, round_reason_points, value_formatter
from models.scorecard.scaling import ScoreScale

INPUTS = (
    ColumnSchema(name="insured_months", unit="months", direction=-1, en="months insured", zh="社保缴费月数"),
    ColumnSchema(
        name="days_past_due", unit="days", direction=1, en="days past due", zh="逾期天数", missing_codes=(-1,)
    ),
    ColumnSchema(
        name="abnormal_list", unit="0/1", integer=True, low=0, high=1, en="on the abnormal list", zh="经营异常"
    ),
    ColumnSchema(name="tax_grade", kind="category", levels=("A", "B"), ordered=True, en="tax grade", zh="纳税等级"),
    ColumnSchema(name="utilisation", unit="share", en="use of lines", zh="授信使用率"),
)
HEAD = ScoreHead(slope=1.2, intercept=-0.3, bias=-2.1)
SCALE = ScoreScale()
VALUES = {"insured_months": 18, "days_past_due": 5.0, "abnormal_list": 1, "tax_grade": "B", "utilisation": 0.4567}


def card(knots=((450.0, (0.5, 0.2, 0.1, 0.0, 0.1)), (650.0, (-0.4, -0.1, 0.0, 0.0, -0.2)))):
    reference = ContributionReference(
        points=[points for points, _ in knots], contributions=[means for _, means in knots]
    )
    return Card(
        product="credit_limit", model="m", version="1", created="", simulated=True, purpose="", not_for="",
        inputs=INPUTS, target="y", head=HEAD, reference=reference,
    )  # fmt: skip


def points_of(contributions):
    """As the graph has them, from a raw score summed in float32."""
    raw = np.float32(contributions.astype(np.float32).sum() + np.float32(HEAD.bias))
    return float(SCALE.points(HEAD.slope * float(raw) + HEAD.intercept))


CONTRIBUTIONS = arrays(np.float32, len(INPUTS), elements=st.floats(-2, 2, width=32))
LINES = st.floats(380, 720)


@given(CONTRIBUTIONS, LINES, st.sampled_from((None, 1, 3)))
def test_reasons_sum_to_the_distance_from_the_line(contributions, line, displayed):
    points = points_of(contributions)
    reasons = Explainer(card(), line).explain(VALUES, contributions, points, displayed)
    assert math.fsum(reason["points"] for reason in reasons) == pytest.approx(points - line, abs=1e-9)


@given(LINES)
def test_without_a_reference_they_sum_all_the_same(line):
    contributions = np.array([0.4, -0.1, 0.0, 0.2, 0.0], np.float32)
    points = points_of(contributions)
    reasons = Explainer(card(knots=()), line).explain(VALUES, contributions, points)
    assert math.fsum(reason["points"] for reason in reasons) == pytest.approx(points - line, abs=1e-9)


@given(st.lists(CONTRIBUTIONS, min_size=1, max_size=6), LINES)
def test_a_batch_has_the_effects_of_each_applicant(rows, line):
    explainer = Explainer(card(), line)
    points = np.array([points_of(row) for row in rows])
    effects = explainer.effects(np.array(rows), points)
    for row, total, batch in zip(rows, points, effects, strict=True):
        points_by_indicator = {
            reason["indicator"]: reason["points"] for reason in explainer.explain(VALUES, row, float(total))
        }
        assert [points_by_indicator.get(column.name, 0.0) for column in INPUTS] == pytest.approx(
            batch.tolist(), abs=1e-9
        )


@given(CONTRIBUTIONS, LINES)
def test_the_greatest_effect_comes_first(contributions, line):
    reasons = Explainer(card(), line).explain(VALUES, contributions, points_of(contributions))
    sizes = [abs(reason["points"]) for reason in reasons]
    assert sizes == sorted(sizes, reverse=True)


def test_an_applicant_like_those_at_the_line_has_next_to_no_reasons():
    """Measured against the line, not against the mean of all."""
    line = 550.0
    explainer = Explainer(card(), line)
    at_line = (explainer.reference_points / explainer.points_per_logit).astype(np.float32)
    reasons = explainer.explain(VALUES, at_line, points_of(at_line))
    assert max((abs(reason["points"]) for reason in reasons), default=0.0) < 1e-3


def test_a_code_says_the_indicator_and_its_side():
    reasons = Explainer(card(), 550.0).explain(VALUES, np.array([1, -1, 0, 0, 0], np.float32), 550.0)
    codes = {reason["indicator"]: reason["code"] for reason in reasons}
    assert codes["insured_months"] == "insured_months_against"  # a higher raw score is a higher risk
    assert codes["days_past_due"] == "days_past_due_for"


def test_sentences_name_value_unit_and_effect_in_both_languages():
    contributions = np.array([1, -1, 0.8, 0.6, 0.5], np.float32)
    reasons = Explainer(card(), 550.0).explain(VALUES, contributions, points_of(contributions))
    output = {reason["indicator"]: (reason["en"].split(";")[0], reason["zh"].split("，")[0]) for reason in reasons}
    assert output == {
        "insured_months": ("Months insured: 18 months", "社保缴费月数：18 个月"),
        "days_past_due": ("Days past due: 5 days", "逾期天数：5 天"),
        "abnormal_list": ("On the abnormal list: yes", "经营异常：是"),
        "tax_grade": ("Tax grade: B", "纳税等级：B"),
        "utilisation": ("Use of lines: 0.457", "授信使用率：0.457"),
    }
    (first,) = [reason for reason in reasons if reason["indicator"] == "insured_months"]
    assert first["en"].endswith(f"; {-first['points']:.1f} points fewer than at the approval line.")
    assert first["zh"].endswith(f"，比审批线少 {-first['points']:.1f} 分。")


@pytest.mark.parametrize("value", [None, math.nan, -1])
def test_what_is_missing_is_said_to_be_unknown(value):
    contributions = np.array([0, 1, 0, 0, 0], np.float32)
    reasons = Explainer(card(), 550.0).explain(
        VALUES | {"days_past_due": value}, contributions, points_of(contributions)
    )
    (reason,) = [reason for reason in reasons if reason["indicator"] == "days_past_due"]
    assert reason["value"] is None
    assert reason["en"].startswith("Days past due: not known;")


def test_what_is_not_shown_is_told_as_one_sum():
    contributions = np.array([1, -0.5, 0.8, 0.6, 0.4], np.float32)
    reasons = Explainer(card(), 550.0).explain(VALUES, contributions, points_of(contributions), max_reasons=2)
    assert [reason["code"] == OTHERS for reason in reasons] == [False, False, True]
    assert reasons[-1]["en"].startswith("3 other indicators together:")


def test_the_codes_of_a_batch_are_those_of_each_applicant():
    rows = np.array([[1, -0.5, 0.8, 0.6, 0.4], [-1, 0.5, 0.3, -0.6, 0.1]], np.float32)
    explainer = Explainer(card(), 550.0)
    points = np.array([points_of(row) for row in rows])
    codes = explainer.reason_codes(explainer.effects(rows, points), 3).to_list()
    single_reasons = [explainer.explain(VALUES, row, float(total))[:3] for row, total in zip(rows, points, strict=True)]
    assert codes == [";".join(reason["code"] for reason in reasons) for reasons in single_reasons]


def test_an_indicator_without_effect_is_no_reason():
    rows = np.zeros((1, len(INPUTS)), np.float32)
    rows[0, 0] = 1
    explainer = Explainer(card(knots=((450.0, (1.0, 0, 0, 0, 0)), (650.0, (-1.0, 0, 0, 0, 0)))), 500.0)
    points = points_of(rows[0])
    assert [reason["indicator"] for reason in explainer.explain(VALUES, rows[0], points)] == ["insured_months"]
    codes = explainer.reason_codes(explainer.effects(rows, np.array([points])), 5)
    assert codes.to_list() == ["insured_months_for"]


def test_the_line_in_points_is_the_score_of_its_pd():
    assert cutoff_points(card(), 1 / 51) == pytest.approx(600.0)


def test_points_are_rounded_for_people_only():
    reasons = Explainer(card(), 550.0).explain(VALUES, np.array([1, 0, 0, 0, 0], np.float32), 540.0)
    assert all(reason["points"] == round(reason["points"], 1) for reason in round_reason_points(reasons))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234567.0, "1,234,567"), (1234.567, "1,234.57"), (0.01234, "0.0123"), (-3.5, "-3.50")],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert format_number(value) == text


def test_amounts_and_counts_are_told_as_people_say_them():
    assert value_formatter(ColumnSchema(name="cash", unit="10k RMB"))(210) == ("2,100,000 RMB", "210 万元")
    assert value_formatter(ColumnSchema(name="revenue", unit="10k RMB/year"))(3.5) == (
        "35,000 RMB/year",
        "3.50 万元/年",
    )
    assert value_formatter(ColumnSchema(name="awards", unit="count"))(2) == ("2", "2 次")
