"""The checker proves the sci-tech policies we ship, and for a bad one shows a company that proves it bad."""

import pytest
from typer.testing import CliRunner

from datasets.derived_columns import DerivedFormula
from datasets.schema import ColumnSchema
from models.policy.guardrails import Scenario
from models.policy.prover import prove, prove_all
from models.scitech_risk.__main__ import app
from models.scitech_risk.guardrail_domain import build_domain, find_forbidden_inputs
from models.scitech_risk.guardrails import GUARDRAILS
from models.scitech_risk.limit_formula import CompanyLimitFormula
from models.scitech_risk.policy import Policy
from tests.models.scitech_risk.company_fixtures import FOLDER, TEXT, changed

RAIL = {rail.name: rail for rail in GUARDRAILS}


def policy(*changes):
    return Policy.load(changed(*changes), enforce_guardrails=False)


def caught(name, bad, formula=CompanyLimitFormula):
    """The rail's counterexample, worked out again with the float formula: (first, second)."""
    verdict = prove(RAIL[name], bad, build_domain(formula))
    assert verdict.proved is False, str(verdict)
    counterexample = verdict.counterexample
    case = Scenario(formula(bad), counterexample.baseline_inputs, counterexample.variant_inputs)
    assert RAIL[name].is_violated(case, 0.0)
    assert "RMB" in counterexample.en or "points" in counterexample.en
    return case.baseline, case.variant


@pytest.mark.parametrize("path", sorted(FOLDER.glob("scitech_risk*.toml")), ids=lambda path: path.stem)
def test_every_rail_of_every_policy_shipped_is_proved(path):
    assert [str(verdict) for verdict in prove_all(Policy.load(path), build_domain()) if not verdict.proved] == []


def test_a_loss_budget_that_rises_for_a_worse_grade_is_caught():
    bad = policy(("loss_budget = 30_000", "loss_budget = 600_000"))
    better, worse = caught("more_risk_never_raises", bad)
    assert worse.limit > better.limit
    caught("a_worse_grade_has_no_larger_budget", bad)


def test_an_innovation_score_that_lowers_the_limit_is_caught():
    bad = policy(("innovation_uplift = 0.50", "innovation_uplift = -0.50"))
    less, more = caught("more_innovation_never_lowers", bad)
    assert more.limit < less.limit
    caught("innovation_only_raises", bad)


def test_an_indicator_that_scores_less_for_more_is_caught():
    bad = policy(("floor = 0\nfull = 15", "floor = 15\nfull = 0"))
    less, more = caught("more_innovation_never_lowers", bad)
    assert more.limit < less.limit


def test_a_stage_that_takes_back_what_the_one_before_gave_is_caught():
    less, more = caught("more_revenue_never_lowers", policy(("multiple = 0.20", "multiple = -0.20")))
    assert more.limit < less.limit


def test_a_block_on_one_source_is_caught():
    first, _ = caught("a_block_needs_independent_evidence", policy(("sources = 2", "sources = 1")))
    assert first.gate.block


def test_an_ownership_cycle_that_no_one_looks_at_is_caught():
    first, _ = caught(
        "an_ownership_cycle_refers", policy(("reviews = true        # who owns", "reviews = false       # who owns"))
    )
    assert not first.referred


def test_evidence_that_weighs_by_its_wrong_end_is_caught():
    bad = policy(('indicator = "zero_filing_months"\nat_least = 6', 'indicator = "zero_filing_months"\nat_most = 6'))
    first, second = caught("more_evidence_never_helps", bad)
    assert second.gate.points < first.gate.points


@pytest.mark.parametrize(
    ("code", "rail"),
    [
        ("gate_review", "a_review_refers"),
        ("too_little_known", "too_little_known_refers"),
        ("below_floor_grade", "below_the_floor_refers"),
        ("fact_unknown", "a_needed_input_refers"),
        ("fact_unknown", "a_qualified_audit_refers"),
        ("deregistered", "deregistration_refers"),
        ("warning_act", "an_urgent_warning_refers"),
        ("below_minimum", "an_approval_has_money"),
    ],
)
def test_a_formula_that_forgets_to_refer_is_caught(code, rail):
    class Hasty(CompanyLimitFormula):
        def referral_reasons(self, a, gate, bounds, base):
            return {
                name: flag for name, flag in super().referral_reasons(a, gate, bounds, base).items() if name != code
            }

    assert not caught(rail, policy(), Hasty)[0].referred


def test_a_formula_that_lends_to_the_blocked_is_caught():
    class Lenient(CompanyLimitFormula):
        def evaluate(self, a):
            worked = super().evaluate(a)
            worked.unrounded = worked.before_gate
            return worked

    first, _ = caught("a_block_means_nothing", policy(), Lenient)
    assert first.gate.block
    assert first.unrounded > 0


