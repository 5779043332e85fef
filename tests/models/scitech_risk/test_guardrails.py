"""The checker proves the sci-tech policies we ship, and for a bad one shows a company that proves it bad."""

import pytest
from typer.testing import CliRunner

from datasets.derived_columns import Derived
from datasets.schema import Column
from models.policy.guardrails import Case
from models.scitech_risk.__main__ import app
from models.scitech_risk.guardrail_domain import check, overlap, prove
from models.scitech_risk.guardrails import RAILS
from models.scitech_risk.limit_formula import Formula
from models.scitech_risk.policy import Policy
from tests.models.scitech_risk.company_fixtures import FOLDER, TEXT, changed

RAIL = {rail.name: rail for rail in RAILS}


def policy(*changes):
    return Policy.load(changed(*changes), rails=False)


def caught(name, bad, formula=Formula):
    """The rail's counterexample, worked out again with the float formula: (first, second)."""
    verdict = prove(RAIL[name], bad, formula)
    assert verdict.proved is False, str(verdict)
    found = verdict.counterexample
    case = Case(formula(bad), found.first, found.second)
    assert RAIL[name].broken(case, 0.0)
    assert "RMB" in found.en or "points" in found.en
    return case.one, case.two


@pytest.mark.parametrize("path", sorted(FOLDER.glob("scitech_risk*.toml")), ids=lambda path: path.stem)
def test_every_rail_of_every_policy_shipped_is_proved(path):
    assert [str(verdict) for verdict in check(Policy.load(path)) if not verdict.proved] == []


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
        ("lacks_debt_service_cover", "a_lacking_bound_refers"),
        ("below_minimum", "an_approval_has_money"),
    ],
)
def test_a_formula_that_forgets_to_refer_is_caught(code, rail):
    class Hasty(Formula):
        def refer(self, a, gate, bounds, base):
            return {name: flag for name, flag in super().refer(a, gate, bounds, base).items() if name != code}

    assert not caught(rail, policy(), Hasty)[0].referred


def test_a_formula_that_lends_to_the_blocked_is_caught():
    class Lenient(Formula):
        def work(self, a):
            worked = super().work(a)
            worked.exact = worked.capped
            return worked

    first, _ = caught("a_block_means_nothing", policy(), Lenient)
    assert first.gate.block
    assert first.exact > 0


def test_a_formula_by_which_silence_helps_is_caught():
    class Trusting(Formula):
        def earned(self, indicator, value):
            return self.ops.where(self.ops.known(value), super().earned(indicator, value), self.one)

    told, silent = caught("leaving_out_never_helps", policy(), Trusting)
    assert silent.limit > told.limit


def test_a_formula_that_takes_a_missing_cash_flow_for_a_good_one_is_caught():
    class Generous(Formula):
        def bounds(self, a, scored):
            bounds = super().bounds(a, scored)
            amount, known = bounds["debt_service_cover"]
            return bounds | {"debt_service_cover": (self.ops.where(known, amount, self.ops.number(1e8)), True)}

    assert not caught("a_lacking_bound_refers", policy(), Generous)[0].referred


def test_a_formula_that_ignores_the_budget_is_caught():
    class Blithe(Formula):
        def bounds(self, a, scored):
            bounds = super().bounds(a, scored)
            amount, known = bounds["loss_budget"]
            return bounds | {"loss_budget": (amount * self.ops.number(2.0), known)}

    caught("loss_budget_holds", policy(), Blithe)


def test_a_formula_that_lends_more_where_less_is_known_is_caught():
    class Incurious(Formula):
        def budget(self, pd, known_share):
            graded = known_share >= self.ops.number(0.5)
            return self.ops.where(graded, self.grade_budget(pd), self.ops.number(1e9))

    less, more = caught("knowing_more_never_lowers", policy(), Incurious)
    assert more.limit < less.limit


def test_an_input_of_the_pd_that_the_gate_or_the_limit_counts_is_named():
    inputs = (
        Column(name="revenue", group="growth"),
        Column(name="zero_filing_months", group="shell"),
        Column(name="data_certificate", group="data_assets"),
        Column(name="patent_value", group="technology"),
        Column(name="made_of_that", derived=Derived(op="sum", of=("revenue", "patent_value"))),
    )
    assert overlap(inputs) == ["zero_filing_months", "data_certificate", "patent_value", "made_of_that"]
    assert overlap(inputs[:1]) == []


def test_the_command_ends_well_for_a_policy_whose_rails_hold():
    result = CliRunner().invoke(app, ["check", str(FOLDER / "scitech_risk_sba.toml")])
    assert result.exit_code == 0, result.output
    assert "18 of 18 rails proved" in result.output


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
    assert "[product]" in result.output
