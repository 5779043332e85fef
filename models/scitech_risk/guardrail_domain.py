"""The domain in which the guard rails of a sci-tech policy are proved.

for result in prover.prove_all(Policy.load(path, enforce_guardrails=False), build_domain()): print(result)
"""

from __future__ import annotations

from collections.abc import Iterable

from datasets.schema import ColumnSchema
from models.policy.guardrails import find_counted_inputs
from models.policy.prover import ProofDomain
from models.scitech_risk.guardrails import GUARDRAILS
from models.scitech_risk.limit_formula import BACKING_GROUPS, FORMULA_INPUTS, GATE_GROUPS, CompanyLimitFormula
from models.scitech_risk.policy import BACKING, EVIDENCE, INNOVATION, STAFF, STOP_INDICATORS

# An ordinary company: counterexamples differ from it as little as possible. None is missing. Money in 10k RMB.
REFERENCE_COMPANY: dict[str, float | None] = dict.fromkeys(FORMULA_INPUTS) | {
    "pd": 0.002, "known_share": 1, "unknown_inputs": 0, "revenue": 5_000, "operating_cash_flow": 2_000,
    "debt_service": 0, "patent_value": 10_000, STAFF: 40, **dict.fromkeys((*EVIDENCE, *STOP_INDICATORS), 0.0),
}  # fmt: skip
REFERENCE_INNOVATIVE = REFERENCE_COMPANY | {
    **{name: 1.0 for name in INNOVATION if name != "revenue"}, "data_certificate": 1, "data_asset_value": 0,
}  # fmt: skip
REFERENCE_SHELL = REFERENCE_COMPANY | {STAFF: 0, "zero_filing_months": 24, "invoice_loop_share": 1}
REFERENCE_NO_CASH_FLOW = REFERENCE_COMPANY | {"operating_cash_flow": None}
REFERENCE_LARGE = REFERENCE_COMPANY | dict.fromkeys(("revenue", "operating_cash_flow", "patent_value"), 10_000_000)
_SHARE_INPUTS = ("address_empty_share", "officer_empty_share", "invoice_loop_share", "invoice_related_share",
           "rd_intensity", "rd_staff_share")  # fmt: skip
_FLAG_INPUTS = ("abnormal_list", "ownership_cycle", "data_certificate", "deregistered", "qualified_audit")
MAX_VALUES = {"zero_filing_months": 24, "rd_growth": 10, "revenue_growth": 10, "return_on_net_assets": 10,
        "operating_cash_flow": 100_000_000, "revenue": 100_000_000,
        **dict.fromkeys((*_SHARE_INPUTS, *_FLAG_INPUTS), 1)}  # fmt: skip
STEP_SIZES = {"pd": 0.001, "known_share": 0.01, "rd_growth": 0.01, "revenue_growth": 0.01, "return_on_net_assets": 0.01,
         "debt_ratio": 0.01, "revenue_change_6m": 0.01, "staff_change_6m": 0.01,
         **dict.fromkeys(_SHARE_INPUTS, 0.01)}  # fmt: skip
# Methods of the formula that a proof may replace by an unknown, with the lower bound of each.
LEMMAS = dict.fromkeys(
    (
        "debt_service_limit", "grade_budget", "loss_budget", "risk_limit", "score_indicator", "score_at_stage",
        "revenue_in_stage", "stage_multiple", "stage_limit", "revenue_limit", "backing_limit", "base_limit",
    ),
    lambda *arguments: 0,
)  # fmt: skip


def build_domain(formula: type[CompanyLimitFormula] = CompanyLimitFormula) -> ProofDomain:
    """What prover.prove needs to know of a company's limit. formula: another one in tests."""
    return ProofDomain(
        formula,
        GUARDRAILS,
        FORMULA_INPUTS,
        (REFERENCE_COMPANY, REFERENCE_INNOVATIVE, REFERENCE_SHELL, REFERENCE_NO_CASH_FLOW, REFERENCE_LARGE),
        LEMMAS,
        signed_inputs=(
            "operating_cash_flow",
            "rd_growth",
            "revenue_growth",
            "return_on_net_assets",
            "revenue_change_6m",
            "staff_change_6m",
        ),
        always_known=("pd", "known_share", "unknown_inputs"),
        share_inputs=("pd", "known_share"),
        max_values=MAX_VALUES,
        step_sizes=STEP_SIZES,
    )


def find_forbidden_inputs(inputs: Iterable[ColumnSchema]) -> list[str]:
    """Inputs of a PD model that the gate or the limit counts too, or that are derived from such; a sound card has
    none.
    """
    return find_counted_inputs(inputs, BACKING, (*GATE_GROUPS, *BACKING_GROUPS))
