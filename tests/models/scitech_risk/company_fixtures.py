"""Companies, policies and stand-in scores that the tests of this folder share."""

import math

import numpy as np
import polars as pl
from hypothesis import strategies as st

from datasets.scitech_risk.register.schema import TABLE
from models.card import Card, ContributionReference, ScoreHead
from models.scitech_risk.limit_formula import BACKING_GROUPS, FORMULA_INPUTS, GATE_GROUPS
from models.scitech_risk.policy import BACKING, EVIDENCE, INNOVATION, STANDING, Policy
from models.scorecard.scaling import ScoreScale, sigmoid
from models.scorecard.unknown_inputs import assumed_values
from models.trees.onnx_session import Scores
from tests.paths import ROOT

FOLDER = ROOT / "configs" / "policies"
TEXT = (FOLDER / "scitech_risk.toml").read_text()
POLICY = Policy.load(TEXT.encode())
SBA = Policy.load(FOLDER / "scitech_risk_sba.toml")
MISSING = math.nan


def changed(*changes):
    """The shipped policy's text with each first occurrence replaced."""
    text = TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text.encode()


def _unread(column):
    return (
        column.kind == "text" or column.group in (*GATE_GROUPS, *BACKING_GROUPS) or column.name in (*BACKING, *STANDING)
    )


INPUTS = tuple(column for column in TABLE.indicators if not _unread(column))
INPUTS = (*(c for c in INPUTS if c.derived is None), *(c for c in INPUTS if c.derived is not None))
ALSO = tuple(column for column in TABLE.indicators if _unread(column))
HEAD = ScoreHead(slope=1.0, intercept=0.0, bias=-3.0)


def card(inputs=INPUTS, also=ALSO, policy=POLICY):
    return Card(
        assumed=assumed_values(inputs, policy.unknown),
        product="scitech_risk", model="m", version="1", created="", simulated=True, purpose="", not_for="",
        inputs=inputs, also=also, target="default_12m", head=HEAD,
        reference=ContributionReference(points=(500.0,), contributions=((0.0,) * len(inputs),)),
    )  # fmt: skip


def score(x, reasons=True):
    """A stand-in for the graph: each known indicator moves the raw score in its direction."""
    weights = np.array([0.3 * column.direction for column in INPUTS], np.float32)
    scales = np.array([max(1.0, math.sqrt(min(column.bounds[1], 1e8))) for column in INPUTS], np.float32)
    parts = np.nan_to_num(np.tanh(x / scales)) * weights
    log_odds = parts.astype(np.float64).sum(axis=1) + HEAD.bias
    return Scores(
        sigmoid(log_odds), ScoreScale().points(log_odds), log_odds.astype(np.float32), parts if reasons else None
    )


def scores_at(pd, rows=1):
    log_odds = np.full(rows, math.log(pd / (1 - pd)))
    return Scores(np.full(rows, pd), ScoreScale().points(log_odds), log_odds.astype(np.float32), None)


# A company of whom all is known and nothing is amiss: money in 10k RMB.
SOUND = {
    "trade": "software", "licence_age": 90, "registered_capital": 1_000.0, "paid_in_capital": 800.0,
    "rd_expense": 400.0, "rd_growth": 0.2, "rd_staff_share": 0.4, "invention_patents": 6, "pct_filings": 1,
    "technology_contracts": 200.0, "patent_value": 600.0, "revenue": 4_000.0, "high_tech_revenue": 3_000.0,
    "revenue_growth": 0.25, "super_deduction": 300.0, "return_on_net_assets": 0.12, "graduates_hired": 5,
    "provincial_platforms": 0, "awards": 1, "projects": 2, "venture_capital": 1_500.0, "total_assets": 5_000.0,
    "total_liabilities": 2_000.0, "current_assets": 3_000.0, "current_liabilities": 1_200.0, "cash": 900.0,
    "receivables": 800.0, "net_profit": 350.0, "operating_cash_flow": 600.0, "interest_expense": 40.0,
    "debt_service": 150.0, "insured_staff": 60, "tax_grade": "A", "tax_arrears": 0.0, "court_cases": 0,
    "enforcement_cases": 0, "penalties_36m": 0, "revenue_change_6m": 0.1, "staff_change_6m": 0.0,
    "cash_change_6m": 0.05, "electricity_change_6m": 0.02, "overdue_days_6m": 0, "late_filings_6m": 0,
    "revenue_drop_12m": 0.1, "zero_filing_months": 0, "address_companies": 2, "address_empty_share": 0.0,
    "officer_companies": 1, "officer_empty_share": 0.0, "invoice_loop_share": 0.0, "invoice_related_share": 0.05,
    "invoice_to_electricity": 20.0, "abnormal_list": 0, "ownership_cycle": 0, "loop_path": None,
    "data_certificate": 1, "data_asset_value": 200.0,
    "deregistered": 0, "qualified_audit": 0,
}  # fmt: skip

