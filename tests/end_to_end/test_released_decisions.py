"""The models that ship: facts that stop, hiding that never pays, and approval lines where the profit is largest."""

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.credit_limit.county.simulator import simulate_county
from datasets.scitech_risk.register import reader
from models import bundle
from models.bundle_archive import unpack
from models.card import Card
from models.credit_limit.decision import CreditDecisionEngine
from models.credit_limit.policy import Policy as CreditPolicy
from models.feature_encoder import FeatureEncoder, encode, required_columns
from models.scitech_risk.decision import CompanyDecisionEngine
from models.scitech_risk.policy import Policy as CompanyPolicy
from models.trees.onnx_session import TabularSession
from tests.paths import ROOT

RELEASED = ROOT / "models/released"
HOUSEHOLDS, COMPANIES = 1_500, 600


def load(model):
    (archive,) = (RELEASED / model).glob("*.tar.xz")
    with tempfile.TemporaryDirectory() as folder:
        unpack(archive, Path(folder))
        return bundle.load_bundle(Path(folder), RELEASED / "release.pub.pem", Card)


class Product:
    """A released model with its engine, for one applicant and for many."""

    def __init__(self, model, policy_type, engine_type):
        self.bundle = load(model)
        self.card, self.policy = self.bundle.card, policy_type.load(self.bundle.policy)
        self.graph = TabularSession(self.bundle.graph)
        self.engine = engine_type(self.card, self.policy)
        self.encoder = FeatureEncoder(self.card.inputs)

    def ask(self, values):
        row = np.array([self.encoder.encode_row(values)[0]], np.float32)
        return self.engine.decide(values, self.graph.run(row, reasons=True))

    def ask_all(self, frame):
        return self.engine.decide_batch(frame, self.graph.run(encode(frame, self.card.inputs)))


@pytest.fixture(scope="module")
def households():
    return Product("credit_limit", CreditPolicy, CreditDecisionEngine)


@pytest.fixture(scope="module")
def companies():
    return Product("scitech_risk", CompanyPolicy, CompanyDecisionEngine)


def example(name):
    return json.loads((ROOT / f"configs/examples/{name}.json").read_text())["indicators"]


@pytest.mark.parametrize("model", ["credit_limit", "credit_limit_taiwan", "scitech_risk"])
def test_a_released_policy_is_the_one_in_the_repository_and_its_card_shows_the_curve_of_profit(model):
    released = load(model)
    assert released.policy == (ROOT / f"configs/policies/{model}.toml").read_bytes()
    plots = released.card.plots
    low, high = plots.profit_band
    assert len(plots.profit.y) == len(low.y) == len(high.y) > 20


@pytest.mark.parametrize("model", ["credit_limit", "scitech_risk"])
def test_an_approval_line_stands_where_the_profit_is_largest(model):
    plots = load(model).card.plots
    assert plots.best_line.low <= plots.line <= plots.best_line.high


def test_the_line_of_the_taiwan_policy_is_the_lowest_fair_one_above_the_largest_profit():
    """At the largest profit a small group would fail the four-fifths rule; at the line all groups meet it."""
    released = load("credit_limit_taiwan").card
    assert released.plots.best_line.high < released.plots.line == 0.18
    assert min(row.approval.value for row in released.plots.fairness) >= 0.8


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"identity_match": 0}, "identity_mismatch"),
        ({"identity_match": None}, "fact_unknown"),
        ({"days_past_due": 730}, "past_due"),
        ({"days_past_due": None}, "fact_unknown"),
        ({"abnormal_list": 1}, "abnormal_operations"),
        ({"tax_arrears": 50_000}, "tax_arrears"),
        ({"enforcement_cases": 1}, "enforcement"),
        ({"veto_codes": None}, "fact_unknown"),
        ({"veto_codes": "dishonest_debtor"}, "statutory_veto"),
        ({"age": 83}, "over_age"),
        ({"declared_income": None}, "lacks_affordability"),
    ],
)
def test_a_fact_that_stops_sends_the_example_household_to_a_person(households, change, code):
    assert households.ask(example("household"))["decision"] == "approve"
    answer = households.ask(example("household") | change)
    assert (answer["decision"], answer["limit"]) == ("refer", None)
    assert code in [reason["code"] for reason in answer["referral"]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"deregistered": 1}, "deregistered"),
        ({"deregistered": None}, "fact_unknown"),
        ({"enforcement_cases": 1}, "enforcement"),
        ({"qualified_audit": 1}, "qualified_audit"),
        ({"total_liabilities": 700}, "negative_net_assets"),
        ({"overdue_days_6m": None}, "warning_unknown"),
        ({"invoice_loop_share": None}, "evidence_unknown"),
    ],
)
def test_a_fact_that_stops_sends_the_example_company_to_a_person(companies, change, code):
    assert companies.ask(example("company"))["decision"] == "approve"
    answer = companies.ask(example("company") | change)
    assert (answer["decision"], answer["limit"]) == ("refer", None)
    assert code in [reason["code"] for reason in answer["referral"]]


