"""The formula of the limit and of the gate; Hypothesis looks for the company that breaks a rail."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.policy.arithmetic import ArrayOps, annuity_factor
from models.scitech_risk.limit_formula import FORMULA_INPUTS, CompanyLimitFormula
from models.scitech_risk.policy import EVIDENCE, INNOVATION
from tests.models.scitech_risk.company_fixtures import MISSING, NUMBERS, PD, POLICY, RANGES, SBA, companies

POLICIES = st.sampled_from((POLICY, SBA))
FORMULAS = {policy.name: CompanyLimitFormula(policy) for policy in (POLICY, SBA)}


def evaluate(company, policy=POLICY):
    return FORMULAS[policy.name].evaluate(company)


def in_order(data, name):
    return sorted((data.draw(RANGES[name]), data.draw(RANGES[name])))


def test_a_limit_worked_out_by_hand():
    result = evaluate(NUMBERS | {"patent_value": 2_000.0})
    room = 6_000_000 / 1.30 - 1_500_000
    covered = room / 12 * annuity_factor(0.065, 36)
    low = result.innovation.low[:4]
    parts = [(0.5e6, 0.30), (4.5e6, 0.25), (15e6, 0.20), (20e6, 0.15)]  # 40 million in four stages
    revenue = sum(
        tranche * multiple * (1 + 0.5 * score / 100) for (tranche, multiple), score in zip(parts, low, strict=True)
    )
    backing = 3_000_000 + 0.30 * 20_000_000 + 0.20 * 2_000_000
    risk = 50_000 / (0.02 * 0.60 * 0.75)
    amounts = {code: amount for code, (amount, _) in result.bounds.items()}
    assert amounts == pytest.approx(
        {"debt_service_cover": covered, "revenue_multiple": revenue, "backing": backing, "loss_budget": risk,
         "product_cap": 30_000_000}
    )  # fmt: skip
    assert result.base == min(amounts.values())
    assert result.limit == math.floor(min(amounts.values()) / 10_000) * 10_000
    assert not result.referred


def test_an_innovation_score_worked_out_by_hand():
    only = dict.fromkeys(FORMULA_INPUTS, MISSING) | {
        "pd": 0.02,
        "known_share": 1.0,
        "rd_intensity": 0.085,
        "awards": 1.0,
    }
    result = evaluate(only | {"revenue": 0.0})
    expected = 60 / 100 * 25 / 100 * (0.085 - 0.02) / 0.13 + 25 / 100 * 15 / 100 * 0.5
    assert result.innovation.low[0] == pytest.approx(100 * expected)
    assert result.innovation.coverage[0] == pytest.approx(0.60 * 0.25 + 0.25 * 0.15 + 0.15 * 0.15)


@pytest.mark.parametrize("name", ["operating_cash_flow", "revenue", "patent_value", "data_asset_value",
                                  "data_certificate", "insured_staff", *INNOVATION])  # fmt: skip
@settings(max_examples=30)
@given(companies(quiet=True), POLICIES, st.data())
def test_more_of_what_is_good_never_lowers_the_limit_nor_costs_an_approval(name, company, policy, data):
    less, more = (evaluate(company | {name: value}, policy) for value in in_order(data, name))
    assert more.limit >= less.limit
    assert less.referred or not more.referred


@given(companies(quiet=True), POLICIES, st.data())
def test_more_debt_service_never_raises_the_limit(company, policy, data):
    less, more = (evaluate(company | {"debt_service": value}, policy) for value in in_order(data, "debt_service"))
    assert more.limit <= less.limit


@given(companies(quiet=True), POLICIES, PD, PD)
def test_a_higher_pd_never_raises_the_limit_nor_earns_an_approval(company, policy, first, second):
    better, worse = (evaluate(company | {"pd": pd}, policy) for pd in sorted((first, second)))
    assert worse.limit <= better.limit
    assert worse.referred or not better.referred


@pytest.mark.parametrize("name", EVIDENCE)
@settings(max_examples=40)
@given(companies(), st.data())
def test_more_evidence_never_raises_the_limit_nor_makes_the_verdict_milder(name, company, data):
    less, more = (evaluate(company | {name: value}) for value in in_order(data, name))
    assert more.limit <= less.limit
    assert more.gate.block >= less.gate.block
    assert more.gate.review >= less.gate.review
    assert more.gate.points >= less.gate.points


@given(companies(quiet=True), POLICIES, st.sets(st.sampled_from([n for n in INNOVATION if n != "revenue"])))
def test_leaving_an_indicator_of_innovation_out_never_helps(company, policy, hidden):
    output, silent = evaluate(company, policy), evaluate(company | dict.fromkeys(hidden, MISSING), policy)
    assert silent.limit <= output.limit
    assert output.referred <= silent.referred


@given(companies(), POLICIES)
def test_a_block_means_nothing_and_every_cap_holds(company, policy):
    result = evaluate(company, policy)
    assert not result.gate.block or (result.limit == 0 and result.referred)
    assert 0 <= result.limit <= result.unrounded <= min(policy.product.cap, policy.product.legal_cap)
    assert result.limit % policy.product.rounding == 0
    assert result.referred or result.limit >= policy.product.minimum


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("gate_block", {"insured_staff": 0.0, "zero_filing_months": 20.0, "invoice_loop_share": 0.9}),
        ("gate_review", {"ownership_cycle": 1.0}),
        ("gate_review", dict.fromkeys((*EVIDENCE, "insured_staff"), MISSING)),
        ("too_little_known", {"known_share": 0.49}),
        ("evidence_unknown", {"invoice_loop_share": MISSING}),
        ("fact_unknown", {"unknown_inputs": 1.0}),
        ("fact_unknown", {"deregistered": MISSING}),
        ("deregistered", {"deregistered": 1.0}),
        ("enforcement", {"enforcement_cases": 1.0}),
        ("qualified_audit", {"qualified_audit": 1.0}),
        ("negative_net_assets", {"debt_ratio": 1.0}),
        ("warning_act", {"overdue_days_6m": 30.0}),
        ("below_floor_grade", {"pd": 0.0301}),
        ("below_minimum", {"operating_cash_flow": -50.0}),
    ],
)
def test_what_a_machine_may_not_decide_goes_to_a_person(code, change):
    result = evaluate(NUMBERS | change)
    assert [name for name, flag in result.referral_reasons.items() if flag] == [code]
    assert result.referred


def test_points_of_one_source_alone_never_block():
    records = {"insured_staff": 0.0, "invoice_to_electricity": 900.0, "abnormal_list": 1.0}
    result = evaluate(NUMBERS | records)
    assert result.gate.points >= POLICY.gate.block
    assert result.gate.sources == 1
    assert result.gate.review
    assert not result.gate.block


def test_what_cannot_be_told_is_neither_evidence_nor_clean():
    crowd = {"address_companies": 30.0, "address_empty_share": MISSING}
    result, clean = evaluate(NUMBERS | crowd).gate, evaluate(NUMBERS | {"address_empty_share": MISSING}).gate
    assert result.unknown["crowded_address"]
    assert not result.holds["crowded_address"]
    assert result.known < clean.known
    assert not clean.unknown["crowded_address"]  # two companies are no crowd, whoever they are


def test_a_company_on_the_edge_of_a_stage_loses_nothing_by_growing():
    for edge in (50.0, 500.0, 2_000.0, 10_000.0):
        company = NUMBERS | {"operating_cash_flow": 1e6, "patent_value": 1e6, "pd": 0.0001}
        below, above = (
            evaluate(company | {"revenue": edge + step}).bounds["revenue_multiple"][0] for step in (-0.01, 0)
        )
        assert above > below


def test_without_a_certificate_data_assets_back_nothing():
    with_, without, unknown = (
        evaluate(NUMBERS | {"data_asset_value": 9_000.0, "data_certificate": flag}).bounds["backing"][0]
        for flag in (1.0, 0.0, MISSING)
    )
    assert with_ > without == unknown


@settings(max_examples=60)
@given(st.lists(companies(), min_size=1, max_size=8), POLICIES)
def test_arrays_and_floats_agree_to_the_last_bit(result, policy):
    arrays = {name: np.array([company[name] for company in result]) for name in FORMULA_INPUTS}
    with np.errstate(invalid="ignore"):
        batch = CompanyLimitFormula(policy, ArrayOps).evaluate(arrays)
    for i, company in enumerate(result):
        single = evaluate(company, policy)
        assert (batch.limit[i], batch.unrounded[i], batch.base[i]) == (single.limit, single.unrounded, single.base)
        assert bool(batch.referred[i]) == single.referred
        for stage, low in enumerate(single.innovation.low):
            assert np.broadcast_to(batch.innovation.low[stage], len(result))[i] == low
        assert np.broadcast_to(batch.gate.points, len(result))[i] == single.gate.points
        assert bool(np.broadcast_to(batch.gate.block, len(result))[i]) == bool(single.gate.block)
