"""The answer: one company's and a batch's are the same, and each says how it came about and what it does not know."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.schema import ColumnSchema, TableSchema
from datasets.validation import validate_or_raise
from models.feature_encoder import FeatureEncoder, encode
from models.scitech_risk.decision import CompanyDecisionEngine
from models.scitech_risk.policy import EVIDENCE
from tests.models.scitech_risk.company_fixtures import (
    ALSO,
    INPUTS,
    MISSING,
    POLICY,
    SBA,
    SOUND,
    TYPES,
    card,
    score,
    scores_at,
)

DECIDER = CompanyDecisionEngine(card(), POLICY)
STATED = tuple(column for column in (*INPUTS, *ALSO) if column.derived is None)
TABLE = TableSchema(name="register", columns=(*STATED, *(c for c in INPUTS if c.derived is not None)))
SHELL = SOUND | {"insured_staff": 0, "zero_filing_months": 20, "invoice_loop_share": 0.9, "loop_path": "A > B > A"}


def ask(values, decider=DECIDER, **message):
    row = np.array([FeatureEncoder(decider.card.inputs).encode_row(values)[0]], np.float32)
    return decider.decide(values, score(row), **message)


def frame(rows):
    schema = {column.name: TYPES[column.kind] for column in STATED}
    return validate_or_raise(pl.DataFrame(rows, schema=schema, orient="row" if rows else None), TABLE)


def value_of(column):
    """Any value of the contract, or none."""
    if column.kind == "category":
        return st.none() | st.sampled_from(column.levels)
    if column.kind == "text":
        return st.none() | st.just("A > B > A")
    low, high = column.bounds
    low, high = max(low, -1e4), min(high, 5e4)
    inside = st.integers(int(low), int(high)) if column.integer else st.floats(low, high)
    return st.one_of(inside, inside, st.just(SOUND.get(column.name)), st.none())


COMPANIES = st.fixed_dictionaries({column.name: value_of(column) for column in STATED})


@settings(max_examples=40)
@given(st.lists(COMPANIES, min_size=1, max_size=5))
def test_one_answer_and_a_batch_agree_to_the_yuan(companies):
    many_rows = frame(companies)
    x = encode(many_rows, INPUTS)
    batch = DECIDER.decide_batch(many_rows, score(x)).to_dicts()
    for i, values in enumerate(companies):
        single, row = DECIDER.decide(values, score(x[i : i + 1])), batch[i]
        for key in ("decision", "limit", "indicative_limit", "grade"):
            assert row[key] == single[key]
        if single["indicative"] is not None:
            assert row["assumed"] == ";".join(entry["indicator"] for entry in single["indicative"]["assumed"])
        output, ledger = single["innovation"], single["ledger"]
        assert [row[key] for key in ("innovation", "innovation_low", "stage")] == [
            output[key] for key in ("score", "low", "stage")
        ]
        assert (row["gate"], row["gate_points"]) == (single["gate"]["verdict"], single["gate"]["points"])
        assert row["evidence"] == codes(single["gate"]["evidence"])
        assert row["warnings"] == codes(single["warnings"])
        assert row["referral"] == codes(single["referral"])
        assert {f"bound_{bound['code']}": bound["amount"] for bound in ledger["bounds"]}.items() <= row.items()
        assert (row["binding"], row["base_limit"]) == (ledger["binding"], ledger["base_limit"])
        assert row["rounding"] == ledger["rounding"]["amount"]


def codes(result):
    return ";".join(item["code"] for item in result)


@given(COMPANIES)
def test_an_answer_is_plain_json_and_its_ledger_adds_up(values):
    answer = ask(values)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    ledger = answer["ledger"]
    base = 0 if answer["gate"]["verdict"] == "block" else ledger["base_limit"]
    assert base - ledger["rounding"]["amount"] == answer["indicative_limit"] == ledger["limit"]
    assert (answer["decision"] == "approve") == (answer["referral"] == [])
    assert answer["decision"] == "refer" or answer["limit"] == ledger["limit"]
    assert (answer["limit"] == 0) == (answer["gate"]["verdict"] == "block")


@given(COMPANIES)
def test_every_sentence_is_written_in_both_languages(values):
    def sentences(result):
        if isinstance(result, dict):
            if "en" in result and "indicator" not in result or "severity" in result:
                yield result["en"], result["zh"]
            for key, inner in result.items():
                if key != "missing":
                    yield from sentences(inner)
        elif isinstance(result, list):
            for inner in result:
                yield from sentences(inner)

    answer = ask(values)
    output = list(sentences(answer))
    assert len(output) > 5
    for en, zh in output:
        assert en.endswith(".")
        assert zh.endswith("。")
        assert "{" not in en + zh
        assert "None" not in en + zh
        assert "nan" not in en + zh
    assert all(item["en"] and item["zh"] for item in answer["missing"])


def test_an_approval_gives_its_limit_grade_innovation_and_ledger():
    answer = ask(SOUND)
    assert answer["decision"] == "approve"
    assert answer["limit"] == answer["indicative_limit"] == answer["ledger"]["limit"] > 0
    assert answer["grade"] in ("AAA", "AA", "A", "BBB")
    assert answer["gate"]["verdict"] == "pass"
    assert answer["gate"]["unknown"] == answer["missing"] == answer["warnings"] == []
    assert answer["innovation"]["stage"] == "expansion"
    assert answer["innovation"]["score"] == answer["innovation"]["low"]
    assert answer["innovation"]["coverage"] == 1
    (binding,) = [bound for bound in answer["ledger"]["bounds"] if bound["binding"]]
    assert binding["amount"] == answer["ledger"]["base_limit"]


def test_a_shell_is_blocked_with_its_evidence_and_is_lent_nothing():
    answer = ask(SHELL)
    assert (answer["decision"], answer["limit"], answer["indicative_limit"]) == ("refer", 0, 0)
    assert answer["gate"]["verdict"] == "block"
    evidence = {item["code"]: item for item in answer["gate"]["evidence"]}
    assert set(evidence) == {"no_insured_staff", "zero_filings", "invoice_loop"}
    assert evidence["invoice_loop"]["en"].endswith("The loop: A > B > A.")
    assert evidence["invoice_loop"]["zh"].endswith("循环路径：A > B > A。")
    assert [cap["code"] for cap in answer["ledger"]["caps"] if cap["applied"]] == ["gate"]
    assert answer["ledger"]["base_limit"] > 0


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        ({"ownership_cycle": 1}, {}, "gate_review"),
        ({"invoice_loop_share": None}, {}, "evidence_unknown"),
        ({"deregistered": 1}, {}, "deregistered"),
        ({"deregistered": None}, {}, "fact_unknown"),
        ({"enforcement_cases": 1}, {}, "enforcement"),
        ({"qualified_audit": 1}, {}, "qualified_audit"),
        ({"qualified_audit": None}, {}, "fact_unknown"),
        ({"total_liabilities": 5_500.0}, {}, "negative_net_assets"),
        ({"tax_arrears": 5.0}, {}, "tax_arrears"),
        ({"staff_change_6m": -0.6}, {}, "warning_act"),
        ({"net_profit": None}, {}, "fact_unknown"),
        ({"operating_cash_flow": -10.0}, {}, "below_minimum"),
        ({}, {"human_requested": True}, "person_asked_for"),
    ],
)
def test_a_referral_sets_no_limit_and_says_why(change, message, code):
    answer = ask(SOUND | change, **message)
    assert (answer["decision"], answer["limit"]) == ("refer", None)
    assert [reason["code"] for reason in answer["referral"]] == [code]
    assert isinstance(answer["indicative_limit"], int)


def test_a_company_without_accounts_is_given_no_figure_and_one_without_revenue_says_what_it_rests_on():
    hidden, stated = ask(SOUND | {"revenue": None}), ask(SOUND | {"revenue": 27.0})
    assert [reason["code"] for reason in hidden["referral"]] == ["fact_unknown", "lacks_revenue_multiple"]
    assert hidden["indicative_limit"] <= stated["indicative_limit"]
    amount = f"{hidden['indicative_limit']:,}"
    assert hidden["indicative"]["en"] == f"At most {amount} RMB if a revenue of 270,000 RMB a year is confirmed."
    assert hidden["indicative"]["zh"] == f"至多 {amount} 元，以核实年营业收入 270,000 元为前提。"
    nothing = ask(SOUND | {"operating_cash_flow": None})
    assert (nothing["decision"], nothing["indicative_limit"]) == ("refer", 0)
    assert nothing["indicative"]["zh"] == "核实经营活动现金流（偿债前）之前，无法给出参考额度。"


@settings(max_examples=150)
@given(COMPANIES, st.sampled_from([column.name for column in STATED if column.kind == "number"]))
def test_leaving_out_any_indicator_never_brings_an_approval_or_more_money(values, name):
    """The PD is that of the told values; a graph scores an unknown input no better (test_unknown_values.py)."""
    values = SOUND | {name: values[name]}
    row = np.array([FeatureEncoder(INPUTS).encode_row(values)[0]], np.float32)
    stated, hidden = DECIDER.decide(values, score(row)), DECIDER.decide({**values, name: None}, score(row))
    contradicts = [reason["code"] for reason in stated["referral"]] == ["books_unsound"]
    approved_before = stated["decision"] == "approve" and hidden["limit"] is not None
    assert hidden["decision"] == "refer" or contradicts or (approved_before and hidden["limit"] <= stated["limit"])


def test_below_the_floor_grade_a_person_decides():
    answer = DECIDER.decide(SOUND, scores_at(0.15))
    assert (answer["decision"], answer["grade"]) == ("refer", "CCC")
    assert answer["referral"][0]["en"] == (
        "The grade over 12 months is below BBB, the lowest that may be approved without a person."
    )


def test_a_company_of_whom_nothing_is_known_gets_no_grade_and_every_lack_is_told():
    answer = ask({})
    assert (answer["decision"], answer["limit"], answer["grade"]) == ("refer", None, None)
    assert {reason["code"] for reason in answer["referral"]} >= {
        "gate_review", "too_little_known", "lacks_debt_service_cover", "lacks_revenue_multiple",
    }  # fmt: skip
    assert answer["ledger"]["binding"] == "debt_service_cover"
    assert answer["ledger"]["bounds"][3]["en"].startswith("No grade is given; ")
    assert answer["indicative_limit"] == 0
    assert set(answer["gate"]["unknown"]) == {*EVIDENCE, "insured_staff"}
    assert answer["gate"]["en"].startswith("Only 0 of ")
    assert (answer["innovation"]["score"], answer["innovation"]["stage"]) == (None, None)
    assert {item["indicator"] for item in answer["missing"]} == {c.name for c in STATED if c.kind != "text"}
    assert [bound["lacks"] for bound in answer["ledger"]["bounds"][:2]] == [
        ["operating_cash_flow", "debt_service"], ["revenue"],
    ]  # fmt: skip


@pytest.mark.parametrize("stated", [{}, {"total_assets": 0.0, "total_liabilities": 0.0, "revenue": 0.0}])
def test_a_company_without_filings_or_assets_is_referred_without_a_grade(stated):
    """Its ratios cannot be formed: that is missing, and not a ratio of 0."""
    gone = {column.name for column in INPUTS if column.group in ("financial", "months", "public_records")}
    answer = ask({name: value for name, value in SOUND.items() if name not in gone} | stated)
    assert answer["decision"] == "refer"
    assert answer["grade"] is None
    assert "too_little_known" in [reason["code"] for reason in answer["referral"]]


def test_assets_of_next_to_nothing_make_no_infinite_ratio():
    answer = ask(SOUND | {"total_assets": 1e-320})
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer


def test_a_company_with_all_ratios_missing_is_told_what_is_missing():
    parts = ("revenue", "total_assets", "current_liabilities", "interest_expense")
    answer = ask(SOUND | dict.fromkeys(parts))
    assert answer["decision"] == "refer"
    assert set(parts) <= {item["indicator"] for item in answer["missing"]}
    assert "lacks_revenue_multiple" in [reason["code"] for reason in answer["referral"]]


def test_an_owner_cycle_is_reviewed_because_the_owner_cannot_be_determined():
    answer = ask(SOUND | {"ownership_cycle": 1})
    assert answer["gate"]["verdict"] == "review"
    assert [item["code"] for item in answer["gate"]["evidence"]] == ["ownership_cycle"]
    assert "ultimate owner cannot be determined" in answer["gate"]["evidence"][0]["en"]


def test_the_graver_of_two_warnings_is_told_instead_of_the_milder():
    assert [warning["code"] for warning in ask(SOUND | {"overdue_days_6m": 5})["warnings"]] == ["overdue"]
    (act,) = ask(SOUND | {"overdue_days_6m": 45})["warnings"]
    assert (act["code"], act["severity"], act["value"]) == ("overdue_30_days", "act", 45)
    assert "45 days" in act["en"]


def test_a_warning_that_asks_for_an_act_sends_to_a_person():
    watched, acted = ask(SOUND | {"overdue_days_6m": 5}), ask(SOUND | {"overdue_days_6m": 45})
    assert watched["decision"] == "approve"
    assert (acted["decision"], acted["limit"]) == ("refer", None)
    assert [reason["code"] for reason in acted["referral"]] == ["warning_act"]


@pytest.mark.parametrize(
    "change",
    [{"total_assets": 0}, {"cash": 10_000_000}, {"current_assets": 90_000_000}, {"high_tech_revenue": 90_000_000}],
)
def test_books_that_cannot_be_right_go_to_a_person(change):
    answer = ask(SOUND | change)
    assert answer["decision"] == "refer"
    assert "books_unsound" in [reason["code"] for reason in answer["referral"]]


def test_a_ratio_that_zero_assets_leave_unmade_is_told_as_missing():
    output = {item["indicator"] for item in ask(SOUND | {"total_assets": 0})["missing"]}
    assert {"debt_ratio", "asset_turnover"} <= output


def test_leaving_out_what_would_ask_for_an_act_goes_to_a_person():
    bad, silent = ask(SOUND | {"overdue_days_6m": 45}), ask(SOUND | {"overdue_days_6m": None})
    assert [reason["code"] for reason in bad["referral"]] == ["warning_act"]
    assert [reason["code"] for reason in silent["referral"]] == ["fact_unknown", "warning_unknown"]
    assert silent["decision"] == "refer"


def test_an_answer_says_over_which_horizon_its_pd_holds():
    assert ask(SOUND)["horizon"] == "12 months"


def test_what_is_unknown_of_innovation_earns_nothing_toward_the_limit():
    half = {name: None for name in ("rd_expense", "rd_growth", "high_tech_revenue", "venture_capital")}
    output, silent = ask(SOUND)["innovation"], ask(SOUND | half)["innovation"]
    assert silent["low"] < output["low"]
    assert silent["score"] > silent["low"]
    assert 0.5 < silent["coverage"] < 1


def test_the_parts_of_the_innovation_score_make_the_whole():
    output = ask(SOUND)["innovation"]
    complete = sum(component["score"] * component["weight"] for component in output["parts"])
    assert complete == pytest.approx(output["score"], abs=0.1)


def test_fields_are_what_is_read_beyond_the_model():
    read = [column.name for column in DECIDER.fields]
    assert {"patent_value", "data_asset_value", "zero_filing_months", "loop_path"} <= set(read)
    assert not {column.name for column in INPUTS} & set(read)


def test_a_table_without_financial_statements_is_always_referred_with_an_indicative_limit():
    columns = (ColumnSchema(name="GrAppv", low=0, unit="USD"), ColumnSchema(name="NoEmp", low=0))
    decider = CompanyDecisionEngine(card(columns, (), SBA), SBA)
    answer = decider.decide({"GrAppv": 100_000.0, "NoEmp": 4}, scores_at(0.10))
    assert (answer["decision"], answer["limit"], answer["currency"]) == ("refer", None, "USD")
    assert answer["grade"] == "BBB"
    assert answer["indicative_limit"] == math.floor(0.25 * 200_000 / 1000) * 1000
    assert answer["innovation"]["score"] is None
    (cover,) = [reason for reason in answer["referral"] if reason["code"] == "lacks_debt_service_cover"]
    assert cover["en"] == (
        "What the cash flow can service is not confirmed: operating cash flow before debt service, debt service not "
        "known."
    )


@pytest.mark.parametrize("pd", [MISSING, -0.1, 1.1])
def test_no_limit_rests_on_a_pd_that_is_none(pd):
    scores = scores_at(0.5)
    scores.pd[0] = pd
    with pytest.raises(ValueError, match="it must be from 0 to 1"):
        DECIDER.decide(SOUND, scores)
    with pytest.raises(ValueError, match="it must be from 0 to 1"):
        DECIDER.decide_batch(frame([SOUND]), scores)


def test_an_empty_batch_has_the_same_columns_as_any():
    none, some = (DECIDER.decide_batch(frame(rows), score(encode(frame(rows), INPUTS))) for rows in ([], [SOUND]))
    assert (none.height, none.schema) == (0, some.schema)
