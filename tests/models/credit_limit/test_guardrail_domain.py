"""The checker proves the policies we ship, and for a bad one shows an applicant who proves it bad."""

import math
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from datasets.derived_columns import DerivedFormula
from datasets.schema import ColumnSchema
from models.credit_limit.__main__ import app
from models.credit_limit.guardrail_domain import REFERENCE_APPLICANT, build_domain, find_forbidden_inputs
from models.credit_limit.guardrails import GUARDRAILS
from models.credit_limit.limit_formula import CreditLimitFormula
from models.credit_limit.policy import Policy
from models.policy.arithmetic import ScalarOps, any_of
from models.policy.guardrails import Scenario
from models.policy.prover import prove, prove_all
from tests.paths import ROOT

FOLDER = ROOT / "configs" / "policies"
TEXT = (FOLDER / "credit_limit.toml").read_text()
CLEAR = REFERENCE_APPLICANT | dict.fromkeys(
    (name for name, value in REFERENCE_APPLICANT.items() if value is None), math.nan
)
RAIL = {rail.name: rail for rail in GUARDRAILS}


def policy(*changes):
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return Policy.load(text.encode(), enforce_guardrails=False)


def caught(name, bad, formula=CreditLimitFormula):
    """The rail's counterexample, worked out again with the float formula: (first, second)."""
    verdict = prove(RAIL[name], bad, build_domain(formula))
    assert verdict.proved is False, str(verdict)
    counterexample = verdict.counterexample
    case = Scenario(formula(bad), counterexample.baseline_inputs, counterexample.variant_inputs)
    assert RAIL[name].is_violated(case, 0.0)
    return case.baseline, case.variant


@pytest.mark.parametrize("path", sorted(FOLDER.glob("credit_limit*.toml")), ids=lambda path: path.stem)
def test_every_rail_of_every_policy_shipped_is_proved(path):
    assert [str(verdict) for verdict in prove_all(Policy.load(path), build_domain()) if not verdict.proved] == []


def test_the_rails_of_a_product_backed_by_assets_are_proved_too():
    verdicts = prove_all(policy(("asset_based = false", "asset_based = true")), build_domain())
    assert {"more_assets_never_lower", "more_debts_never_raise"} <= {verdict.guardrail.name for verdict in verdicts}
    assert [str(verdict) for verdict in verdicts if not verdict.proved] == []


def test_a_limit_that_rises_with_the_use_of_lines_is_caught():
    bad = policy(("factor = [1.00, 0.90, 0.70]", "factor = [0.70, 0.90, 1.00]"))
    less, more = caught("more_utilisation_never_raises", bad)
    assert more.limit > less.limit


def test_a_loss_budget_that_rises_for_a_worse_grade_is_caught():
    better, worse = caught("more_risk_never_raises", policy(("loss_budget = 1_500", "loss_budget = 4_500")))
    assert worse.limit > better.limit


def test_too_large_an_uplift_is_caught():
    assert caught("uplift_bounded", policy(("u = 0.20", "u = 0.60")))[0].multiplier > 1.5


def test_too_heavy_a_self_score_is_caught():
    caught("self_score_weighs_little", policy(("self_weight = 0.05", "self_weight = 0.30")))


def test_too_few_raters_are_caught():
    assert caught("no_uplift_without_moral_data", policy(("min_raters = 5", "min_raters = 3")))[0].multiplier > 1


def test_a_formula_without_affordability_after_the_uplift_is_caught():
    class Careless(CreditLimitFormula):
        def caps(self, base, bounds):
            return {code: cap for code, cap in super().caps(base, bounds).items() if code != "affordability"}

    (lifted, _) = caught("affordability_binds_after_uplift", policy(), Careless)
    assert lifted.limit > lifted.bounds["affordability"][0]


def test_a_formula_that_punishes_conduct_is_caught():
    class Stern(CreditLimitFormula):
        def multiplier(self, score, unlifted):
            ops = self.ops
            m = self.one + ops.number(0.2) * ops.minimum((score - ops.number(80.0)) / ops.number(30.0), self.one)
            return ops.where(any_of(ops, unlifted.values()), self.one, m)

    (penalised, _) = caught("conduct_only_helps", policy(), Stern)
    assert penalised.limit < penalised.base


def test_a_formula_that_lets_conduct_decide_is_caught():
    class Judge(CreditLimitFormula):
        def evaluate(self, a):
            worked = super().evaluate(a)
            worked.referred = self.ops.logical_or(worked.referred, worked.uplifted < self.ops.number(20_000.0))
            return worked

    with_, without = caught("consent_never_decides", policy(), Judge)
    assert with_.referred != without.referred


@pytest.mark.parametrize(
    ("code", "rail"),
    [
        ("statutory_veto", "a_veto_refers"),
        ("below_floor_grade", "below_the_floor_refers"),
        ("under_age", "no_capacity_refers"),
        ("over_age", "no_capacity_refers"),
        ("fact_unknown", "an_unproven_identity_refers"),
        ("fact_unknown", "a_default_refers"),
        ("fact_unknown", "a_needed_input_refers"),
        ("fact_unknown", "every_stop_fact_refers"),
        ("identity_mismatch", "every_stop_fact_refers"),
        ("lacks_affordability", "a_lacking_bound_refers"),
        ("below_minimum", "an_approval_has_money"),
    ],
)
def test_a_formula_that_forgets_to_refer_is_caught(code, rail):
    class Hasty(CreditLimitFormula):
        def referral_reasons(self, a, bounds, base):
            return {name: flag for name, flag in super().referral_reasons(a, bounds, base).items() if name != code}

    assert not caught(rail, policy(), Hasty)[0].referred


