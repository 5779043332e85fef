"""Checks a policy before anyone is judged by it.

python -m models.credit_limit check configs/policies/credit_limit.toml
python -m models.credit_limit check configs/policies/credit_limit.toml --card var/bundles/credit_limit/NAME/card.json
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.schema import ColumnSchema
from datasets.text_encoding import use_utf8
from models.credit_limit.policy import Policy
from models.policy.cli import PolicyCli, build_app

if TYPE_CHECKING:
    from models.policy.prover import ProofDomain


def _build_domain() -> ProofDomain:
    from models.credit_limit.guardrail_domain import build_domain

    return build_domain()


def _find_forbidden_inputs(inputs: Sequence[ColumnSchema]) -> list[str]:
    from models.credit_limit.guardrail_domain import find_forbidden_inputs

    return find_forbidden_inputs(inputs)


app = build_app(
    "The credit limit's policies.",
    PolicyCli(
        Policy.load, _build_domain, _find_forbidden_inputs,
        forbidden_text="counted in both",
        none_forbidden_text="No input of the PD counts in the uplift too.",
        card_needed_text="That nothing counts both in the PD and in m needs a model: --card CARD.",
    ),
)  # fmt: skip

if __name__ == "__main__":
    use_utf8()
    app()