# What the formula reads, by itself.
MONEY, SHARE, FLAG = st.floats(0, 1e5), st.floats(0, 1), st.sampled_from((0.0, 1.0))
SIGNED = st.floats(-2, 5)
RARE = st.sampled_from((0.0, 0.0, 0.0, 1.0))
RANGES = {
    **dict.fromkeys(INNOVATION, MONEY),
    **dict.fromkeys(("rd_growth", "revenue_growth", "return_on_net_assets"), SIGNED),
    **dict.fromkeys(("rd_intensity", "rd_staff_share"), SHARE),
    **dict.fromkeys(("invention_patents", "pct_filings", "awards", "projects", "graduates_hired",
                     "provincial_platforms"), st.integers(0, 30).map(float)),
    **dict.fromkeys(EVIDENCE, SHARE),
    "zero_filing_months": st.integers(0, 24).map(float),
    "address_companies": st.integers(0, 40).map(float),
    "officer_companies": st.integers(0, 12).map(float),
    "invoice_to_electricity": st.floats(0, 1_000),
    "abnormal_list": FLAG,
    "ownership_cycle": FLAG,
    "insured_staff": st.integers(0, 60).map(float),
    "operating_cash_flow": st.floats(-1e4, 1e5),
    "debt_service": st.floats(0, 1e4),
    "patent_value": MONEY,
    "data_certificate": FLAG,
    "data_asset_value": MONEY,
    **dict.fromkeys(("deregistered", "qualified_audit", "enforcement_cases", "tax_arrears"), RARE),
    "debt_ratio": st.sampled_from((0.3, 0.6, 0.9, 1.2)),
    "overdue_days_6m": st.sampled_from((0.0, 0.0, 5.0, 60.0)),
    "revenue_change_6m": st.sampled_from((0.1, -0.3, -0.7)),
    "staff_change_6m": st.sampled_from((0.1, -0.3, -0.7)),
}  # fmt: skip
PD = st.one_of(st.floats(0, 1), st.floats(0, 0.1))


def some(values):
    """Present more often than missing, or no bound would ever bind."""
    return st.one_of(values, values, values, values, st.just(MISSING))


def companies(quiet=False):
    """Numbers as the formula reads them; `quiet` ones show no sign of a shell."""
    ranges = {name: st.just(0.0) if quiet and name in EVIDENCE else some(values) for name, values in RANGES.items()}
    if quiet:
        ranges["insured_staff"] = st.just(40.0)
    return st.fixed_dictionaries(
        ranges
        | {
            "pd": PD,
            "unknown_inputs": st.sampled_from((0.0, 0.0, 1.0)),
            "known_share": SHARE if not quiet else st.floats(0.5, 1),
        }
    )


NUMBERS = {name: float(SOUND[name]) for name in FORMULA_INPUTS if name in SOUND} | {
    "rd_intensity": 0.1, "debt_ratio": 0.4, "pd": 0.02, "known_share": 1.0, "unknown_inputs": 0.0,
}  # fmt: skip
TYPES = {"number": pl.Float64, "category": pl.String, "text": pl.String}
