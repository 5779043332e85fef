"""The gate refuses a model and says exactly why."""

from __future__ import annotations

import re

import numpy as np
import pytest

from datasets.leakage import Leak
from models.metrics import Interval
from tests.paths import ROOT
from training.evaluation.evaluate import EvaluationReport
from training.evaluation.fairness import AuditGroup
from training.evaluation.gate_floors import DEFAULT_FILE, load_gate_floors, tighten
from training.evaluation.profit import ProfitEstimate
from training.evaluation.promotion_gate import (
    ChampionComparison,
    TabularGateConfig,
    check_leakage,
    check_parity,
    decide,
)

CHINESE = re.compile("[\u4e00-\u9fff]")
# Checks whose finding is a number, the same in both languages.
NUMERIC = ("discrimination", "calibration slope", "calibration intercept", "fairness of approvals",
           "fairness of limits at equal PD")  # fmt: skip
TOLERANCES = {"pd": 1e-6}
ZERO = Interval(0, 0, 0)


def group(approval=1.0, limit=1.0, value="female"):
    limit_ratio = Interval(limit, limit - 0.02, limit + 0.02)
    metrics = {name: ZERO for name in ("auc", "gini", "ks", "h", "brier", "slope", "intercept")}
    ratio = Interval(approval, approval - 0.02, approval + 0.02)
    return AuditGroup("sex", value, 400, 0.1, 0.1, metrics, 0.8, ratio, 1e5, limit_ratio, limit_ratio)


def report(auc=0.78, slope=1.0, intercept=0.0, width=0.02, groups=None, psi=0.01):
    def interval(value):
        return Interval(value, value - width, value + width)

    metrics = {"auc": interval(auc), "slope": interval(slope), "intercept": interval(intercept)}
    return EvaluationReport(
        rows=1_000,
        train_rows=3_000,
        bad_rate=0.1,
        metrics=metrics | {name: ZERO for name in ("gini", "ks", "h", "brier")},
        train_auc=0.8,
        bins=[],
        psi={"score": psi},
        groups=[group(), group(value="male")] if groups is None else list(groups),
        baselines={},
        profit=ProfitEstimate("CNY", "", ZERO, ZERO, ZERO, 0, 0, ZERO, np.zeros(1), np.zeros(1), np.zeros((2, 1))),
        above_cutoff=0.8,
        approval_rate=0.8,
        median_limit=1e5,
    )


def run_gate(evaluation, policy_problems=(), comparison=None, parity=1e-12, **allowances):
    parity_check = check_parity({"raw": 0.0, "pd": parity}, TOLERANCES)
    return decide(evaluation, TabularGateConfig(), parity_check, policy_problems, comparison, **allowances)


def test_the_first_model_of_a_name_passes_if_it_meets_every_condition():
    verdict = run_gate(report(groups=[group(), group(value="male")]))
    assert verdict.passed, verdict.failures


@pytest.mark.parametrize(
    ("evaluation", "policy_problems", "message"),
    [
        (report(auc=0.505), (), "discrimination: AUC 0.5050 [0.4850, 0.5250]; needed: the whole interval above 0.5"),
        (report(slope=0.7), (), "calibration slope: 0.7000 [0.6800, 0.7200]; needed: between 0.8 and 1.25"),
        (report(intercept=0.4), (), "calibration intercept: 0.4000"),
        (report(psi=0.3), (), "stability: PSI"),
        (report(groups=[group(approval=0.7)]), (), "fairness of approvals: sex = female 0.7000 [0.6800, 0.7200]"),
        (report(groups=[group(limit=0.5)]), (), "fairness of limits at equal PD: sex = female 0.5000"),
        (report(), ("income: FAILS",), "policy: income: FAILS"),
    ],
)
def test_a_model_that_fails_one_condition_is_refused_for_that_reason(evaluation, policy_problems, message):
    verdict = run_gate(evaluation, policy_problems)
    assert not verdict.passed
    assert len(verdict.failures) == 1
    assert verdict.failures[0].startswith(message)


@pytest.mark.parametrize("difference", [2e-6, float("nan")])
def test_a_graph_that_differs_from_its_model_is_refused(difference):
    [failure] = run_gate(report(), parity=difference).failures
    assert failure.startswith("parity: largest difference between the model and its graph: raw 0.0e+00, pd ")
    assert failure.endswith("needed: at most raw 0, pd 1e-06")


def test_a_graph_that_was_never_compared_is_refused():
    assert not check_parity({}, TOLERANCES).passed


