"""The answer: one applicant's and a batch's are the same to the yuan, and each says how it came about."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.credit_limit.county.schema import TABLE
from datasets.schema import ColumnSchema
from models.card import Card, ContributionReference, ScoreHead
from models.credit_limit.decision import CreditDecisionEngine
from models.credit_limit.limit_formula import MORAL_GROUPS
from models.credit_limit.policy import Policy
from models.feature_encoder import FeatureEncoder, encode
from models.policy.config import PolicyError
from models.scorecard.scaling import ScoreScale, sigmoid
from models.scorecard.unknown_inputs import assumed_values
from models.trees.onnx_session import Scores
from tests.paths import ROOT

FOLDER = ROOT / "configs" / "policies"
POLICY = Policy.load(FOLDER / "credit_limit.toml")
PLEDGED = POLICY.model_copy(update={"product": POLICY.product.model_copy(update={"asset_based": True})})
INPUTS = tuple(c for c in TABLE.indicators if c.kind != "text" and c.group not in MORAL_GROUPS)
ALSO = (*(c for c in TABLE.indicators if c.kind == "text" or c.group in MORAL_GROUPS), TABLE["age"])
HEAD = ScoreHead(slope=1.0, intercept=0.0, bias=-3.0)
WEIGHTS = np.array([0.3 * column.direction for column in INPUTS], np.float32)
SCALES = np.array([max(1.0, math.sqrt(column.bounds[1])) for column in INPUTS], np.float32)


def card(inputs=INPUTS, also=ALSO, policy=POLICY):
    return Card(
        assumed=assumed_values(inputs, policy.unknown),
        product="credit_limit", model="m", version="1", created="", simulated=True, purpose="", not_for="",
        inputs=inputs, also=also, target="default_12m", head=HEAD,
        reference=ContributionReference(points=(500.0,), contributions=((0.0,) * len(inputs),)),
    )  # fmt: skip


def score(x, reasons=True):
    """A stand-in for the graph: each known indicator moves the raw score in its direction."""
    parts = np.nan_to_num(np.tanh(x / SCALES)) * WEIGHTS
    log_odds = parts.astype(np.float64).sum(axis=1) + HEAD.bias
    return Scores(
        sigmoid(log_odds), ScoreScale().points(log_odds), log_odds.astype(np.float32), parts if reasons else None
    )


def scores_at(pd, rows=1):
    log_odds = np.full(rows, math.log(pd / (1 - pd)))
    return Scores(np.full(rows, pd), ScoreScale().points(log_odds), log_odds.astype(np.float32), None)


DECIDERS = {name: CreditDecisionEngine(card(), policy) for name, policy in (("cash", POLICY), ("pledged", PLEDGED))}
RAISING = CreditDecisionEngine(card(), POLICY, score=lambda x: score(x, False).pd)
CLEAR = {"identity_match": 1, "days_past_due": 0, "abnormal_list": 0, "enforcement_cases": 0, "veto_codes": "none"}
SOUND = CLEAR | {
    "declared_income": 120_000.0, "monthly_debt_service": 500.0, "utilisation": 0.45, "age": 40,
    "insured_months": 24, "gap_months": 2, "tax_arrears": 900.0, "debts": 50_000.0, "deposits": 8_000.0,
    "contribution_base": 5_000.0, "housing": 200_000.0,
    "law_abiding": 34.0, "public_spirit": 12.0, "honesty_diligence": 29.0, "family_neighbourhood": 23.0,
    "self_score": 110.0, "raters": 20, "raters_sd": 6.0, "related_rater": 0, "village_leniency": 2.0,
}  # fmt: skip


def ask(values, decider=RAISING, **message):
    row = np.array([FeatureEncoder(decider.card.inputs).encode_row(values)[0]], np.float32)
    return decider.decide(values, score(row), **message)


def value_of(column):
    """Any value of the contract, or none."""
    if column.kind == "category":
        return st.none() | st.sampled_from(column.levels)
    if column.kind == "text":
        return st.none() | st.sampled_from(
            ("", " ; ", "none", "none;", "wanted", "none; wanted", "wanted; fraud_offence", "X9")
        )
    low, high = column.bounds
    inside = st.integers(int(low), int(high)) if column.integer else st.floats(low, min(high, 3e6))
    return st.one_of(inside, inside, inside, st.none())


APPLICANTS = st.fixed_dictionaries({column.name: value_of(column) for column in (*INPUTS, *ALSO)})
TYPES = {"number": pl.Float64, "category": pl.String, "text": pl.String}
SCHEMA = {column.name: TYPES[column.kind] for column in (*INPUTS, *ALSO)}


def empty(rows):
    return pl.DataFrame({name: [None] * rows for name in SCHEMA}, schema=SCHEMA)


@settings(max_examples=40)
@given(st.lists(APPLICANTS, min_size=1, max_size=5), st.sampled_from(("cash", "pledged")), st.booleans())
def test_one_answer_and_a_batch_agree_to_the_yuan(applicants, name, consent):
    decider = DECIDERS[name]
    frame = pl.DataFrame(applicants, schema=SCHEMA)
    x = encode(frame, INPUTS)
    batch = decider.decide_batch(frame, score(x), consent=consent).to_dicts()
    for i, values in enumerate(applicants):
        single = decider.decide(values, score(x[i : i + 1]), consent=consent)
        ledger, row = single["ledger"], batch[i]
        assert [row[key] for key in ("decision", "limit", "indicative_limit", "grade")] == [
            single[key] for key in ("decision", "limit", "indicative_limit", "grade")
        ]
        indicative = single["indicative"] or {"assumed": []}
        assert row["assumed"] == ";".join(entry["indicator"] for entry in indicative["assumed"])
        assert (row["base_limit"], row["binding"], row["uplift"]) == (
            ledger["base_limit"], ledger["binding"], ledger["uplift"],
        )  # fmt: skip
        assert row["rounding"] == ledger["rounding"]["amount"]
        assert row["conduct"] == ledger["conduct"]["code"]
        assert {f"bound_{bound['code']}": bound["amount"] for bound in ledger["bounds"]}.items() <= row.items()
        assert row["caps_applied"].split(";") == [cap["code"] for cap in ledger["caps"] if cap["applied"]] or [""]
        referral = list(dict.fromkeys(reason["code"] for reason in single["referral"]))
        assert row["referral"] == ";".join(referral)


@given(APPLICANTS, st.booleans())
def test_an_answer_is_plain_json_and_its_ledger_adds_up(values, consent):
    answer = ask(values, consent=consent)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    ledger = answer["ledger"]
    assert ledger["base_limit"] + ledger["uplift"] - ledger["rounding"]["amount"] == answer["indicative_limit"]
    assert (answer["decision"] == "approve") == (answer["referral"] == []) == (answer["limit"] is not None)


@given(APPLICANTS)
def test_every_sentence_is_written_in_both_languages(values):
    def sentences(result):
        if isinstance(result, dict):
            if "code" in result:
                yield result["en"], result["zh"]
            for inner in result.values():
                yield from sentences(inner)
        elif isinstance(result, list):
            for inner in result:
                yield from sentences(inner)

    for en, zh in sentences(ask(values)):
        assert en.endswith(".")
        assert zh.endswith("。")
        assert "{" not in en + zh


def test_an_approval_gives_its_limit_grade_score_and_ledger():
    answer = ask(SOUND)
    assert answer["decision"] == "approve"
    assert answer["limit"] == answer["indicative_limit"] == answer["ledger"]["limit"] > 0
    assert answer["currency"] == "CNY"
    assert answer["grade"] in "ABC"
    assert answer["score"] > answer["approval_line"]
    assert answer["policy_version"] == POLICY.version
    (binding,) = [bound for bound in answer["ledger"]["bounds"] if bound["binding"]]
    assert binding["amount"] == answer["ledger"]["base_limit"]


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        ({"veto_codes": "drug_offence"}, {}, "statutory_veto"),
        ({"veto_codes": None}, {}, "fact_unknown"),
        ({"identity_match": 0}, {}, "identity_mismatch"),
        ({"identity_match": None}, {}, "fact_unknown"),
        ({"days_past_due": 730}, {}, "past_due"),
        ({"days_past_due": None}, {}, "fact_unknown"),
        ({"abnormal_list": 1}, {}, "abnormal_operations"),
        ({"tax_arrears": 50_000.0}, {}, "tax_arrears"),
        ({"enforcement_cases": 2}, {}, "enforcement"),
        ({"deposits": None}, {}, "fact_unknown"),
        ({"age": 83}, {}, "over_age"),
        ({"age": 17}, {}, "under_age"),
        ({"age": None}, {}, "age_unknown"),
        ({"declared_income": None}, {}, "lacks_affordability"),
        ({"declared_income": 9_000.0}, {}, "below_minimum"),
        ({}, {"human_requested": True}, "person_asked_for"),
    ],
)
def test_a_referral_sets_no_limit_and_says_why(change, message, code):
    answer = ask(SOUND | change, **message)
    assert (answer["decision"], answer["limit"]) == ("refer", None)
    assert [reason["code"] for reason in answer["referral"]] == [code]
    assert isinstance(answer["indicative_limit"], int)


def test_below_the_floor_grade_a_person_decides():
    answer = DECIDERS["cash"].decide(SOUND, scores_at(0.3))
    assert (answer["decision"], answer["grade"]) == ("refer", "F")
    assert answer["referral"][0]["en"] == "The grade is below C, the lowest that may be approved without a person."


def test_each_veto_is_told_in_words_and_an_unknown_one_as_it_came():
    answer = ask(SOUND | {"veto_codes": "wanted; X9;"})
    assert [(reason["veto"], reason["en"]) for reason in answer["referral"]] == [
        ("wanted", "A statutory veto was reported: wanted by the police."),
        ("X9", "A statutory veto was reported: X9."),
    ]


def test_a_bound_that_lacks_its_input_is_counted_as_the_policy_assumes_and_says_so():
    answer = ask(SOUND | {"declared_income": None, "monthly_debt_service": None})
    bound = answer["ledger"]["bounds"][0]
    assert (bound["code"], bound["binding"]) == ("affordability", True)
    assert bound["lacks"] == ["declared_income", "monthly_debt_service"]
    assert bound["zh"] == "假定年收入 36,000 元、月还款额 3,300 元，期限内可负担 0 元。"
    assert answer["indicative_limit"] == 0
    assert answer["indicative"]["en"] == (
        "No limit can be indicated before it is known: declared income, monthly debt service."
    )


def test_an_indicative_limit_without_income_says_what_it_rests_on():
    answer = ask(SOUND | {"declared_income": None})
    stated = ask(SOUND | {"declared_income": 36_000.0})
    assert answer["decision"] == "refer"
    assert answer["indicative_limit"] == stated["ledger"]["limit"] > 0
    amount = f"{answer['indicative_limit']:,}"
    assert answer["indicative"] == {
        "amount": answer["indicative_limit"],
        "assumed": [{"indicator": "declared_income", "counts_as": 36_000.0}],
        "en": f"At most {amount} RMB if an income of 36,000 RMB a year is confirmed.",
        "zh": f"至多 {amount} 元，以核实年收入 36,000 元为前提。",
    }
    assert stated["indicative"] is None


def test_unknown_facts_are_named_once_and_those_that_hold_by_themselves():
    answer = ask(SOUND | {"identity_match": None, "veto_codes": "", "days_past_due": 60})
    assert [reason["code"] for reason in answer["referral"]] == ["past_due", "fact_unknown"]
    assert answer["referral"][0]["zh"] == "近24个月最长逾期达到 60 天。"
    assert answer["referral"][1]["en"] == (
        "Not known, and needed before a limit can be approved without a person: identity matches, statutory veto codes."
    )


@settings(max_examples=150)
@given(APPLICANTS, st.sampled_from([column.name for column in (*INPUTS, *ALSO)]), st.sampled_from(("cash", "pledged")))
def test_leaving_out_any_indicator_never_brings_an_approval_or_more_money(values, name, product):
    """The PD is that of the told values; a graph scores an unknown input no better (test_unknown_values.py)."""
    decider, x = DECIDERS[product], np.array([FeatureEncoder(INPUTS).encode_row(values)[0]], np.float32)
    stated = decider.decide(values, score(x))
    hidden = decider.decide({**values, name: None}, score(x))
    assert hidden["decision"] == "refer" or (stated["decision"] == "approve" and hidden["limit"] <= stated["limit"])


def test_a_model_trained_under_other_assumptions_is_refused():
    other = {name: assumed for name, assumed in POLICY.unknown.items() if name != "deposits"}
    with pytest.raises(PolicyError, match="other assumptions for deposits"):
        CreditDecisionEngine(card(), POLICY.model_copy(update={"unknown": other}))


def test_consent_withdrawn_takes_the_uplift_and_nothing_else():
    wealthy = SOUND | {"declared_income": 900_000.0}
    given_, withdrawn = ask(wealthy), ask(wealthy, consent=False)
    assert given_["ledger"]["uplift"] > 0
    assert withdrawn["ledger"]["uplift"] == 0
    assert withdrawn["ledger"]["conduct"]["code"] == "consent_withdrawn"
    assert withdrawn["ledger"]["conduct"]["score"] is None
    assert given_["decision"] == withdrawn["decision"] == "approve"
    assert given_["ledger"]["base_limit"] == withdrawn["ledger"]["base_limit"]


def test_what_would_raise_the_limit_does_raise_it():
    answer = ask(SOUND)
    assert answer["raises"]
    gains = [improvement["gain"] for improvement in answer["raises"]]
    assert gains == sorted(gains, reverse=True)
    for improvement in answer["raises"]:
        after = ask(SOUND | {improvement["indicator"]: improvement["to"]})
        assert after["indicative_limit"] == improvement["limit"] == answer["indicative_limit"] + improvement["gain"]
        assert improvement["gain"] > 0


@settings(max_examples=60)
@given(APPLICANTS, st.sampled_from(("cash", "pledged")))
def test_a_raise_is_what_the_changed_applicant_would_be_answered_and_none_is_left_out(values, name):
    policy = {"cash": POLICY, "pledged": PLEDGED}[name]
    decider = CreditDecisionEngine(card(), policy, score=lambda x: score(x, False).pd)
    now = ask(values, decider)
    expected = {}
    for action in policy.raises:
        to = decider.improvements.improved_value(action, values)
        if to is None:
            continue
        then = ask({**values, action.indicator: to}, decider, with_improvements=False)
        gain = then["indicative_limit"] - now["indicative_limit"]
        approves = now["decision"] == "refer" and then["decision"] == "approve"
        if gain > 0 or (approves and gain == 0):
            expected[action.indicator] = gain
    assert {improvement["indicator"]: improvement["gain"] for improvement in now["raises"]} == expected


def test_all_raises_are_scored_in_one_call():
    calls = []

    def counted(x):
        calls.append(x.shape)
        return score(x, False).pd

    ask(SOUND, CreditDecisionEngine(card(), POLICY, score=counted))
    assert len(calls) == 1
    assert calls[0][1] == len(INPUTS)


def test_nothing_missing_and_nothing_at_its_end_is_offered_as_a_raise():
    answer = ask(SOUND | {"insured_months": None, "gap_months": 0, "monthly_debt_service": 0.0})
    assert {"insured_months", "gap_months", "monthly_debt_service"} & {
        r["indicator"] for r in answer["raises"]
    } == set()


def test_a_raise_that_earns_an_approval_says_so():
    answer = ask(SOUND | {"declared_income": 18_000.0})
    assert answer["decision"] == "refer"
    (service,) = [item for item in answer["raises"] if item["indicator"] == "monthly_debt_service"]
    assert service["decision"] == "approve"
    assert service["en"].endswith("and approved.")


def test_an_applicant_who_asked_for_a_person_is_promised_no_approval():
    answer = ask(SOUND | {"declared_income": 18_000.0}, human_requested=True)
    assert {item["decision"] for item in answer["raises"]} == {"refer"}
    assert not any("approved" in item["en"] for item in answer["raises"])


def test_without_a_score_nothing_is_said_of_raises():
    assert ask(SOUND, DECIDERS["cash"])["raises"] == []


def test_the_taiwan_policy_always_refers_and_indicates_a_limit():
    columns = (ColumnSchema(name="LIMIT_BAL", direction=-1), ColumnSchema(name="PAY_0", direction=1))
    taiwan = Policy.load(FOLDER / "credit_limit_taiwan.toml")
    decider = CreditDecisionEngine(card(columns, (), taiwan), taiwan)
    answer = decider.decide({"LIMIT_BAL": 20_000, "PAY_0": 1}, scores_at(0.12))
    assert (answer["decision"], answer["limit"], answer["currency"]) == ("refer", None, "TWD")
    assert "lacks_affordability" in [reason["code"] for reason in answer["referral"]]
    rate = 0.14 / 12
    affordable = (0.4 * 190_000 * 0.9 / 12 - 2_500) * (1 - (1 + rate) ** -36) / rate
    assert answer["indicative_limit"] == math.floor(affordable / 1000) * 1000
    assert answer["indicative"]["en"].endswith(
        "if an income of 190,000 NT$ a year and a debt service of 2,500 NT$ a month are confirmed."
    )
    assert answer["ledger"]["conduct"]["code"] == "no_programme"
    assert answer["ledger"]["bounds"][1]["en"].count("NT$") == 1


def test_fields_are_what_is_read_beyond_the_model():
    read = [column.name for column in RAISING.fields]
    assert {"public_spirit", "raters", "veto_codes", "age"} <= set(read)
    assert not {column.name for column in INPUTS} & set(read)


def test_a_column_that_only_shares_a_name_is_not_read_as_money():
    """Another table's `housing` may be own, rent or free."""
    housing = ColumnSchema(name="housing", kind="category", levels=("own", "rent"))
    decider = CreditDecisionEngine(card((housing,), ()), PLEDGED)
    answer = decider.decide({"housing": "own"}, scores_at(0.05))
    lacks = answer["ledger"]["bounds"][-1]["lacks"]
    assert lacks == ["debts", "housing", "land_use_rights", "equipment", "deposits"]


def test_a_source_code_for_missing_is_missing_to_the_limit_too():
    income = ColumnSchema(name="declared_income", missing_codes=(-9,))
    decider = CreditDecisionEngine(card((income, TABLE["monthly_debt_service"]), ()), POLICY)
    answer = decider.decide({"declared_income": -9, "monthly_debt_service": 0.0}, scores_at(0.05))
    assert answer["ledger"]["bounds"][0]["lacks"] == ["declared_income"]


@pytest.mark.parametrize("pd", [math.nan, -0.1, 1.1])
def test_no_limit_rests_on_a_pd_that_is_none(pd):
    scores = Scores(np.array([pd]), np.array([500.0]), np.array([0.0], np.float32), None)
    with pytest.raises(ValueError, match="it must be from 0 to 1"):
        DECIDERS["cash"].decide(SOUND, scores)
    with pytest.raises(ValueError, match="it must be from 0 to 1"):
        DECIDERS["cash"].decide_batch(empty(1), scores)


def test_an_empty_batch_has_the_same_columns_as_any():
    none, some = (DECIDERS["cash"].decide_batch(empty(rows), score(encode(empty(rows), INPUTS))) for rows in (0, 1))
    assert (none.height, none.schema) == (0, some.schema)
