"""Proves each guard rail of a credit policy over all applicants, or finds one for whom it fails.

for verdict in check(Policy.load(path, rails=False)): print(verdict)
"""

from __future__ import annotations

from collections.abc import Iterable

from datasets.schema import Column
from models.credit_limit.guardrails import RAILS
from models.credit_limit.limit_formula import APPRAISAL, CONDUCT, MORAL_GROUPS, READS, Formula
from models.credit_limit.policy import Policy
from models.policy import prover as solver
from models.policy.guardrails import Rail
from models.policy.prover import Domain, Verdict

# An ordinary applicant, from whom a counterexample departs as little as it can; None is missing.
ORDINARY: dict[str, float | None] = dict.fromkeys(READS) | {
    "pd": 0.01, "declared_income": 1_000_000, "monthly_debt_service": 0, "housing": 2_000_000, "debts": 0,
    "age": 40, "veto": 0, "consent": 0,
}  # fmt: skip
PRAISED = ORDINARY | {
    "law_abiding": 36, "public_spirit": 20, "honesty_diligence": 30, "family_neighbourhood": 24, "self_score": 110,
    "raters": 50, "raters_sd": 0, "related_rater": 0, "village_leniency": 0, "consent": 1,
}  # fmt: skip
# Where a counterexample is readable: within the contract of the county, and in round numbers.
MOST = {"law_abiding": 36, "public_spirit": 20, "honesty_diligence": 30, "family_neighbourhood": 24, "self_score": 110,
        "raters": 50, "raters_sd": 55, "related_rater": 1, "village_leniency": 55, "utilisation": 1, "age": 130,
        "veto": 1, "consent": 1}  # fmt: skip
STEPS = {"pd": 0.001, "utilisation": 0.01, "monthly_debt_service": 10} | dict.fromkeys(
    ("declared_income", "housing", "land_use_rights", "equipment", "deposits", "debts"), 100
)
# Parts that a proof may close, with what each is never below.
PARTS = {
    **dict.fromkeys(("affordable", "grade_budget", "use_factor", "risk", "pool", "base"), lambda *arguments: 0),
    "conduct": None,
    "multiplier": lambda score, unlifted: 1,
    "lifted": lambda base, m: base,
}


def check(policy: Policy, formula: type[Formula] = Formula) -> list[Verdict]:
    """The verdict of each rail that concerns the policy, in the order of RAILS."""
    return solver.check(policy, domain(formula))


def prove(rail: Rail, policy: Policy, formula: type[Formula] = Formula) -> Verdict:
    return solver.prove(rail, policy, domain(formula))


def domain(formula: type[Formula] = Formula) -> Domain:
    return Domain(
        formula, RAILS, READS, (ORDINARY, PRAISED), PARTS, signed=("village_leniency",),
        always_known=("pd", "veto", "consent"), shares=("pd",), most=MOST, steps=STEPS,
    )  # fmt: skip


def overlap(inputs: Iterable[Column]) -> list[str]:
    """Inputs of a PD model that count in m already, or are derived from such; a sound card has none."""
    counted = {"self_score", "village_leniency", *CONDUCT, *APPRAISAL}
    found = []
    for column in inputs:  # derived columns stand after their parts
        made_of = set(column.derived.parts) if column.derived else set()
        if column.name in counted or column.group in MORAL_GROUPS or made_of & counted:
            counted.add(column.name)
            found.append(column.name)
    return found