def test_every_check_states_finding_and_condition_in_chinese_too():
    failing = report(auc=0.505, slope=0.7, intercept=0.4, psi=0.3, groups=[group(approval=0.7, limit=0.5)])
    for evaluation in (report(groups=[group(), group(value="male")]), report(), failing):
        for comparison in (
            None,
            ChampionComparison("v1", Interval(0.004, -0.002, 0.010)),
            ChampionComparison("v1", failure="it reads other columns"),
        ):
            for check in run_gate(evaluation, ("income: FAILS",), comparison).to_card().checks:
                assert CHINESE.search(check.needed_zh) or not check.needed
                assert CHINESE.search(check.found_zh) or check.name in NUMERIC


def test_a_wide_interval_that_includes_the_perfect_value_passes():
    assert run_gate(report(slope=0.95, intercept=0.1, width=0.6, auc=1.5)).passed


def test_a_gain_that_chance_could_explain_does_not_replace_the_champion():
    verdict = run_gate(report(), comparison=ChampionComparison("v1", Interval(0.004, -0.002, 0.010)))
    assert not verdict.passed
    assert "AUC differs by +0.0040 [-0.0020, +0.0100]" in verdict.failures[0]
    assert run_gate(report(), comparison=ChampionComparison("v1", Interval(0.012, 0.003, 0.020))).passed


def test_a_champion_that_cannot_be_compared_stays_until_a_person_forces_a_promotion():
    verdict = run_gate(report(), comparison=ChampionComparison("v1", failure="it does not read income"))
    assert not verdict.passed
    assert "income" in verdict.failures[0]
    assert "--force --reason" in verdict.failures[0]


def test_a_model_or_an_input_that_tells_the_outcome_too_well_needs_a_reason():
    config = TabularGateConfig()
    leaks = [Leak("balance", 0.995, "a copy of the outcome"), Leak("term", 0.8, "a multiple of 12")]
    check = check_leakage(Interval(0.99, 0.985, 0.995), leaks, config)
    assert not check.passed
    assert "balance alone reaches AUC 0.995" in check.found
    assert "together" in check.found
    assert "term" not in check.found
    assert CHINESE.search(check.found_zh)
    explained = TabularGateConfig(max_auc_reason="the bank's own rating of the same day is an input")
    assert check_leakage(Interval(0.99, 0.985, 0.995), [], explained).passed
    assert check_leakage(Interval(0.97, 0.96, 0.985), leaks[1:], config).passed


def test_nothing_to_compare_is_not_passed_unless_the_operator_says_so():
    """A table without an audit group passed fairness, and a missing pointer passed the comparison."""
    without_groups = run_gate(report(groups=()))
    assert [line.partition(":")[0] for line in without_groups.failures] == [
        "fairness of approvals",
        "fairness of limits at equal PD",
    ]
    assert run_gate(report(groups=()), without_evidence=True).passed
    assert run_gate(report()).passed
    [failure] = run_gate(report(), first_model=False).failures
    assert failure.startswith("better than the champion: this is the first model of its name")


def test_a_run_may_ask_for_more_than_the_operators_floors_and_never_for_less():
    floors = load_gate_floors(DEFAULT_FILE).tabular
    lax = TabularGateConfig(slope=(0.1, 9.0), min_auc=0.5, min_approval_ratio=0.1, min_limit_ratio=0.0, max_psi=3.0)
    tightened = tighten(lax, floors)
    assert {name: getattr(tightened, name) for name in type(floors).model_fields} == floors.model_dump()
    strict = TabularGateConfig(slope=(0.9, 1.1), intercept=(-0.1, 0.1), min_auc=0.8, min_approval_ratio=0.95,
                               min_limit_ratio=0.95, max_psi=0.05)  # fmt: skip
    assert tighten(strict, floors) == strict


def test_every_shipped_config_is_at_least_as_strict_as_the_floors():
    import tomllib

    floors = load_gate_floors(DEFAULT_FILE)
    for file in sorted((ROOT / "configs").glob("*.toml")):
        gate = tomllib.loads(file.read_text(encoding="utf-8")).get("gate")
        if gate is None:
            continue
        section = floors.slides if "min_sensitivity_bound" in gate else floors.tabular
        for name in type(section).model_fields:
            own, floor = gate[name], getattr(section, name)
            strict = own >= floor if name.startswith("min_") else own <= floor if name.startswith("max_") else (
                floor[0] <= own[0] and own[1] <= floor[1]
            )  # fmt: skip
            assert strict, (file.name, name, own, floor)
