"""Checks a policy before any company is judged by it.

python -m models.scitech_risk check configs/policies/scitech_risk.toml
python -m models.scitech_risk check configs/policies/scitech_risk.toml --card var/bundles/scitech_risk/NAME/card.json
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.schema import ColumnSchema
from datasets.text_encoding import use_utf8
from models.policy.cli import PolicyCli, build_app
from models.scitech_risk.policy import Policy

if TYPE_CHECKING:
    from models.policy.prover import ProofDomain


def _build_domain() -> ProofDomain:
    from models.scitech_risk.guardrail_domain import build_domain

    return build_domain()


def _find_forbidden_inputs(inputs: Sequence[ColumnSchema]) -> list[str]:
    from models.scitech_risk.guardrail_domain import find_forbidden_inputs

    return find_forbidden_inputs(inputs)


app = build_app(
    "The policies of sci-tech finance risk.",
    PolicyCli(
        Policy.load, _build_domain, _find_forbidden_inputs,
        forbidden_text="inputs of the PD that the gate or the limit counts too",
        none_forbidden_text="No input of the PD is counted by the gate or backs the limit.",
        card_needed_text="That the PD reads neither the shell flags nor what backs the limit needs a model: --card CARD.",
    ),
)  # fmt: skip

if __name__ == "__main__":
    use_utf8()
    app()