def test_a_formula_that_approves_what_is_hidden_is_caught():
    class Hasty(CreditLimitFormula):
        def referral_reasons(self, a, bounds, base):
            return {n: flag for n, flag in super().referral_reasons(a, bounds, base).items() if n != "fact_unknown"}

    stated, hidden = caught("hiding_never_pays", policy(), Hasty)
    assert stated.referred
    assert not hidden.referred


def test_a_formula_that_takes_a_missing_income_for_a_good_one_is_caught():
    class Generous(CreditLimitFormula):
        def bounds(self, a):
            bounds = super().bounds(a)
            amount, known = bounds["affordability"]
            return bounds | {"affordability": (self.ops.where(known, amount, self.ops.number(1e6)), True)}

    assert not caught("a_lacking_bound_refers", policy(), Generous)[0].referred

    unknown, stated = (
        Generous(policy()).evaluate(CLEAR | {"declared_income": income}) for income in (math.nan, 36_000.0)
    )
    assert unknown.limit > stated.limit
    caught("an_unknown_counts_as_assumed", policy(), Generous)


@pytest.mark.parametrize(
    ("rail", "indicator", "change"),
    [
        ("an_unproven_identity_refers", "identity_match", ("at_most = 0", "at_most = -1")),
        ("a_default_refers", "days_past_due", ("at_least = 60 ", "at_least = 180 ")),
        ("large_tax_arrears_refers", "tax_arrears", ("at_least = 10_000", "at_least = 1_000_000")),
    ],
)
def test_a_policy_that_lets_a_stop_fact_pass_is_caught_with_the_household(rail, indicator, change):
    verdict = prove(RAIL[rail], policy(change), build_domain())
    assert verdict.proved is False
    household = verdict.counterexample.baseline_inputs
    assert not CreditLimitFormula(policy(change)).evaluate(household).referred
    assert CreditLimitFormula(policy()).evaluate(household).referred
    assert f"with {indicator}" in verdict.counterexample.en


def test_a_policy_that_rewards_hiding_the_use_of_lines_is_caught_with_the_household():
    bad = policy(
        ("factor = [1.00, 0.90, 0.70]", "factor = [0.70, 0.90, 1.00]"),
        ("utilisation = { counts_as = 0.67, refers = true }", "utilisation = { counts_as = 0.67 }"),
    )
    stated, hidden = caught("hiding_never_pays", bad)
    assert hidden.unrounded > stated.unrounded
    assert not hidden.referred


def test_a_formula_that_leaves_an_unknown_bound_out_of_the_minimum_is_caught():
    class Careless(CreditLimitFormula):
        def base_limit(self, bounds):
            base = self.product_cap
            for amount, known in bounds.values():
                base = self.ops.where(known, self.ops.minimum(base, amount), base)
            return base

        def apply_caps(self, limit, caps):
            return limit

    stated, hidden = caught("an_unknown_counts_as_assumed", policy(), Careless)
    assert hidden.limit > stated.limit


def test_a_formula_whose_uplift_passes_the_product_cap_is_caught():
    class Careless(CreditLimitFormula):
        def caps(self, base, bounds):
            return {code: cap for code, cap in super().caps(base, bounds).items() if code != "product_cap"}

    (lifted, _) = caught("caps_always_hold", policy(), Careless)
    assert lifted.limit > policy().product.cap


def test_a_formula_that_rounds_up_is_caught():
    class Rounded(CreditLimitFormula):
        def __init__(self, policy, ops=ScalarOps):
            names = ("number", "is_known", "where", "minimum", "maximum", "logical_and", "logical_or", "logical_not")
            same = {name: getattr(ops, name) for name in names}
            nearest = lambda value, step: ops.floor_to(value + ops.number(step / 2), step)  # noqa: E731
            super().__init__(policy, SimpleNamespace(**same, floor_to=nearest))

    caught("rounding_never_upward", policy(), Rounded)


def test_an_indicator_that_counts_in_the_pd_and_in_m_is_named():
    inputs = (
        ColumnSchema(name="insured_months", group="social_security"),
        ColumnSchema(name="public_spirit", group="village_appraisal"),
        ColumnSchema(name="evidence", group="self_assessment"),
        ColumnSchema(name="made_of_conduct", derived=DerivedFormula(op="sum", of=("insured_months", "law_abiding"))),
        ColumnSchema(name="made_of_that", derived=DerivedFormula(op="at_least", of=("made_of_conduct",))),
    )
    assert find_forbidden_inputs(inputs) == ["public_spirit", "evidence", "made_of_conduct", "made_of_that"]
    assert find_forbidden_inputs(inputs[:1]) == []


def test_the_command_ends_well_for_a_policy_whose_rails_hold():
    result = CliRunner().invoke(app, ["check", str(FOLDER / "credit_limit_taiwan.toml")])
    assert result.exit_code == 0, result.output
    assert "24 of 24 guard rails proved" in result.output


def test_the_command_shows_whom_a_bad_policy_fails_and_exits_with_1(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text(
        (FOLDER / "credit_limit_taiwan.toml").read_text().replace("loss_budget = 8_000", "loss_budget = 90_000")
    )
    result = CliRunner().invoke(app, ["check", str(bad)])
    assert result.exit_code == 1
    assert "refused" in result.output
    assert "more_risk_never_raises: pd" in result.output
    assert "NT$" in result.output


def test_the_command_tells_every_fault_of_what_is_no_policy(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text(TEXT.replace("\ncap = 300_000", "\ncapp = 300_000", 1))
    result = CliRunner().invoke(app, ["check", str(bad)])
    assert result.exit_code == 1
    assert "product.capp is not a known key" in result.output