def test_hiding_an_income_of_20_000_gives_no_more_than_the_stated_assumption(households):
    rich = example("household") | {"deposits": 900_000, "debts": 0, "gap_months": 0, "insured_months": 400}
    stated, hidden = (households.ask(rich | {"declared_income": income}) for income in (20_000, None))
    assumed = households.ask(rich | {"declared_income": 36_000})
    assert stated["indicative_limit"] == 0
    assert hidden["decision"] == "refer"
    assert hidden["indicative_limit"] == assumed["indicative_limit"] == hidden["indicative"]["amount"] < 30_000
    assert "if an income of 36,000 RMB a year is confirmed" in hidden["indicative"]["en"]
    assert hidden["pd"] == assumed["pd"]


def test_good_conduct_adds_to_an_approved_limit_of_the_example(households):
    answer = households.ask(example("household_good_conduct"))
    assert answer["decision"] == "approve"
    assert answer["ledger"]["uplift"] > 10_000


def hide_each(product, frame):
    """(indicator, answers with it left out) for each column that the model or its decision reads."""
    for column in (*product.card.inputs, *product.engine.fields):
        if column.derived is None:
            hidden = frame.with_columns(pl.lit(None, frame[column.name].dtype).alias(column.name))
            yield column.name, product.ask_all(hidden)


def gains_by_hiding(stated, hidden):
    approved = (hidden["decision"] == "approve").to_numpy()
    limit = hidden["indicative_limit"].to_numpy()
    was_approved = (stated["decision"] == "approve").to_numpy()
    return int((approved & (~was_approved | (limit > stated["indicative_limit"].to_numpy()))).sum())


def test_no_household_of_a_county_gains_by_hiding_anything(households):
    frame = simulate_county(HOUSEHOLDS, seed=99)
    stated = households.ask_all(frame)
    assert (stated["decision"] == "approve").mean() > 0.25
    assert {name: gains_by_hiding(stated, hidden) for name, hidden in hide_each(households, frame)} == dict.fromkeys(
        (c.name for c in (*households.card.inputs, *households.engine.fields) if c.derived is None), 0
    )


def test_no_company_of_a_zone_gains_by_hiding_anything(companies):
    sample = reader.sample(COMPANIES, seed=99).frame
    stated = companies.ask_all(sample)
    assert (stated["decision"] == "approve").mean() > 0.15
    columns = required_columns(companies.card.inputs, companies.card.also)
    derived = {column.name: column.derived for column in columns if column.derived is not None}
    gains = {}
    for column in (*companies.card.inputs, *companies.engine.fields):
        if column.derived is None:
            names = {column.name, *(n for n, formula in derived.items() if column.name in formula.operand_names)}
            hidden = sample.with_columns(pl.lit(None, sample[name].dtype).alias(name) for name in sorted(names))
            gains[column.name] = gains_by_hiding(stated, companies.ask_all(hidden))
    assert not {name: count for name, count in gains.items() if count}
