"""Proves each guard rail of a sci-tech policy over all companies, or finds one for whom it fails.

for verdict in check(Policy.load(path, rails=False)): print(verdict)
"""

from __future__ import annotations

from collections.abc import Iterable

from datasets.schema import Column
from models.policy import prover as solver
from models.policy.guardrails import Rail
from models.policy.prover import Domain, Verdict
from models.scitech_risk.guardrails import RAILS
from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS, READS, Formula
from models.scitech_risk.policy import BACKING, EVIDENCE, INNOVATION, STAFF, Policy

# An ordinary company, from whom a counterexample departs as little as it can; None is missing. Money in the register's.
ORDINARY: dict[str, float | None] = dict.fromkeys(READS) | {
    "pd": 0.002, "known_share": 1, "revenue": 5_000, "operating_cash_flow": 2_000, "debt_service": 0,
    "patent_value": 10_000, STAFF: 40, **dict.fromkeys(EVIDENCE, 0.0),
}  # fmt: skip
INVENTIVE = ORDINARY | {
    **{name: 1.0 for name in INNOVATION if name != "revenue"}, "data_certificate": 1, "data_asset_value": 0,
}  # fmt: skip
SUSPECT = ORDINARY | {STAFF: 0, "zero_filing_months": 24, "invoice_loop_share": 1}
SILENT = ORDINARY | {"operating_cash_flow": None}
RICH = ORDINARY | dict.fromkeys(("revenue", "operating_cash_flow", "patent_value"), 10_000_000)
_SHARES = ("address_empty_share", "officer_empty_share", "invoice_loop_share", "invoice_related_share",
           "rd_intensity", "rd_staff_share")  # fmt: skip
_FLAGS = ("abnormal_list", "ownership_cycle", "data_certificate")
MOST = {"zero_filing_months": 24, "rd_growth": 10, "revenue_growth": 10, "return_on_net_assets": 10,
        "operating_cash_flow": 100_000_000, "revenue": 100_000_000,
        **dict.fromkeys((*_SHARES, *_FLAGS), 1)}  # fmt: skip
STEPS = {"pd": 0.001, "known_share": 0.01, "rd_growth": 0.01, "revenue_growth": 0.01, "return_on_net_assets": 0.01,
         **dict.fromkeys(_SHARES, 0.01)}  # fmt: skip
# Parts that a proof may close, with what each is never below.
PARTS = dict.fromkeys(
    ("covered", "grade_budget", "budget", "risk", "earned", "scored", "within", "raised", "slice", "turned_over",
     "backing", "base"),
    lambda *arguments: 0,
)  # fmt: skip


def check(policy: Policy, formula: type[Formula] = Formula) -> list[Verdict]:
    """The verdict of each rail that concerns the policy, in the order of RAILS."""
    return solver.check(policy, domain(formula))


def prove(rail: Rail, policy: Policy, formula: type[Formula] = Formula) -> Verdict:
    return solver.prove(rail, policy, domain(formula))


def domain(formula: type[Formula] = Formula) -> Domain:
    return Domain(
        formula, RAILS, READS, (ORDINARY, INVENTIVE, SUSPECT, SILENT, RICH), PARTS,
        signed=("operating_cash_flow", "rd_growth", "revenue_growth", "return_on_net_assets"),
        always_known=("pd", "known_share"), shares=("pd", "known_share"), most=MOST, steps=STEPS,
    )  # fmt: skip


def overlap(inputs: Iterable[Column]) -> list[str]:
    """Inputs of a PD model that the gate or the limit counts, or that are derived from such; a sound card has none."""
    counted: set[str] = set(BACKING)
    found = []
    for column in inputs:  # derived columns stand after their parts
        made_of = set(column.derived.parts) if column.derived else set()
        if column.name in counted or column.group in (*GATE_GROUPS, *BACKING_GROUPS) or made_of & counted:
            counted.add(column.name)
            found.append(column.name)
    return found
