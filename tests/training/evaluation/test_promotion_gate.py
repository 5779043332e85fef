"""The gate says no, and exactly why."""

from __future__ import annotations

import re

import numpy as np
import pytest

from training.evaluation.evaluate import EvaluationReport
from training.evaluation.fairness import AuditGroup
from training.evaluation.metrics import Interval
from training.evaluation.profit import ProfitEstimate
from training.evaluation.promotion_gate import ChampionComparison, TabularGateConfig, decide

CHINESE = re.compile("[\u4e00-\u9fff]")
FIGURES = ("discrimination", "calibration slope", "calibration intercept", "parity", "fairness of approvals",
           "fairness of limits at equal PD")  # fmt: skip
PARITY = {"pd": 1e-12}
NONE = Interval(0, 0, 0)


def group(approval=1.0, limit=1.0, value="female"):
    near = Interval(limit, limit - 0.02, limit + 0.02)
    figures = {name: NONE for name in ("auc", "gini", "ks", "h", "brier", "slope", "intercept")}
    ratio = Interval(approval, approval - 0.02, approval + 0.02)
    return AuditGroup("sex", value, 400, 0.1, 0.1, figures, 0.8, ratio, 1e5, near, near)


def judged(auc=0.78, slope=1.0, intercept=0.0, width=0.02, groups=(), psi=0.01):
    def near(value):
        return Interval(value, value - width, value + width)

    figures = {"auc": near(auc), "slope": near(slope), "intercept": near(intercept)}
    return EvaluationReport(
        rows=1_000,
        train_rows=3_000,
        bad_rate=0.1,
        metrics=figures | {name: NONE for name in ("gini", "ks", "h", "brier")},
        train_auc=0.8,
        bins=[],
        psi={"score": psi},
        groups=list(groups),
        baselines={},
        profit=ProfitEstimate("CNY", "", NONE, NONE, NONE, 0, 0, np.zeros(1), np.zeros(1)),
        above_cutoff=0.8,
        approval_rate=0.8,
        median_limit=1e5,
    )


def ask(judgement, faults=(), against=None):
    return decide(judgement, TabularGateConfig(), PARITY, faults, against)


def test_the_first_sound_model_of_a_name_passes():
    verdict = ask(judged(groups=[group(), group(value="male")]))
    assert verdict.passed, verdict.failures


@pytest.mark.parametrize(
    ("judgement", "faults", "told"),
    [
        (judged(auc=0.505), (), "discrimination: AUC 0.5050 [0.4850, 0.5250]; needed: all of the interval over 0.5"),
        (judged(slope=0.7), (), "calibration slope: 0.7000 [0.6800, 0.7200]; needed: within 0.8 to 1.25"),
        (judged(intercept=0.4), (), "calibration intercept: 0.4000"),
        (judged(psi=0.3), (), "stability: PSI"),
        (judged(groups=[group(approval=0.7)]), (), "fairness of approvals: sex = female 0.7000 [0.6800, 0.7200]"),
        (judged(groups=[group(limit=0.5)]), (), "fairness of limits at equal PD: sex = female 0.5000"),
        (judged(), ("income: FAILS",), "policy: income: FAILS"),
    ],
)
def test_a_model_that_falls_short_is_told_in_what(judgement, faults, told):
    verdict = ask(judgement, faults)
    assert not verdict.passed
    assert len(verdict.failures) == 1
    assert verdict.failures[0].startswith(told)


def test_each_check_says_in_chinese_too_what_was_found_and_what_is_needed():
    falls_short = judged(auc=0.505, slope=0.7, intercept=0.4, psi=0.3, groups=[group(approval=0.7, limit=0.5)])
    for judgement in (judged(groups=[group(), group(value="male")]), judged(), falls_short):
        for rivals in (
            None,
            ChampionComparison("v1", Interval(0.004, -0.002, 0.010)),
            ChampionComparison("v1", failure="it reads others"),
        ):
            for check in ask(judgement, ("income: FAILS",), rivals).to_card().checks:
                assert CHINESE.search(check.needed_zh) or not check.needed
                assert CHINESE.search(check.found_zh) or check.name in FIGURES


def test_few_rows_make_a_wide_interval_which_is_no_sign_of_a_wrong_pd():
    assert ask(judged(slope=0.95, intercept=0.1, width=0.6, auc=1.5)).passed


def test_a_gain_that_chance_could_explain_does_not_move_the_champion():
    likely = ask(judged(), against=ChampionComparison("v1", Interval(0.004, -0.002, 0.010)))
    assert not likely.passed
    assert "AUC differs by +0.0040 [-0.0020, +0.0100]" in likely.failures[0]
    assert ask(judged(), against=ChampionComparison("v1", Interval(0.012, 0.003, 0.020))).passed


def test_a_champion_that_cannot_be_compared_stays_until_a_person_says_otherwise():
    verdict = ask(judged(), against=ChampionComparison("v1", failure="it reads columns that this table lacks: income"))
    assert not verdict.passed
    assert "income" in verdict.failures[0]
    assert "--force --reason" in verdict.failures[0]
