"""Proves each guard rail of a credit policy over all applicants, or finds one for whom it fails.

for verdict in check(Policy.load(path, rails=False)): print(verdict)
"""

from __future__ import annotations

from collections.abc import Iterable

from datasets.schema import ColumnSchema
from models.credit_limit.guardrails import GUARDRAILS
from models.credit_limit.limit_formula import APPRAISAL, CONDUCT, FORMULA_INPUTS, MORAL_GROUPS, CreditLimitFormula
from models.credit_limit.policy import Policy
from models.policy import prover as solver
from models.policy.guardrails import Guardrail
from models.policy.prover import ProofDomain, ProofResult

# An ordinary applicant, from whom a counterexample departs as little as it can; None is missing.
REFERENCE_APPLICANT: dict[str, float | None] = dict.fromkeys(FORMULA_INPUTS) | {
    "pd": 0.01, "declared_income": 1_000_000, "monthly_debt_service": 0, "housing": 2_000_000, "debts": 0,
    "age": 40, "veto": 0, "consent": 0,
}  # fmt: skip
REFERENCE_APPLICANT_WITH_CONDUCT = REFERENCE_APPLICANT | {
    "law_abiding": 36, "public_spirit": 20, "honesty_diligence": 30, "family_neighbourhood": 24, "self_score": 110,
    "raters": 50, "raters_sd": 0, "related_rater": 0, "village_leniency": 0, "consent": 1,
}  # fmt: skip
# Where a counterexample is readable: within the contract of the county, and in round numbers.
MAX_VALUES = {"law_abiding": 36, "public_spirit": 20, "honesty_diligence": 30, "family_neighbourhood": 24, "self_score": 110,
        "raters": 50, "raters_sd": 55, "related_rater": 1, "village_leniency": 55, "utilisation": 1, "age": 130,
        "veto": 1, "consent": 1}  # fmt: skip
STEP_SIZES = {"pd": 0.001, "utilisation": 0.01, "monthly_debt_service": 10} | dict.fromkeys(
    ("declared_income", "housing", "land_use_rights", "equipment", "deposits", "debts"), 100
)
# Parts that a proof may close, with what each is never below.
LEMMAS = {
    **dict.fromkeys(
        ("affordability_limit", "grade_budget", "utilisation_factor", "risk_limit", "collateral", "base_limit"),
        lambda *arguments: 0,
    ),
    "conduct_score": None,
    "multiplier": lambda score, no_uplift_reasons: 1,
    "uplift": lambda base, multiplier: base,
}


def check_policy(policy: Policy, formula: type[CreditLimitFormula] = CreditLimitFormula) -> list[ProofResult]:
    """The verdict of each rail that concerns the policy, in the order of RAILS."""
    return solver.prove_all(policy, build_domain(formula))


def prove_guardrail(
    guardrail: Guardrail, policy: Policy, formula: type[CreditLimitFormula] = CreditLimitFormula
) -> ProofResult:
    return solver.prove(guardrail, policy, build_domain(formula))


def build_domain(formula: type[CreditLimitFormula] = CreditLimitFormula) -> ProofDomain:
    return ProofDomain(
        formula, GUARDRAILS, FORMULA_INPUTS, (REFERENCE_APPLICANT, REFERENCE_APPLICANT_WITH_CONDUCT), LEMMAS, signed_inputs=("village_leniency",),
        always_known=("pd", "veto", "consent"), share_inputs=("pd",), max_values=MAX_VALUES, step_sizes=STEP_SIZES,
    )  # fmt: skip


def find_forbidden_inputs(inputs: Iterable[ColumnSchema]) -> list[str]:
    """Inputs of a PD model that count in m already, or are derived from such; a sound card has none."""
    counted_names = {"self_score", "village_leniency", *CONDUCT, *APPRAISAL}
    forbidden = []
    for column in inputs:  # derived columns stand after their parts
        parents = set(column.derived.operand_names) if column.derived else set()
        if column.name in counted_names or column.group in MORAL_GROUPS or parents & counted_names:
            counted_names.add(column.name)
            forbidden.append(column.name)
    return forbidden
