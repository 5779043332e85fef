"""The domain in which the guard rails of a credit policy are proved.

for result in prover.prove_all(Policy.load(path, enforce_guardrails=False), build_domain()): print(result)
"""

from __future__ import annotations

from collections.abc import Iterable

from datasets.schema import ColumnSchema
from models.credit_limit.guardrails import GUARDRAILS
from models.credit_limit.limit_formula import APPRAISAL, CONDUCT, FORMULA_INPUTS, MORAL_GROUPS, CreditLimitFormula
from models.policy.guardrails import find_counted_inputs
from models.policy.prover import ProofDomain

# An ordinary applicant: counterexamples differ from it as little as possible. None is missing.
REFERENCE_APPLICANT: dict[str, float | None] = dict.fromkeys(FORMULA_INPUTS) | {
    "pd": 0.01, "declared_income": 1_000_000, "monthly_debt_service": 0, "housing": 2_000_000, "debts": 0,
    "identity_match": 1, "days_past_due": 0, "abnormal_list": 0, "enforcement_cases": 0, "tax_arrears": 0,
    "age": 40, "veto": 0, "consent": 0, "unknown_inputs": 0,
}  # fmt: skip
REFERENCE_APPLICANT_WITH_CONDUCT = REFERENCE_APPLICANT | {
    "law_abiding": 36, "public_spirit": 20, "honesty_diligence": 30, "family_neighbourhood": 24, "self_score": 110,
    "raters": 50, "raters_sd": 0, "related_rater": 0, "village_leniency": 0, "consent": 1,
}  # fmt: skip
# Readable counterexamples: within the contract of the county, and in round numbers.
MAX_VALUES = {
    "law_abiding": 36, "public_spirit": 20, "honesty_diligence": 30, "family_neighbourhood": 24, "self_score": 110,
    "raters": 50, "raters_sd": 55, "related_rater": 1, "village_leniency": 55, "utilisation": 1, "age": 130,
    "veto": 1, "consent": 1, "identity_match": 1, "abnormal_list": 1, "days_past_due": 3_650, "enforcement_cases": 100,
    "unknown_inputs": 100,
}  # fmt: skip
STEP_SIZES = {"pd": 0.001, "utilisation": 0.01, "monthly_debt_service": 10} | dict.fromkeys(
    ("declared_income", "housing", "land_use_rights", "equipment", "deposits", "debts"), 100
)
# Methods of the formula that a proof may replace by an unknown, with the lower bound of each.
LEMMAS = {
    **dict.fromkeys(
        ("affordability_limit", "grade_budget", "utilisation_factor", "risk_limit", "collateral", "base_limit"),
        lambda *arguments: 0,
    ),
    "conduct_score": None,
    "multiplier": lambda score, no_uplift_reasons: 1,
    "uplift": lambda base, multiplier: base,
}


def build_domain(formula: type[CreditLimitFormula] = CreditLimitFormula) -> ProofDomain:
    """What prover.prove needs to know of a credit limit. formula: another one in tests."""
    return ProofDomain(
        formula,
        GUARDRAILS,
        FORMULA_INPUTS,
        (REFERENCE_APPLICANT, REFERENCE_APPLICANT_WITH_CONDUCT),
        LEMMAS,
        signed_inputs=("village_leniency",),
        always_known=("pd", "consent", "unknown_inputs"),
        share_inputs=("pd", "utilisation"),
        max_values=MAX_VALUES,
        step_sizes=STEP_SIZES,
    )


def find_forbidden_inputs(inputs: Iterable[ColumnSchema]) -> list[str]:
    """Inputs of a PD model that count in the uplift too, or are derived from such inputs; a sound card has none."""
    return find_counted_inputs(inputs, ("self_score", "village_leniency", *CONDUCT, *APPRAISAL), MORAL_GROUPS)