def test_a_formula_by_which_silence_helps_is_caught():
    class Trusting(CompanyLimitFormula):
        def score_indicator(self, indicator, value):
            return self.ops.where(self.ops.is_known(value), super().score_indicator(indicator, value), self.one)

    disclosed, silent = caught("hiding_never_pays", policy(), Trusting)
    assert silent.limit > disclosed.limit


def test_a_formula_that_takes_a_missing_cash_flow_for_a_good_one_is_caught():
    class Generous(CompanyLimitFormula):
        def bounds(self, a, scored):
            bounds = super().bounds(a, scored)
            amount, known = bounds["debt_service_cover"]
            return bounds | {"debt_service_cover": (self.ops.where(known, amount, self.ops.number(1e8)), True)}

    assert not caught("a_lacking_bound_refers", policy(), Generous)[0].referred


@pytest.mark.parametrize(
    ("rail", "change"),
    [
        (
            "deregistration_refers",
            ('indicator = "deregistered"\nat_least = 1', 'indicator = "deregistered"\nat_least = 2'),
        ),
        ("negative_net_assets_refers", ("at_least = 1.0", "at_least = 1.5")),
        ("a_qualified_audit_refers", ('"qualified_audit"\nat_least = 1', '"qualified_audit"\nat_least = 2')),
    ],
)
def test_a_policy_that_lets_a_stop_fact_pass_is_caught_with_the_company(rail, change):
    first, _ = caught(rail, policy(change))
    assert not first.referred


def test_a_formula_that_overlooks_hidden_evidence_is_caught_with_the_company():
    class Trusting(CompanyLimitFormula):
        def referral_reasons(self, a, gate, bounds, base):
            reasons = super().referral_reasons(a, gate, bounds, base)
            return {code: flag for code, flag in reasons.items() if code != "evidence_unknown"}

    stated, hidden = caught("hiding_never_pays", policy(), Trusting)
    assert stated.referred
    assert not hidden.referred


def test_a_formula_that_ignores_the_budget_is_caught():
    class Blithe(CompanyLimitFormula):
        def bounds(self, a, scored):
            bounds = super().bounds(a, scored)
            amount, known = bounds["loss_budget"]
            return bounds | {"loss_budget": (amount * self.ops.number(2.0), known)}

    caught("loss_budget_holds", policy(), Blithe)


def test_a_formula_that_lends_more_where_less_is_known_is_caught():
    class Incurious(CompanyLimitFormula):
        def loss_budget(self, pd, known_share):
            graded = known_share >= self.ops.number(0.5)
            return self.ops.where(graded, self.grade_budget(pd), self.ops.number(1e9))

    less, more = caught("knowing_more_never_lowers", policy(), Incurious)
    assert more.limit < less.limit


def test_an_input_of_the_pd_that_the_gate_or_the_limit_counts_is_named():
    inputs = (
        ColumnSchema(name="revenue", group="growth"),
        ColumnSchema(name="zero_filing_months", group="shell"),
        ColumnSchema(name="data_certificate", group="data_assets"),
        ColumnSchema(name="patent_value", group="technology"),
        ColumnSchema(name="made_of_that", derived=DerivedFormula(op="sum", of=("revenue", "patent_value"))),
    )
    assert find_forbidden_inputs(inputs) == ["zero_filing_months", "data_certificate", "patent_value", "made_of_that"]
    assert find_forbidden_inputs(inputs[:1]) == []


def test_the_command_ends_well_for_a_policy_whose_rails_hold():
    result = CliRunner().invoke(app, ["check", str(FOLDER / "scitech_risk_sba.toml")])
    assert result.exit_code == 0, result.output
    assert "25 of 25 guard rails proved" in result.output


def test_the_command_shows_whom_a_bad_policy_fails_and_exits_with_1(tmp_path):
    bad = tmp_path / "bad.toml"
    text = (FOLDER / "scitech_risk_sba.toml").read_text()
    bad.write_text(text.replace("loss_budget = 12_000", "loss_budget = 90_000"))
    result = CliRunner().invoke(app, ["check", str(bad)])
    assert result.exit_code == 1
    assert "refused" in result.output
    assert "more_risk_never_raises: pd" in result.output
    assert "USD" in result.output


def test_the_command_tells_every_fault_of_what_is_no_policy(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text(TEXT.replace("\ncap = 30_000_000", "\ncapp = 30_000_000", 1))
    result = CliRunner().invoke(app, ["check", str(bad)])
    assert result.exit_code == 1
    assert "product.capp is not a known key" in result.output
