"""Checks a policy before anyone is judged by it.

python -m models.credit_limit check configs/policies/credit_limit.toml
python -m models.credit_limit check configs/policies/credit_limit.toml --card var/bundles/credit_limit/NAME/card.json
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.schema import Column
from datasets.text_encoding import use_utf8
from models.credit_limit.policy import Policy
from models.policy.cli import Checked, command

if TYPE_CHECKING:
    from models.policy.prover import Domain


def _domain() -> Domain:
    from models.credit_limit.guardrail_domain import domain

    return domain()


def _overlap(inputs: Sequence[Column]) -> list[str]:
    from models.credit_limit.guardrail_domain import overlap

    return overlap(inputs)


app = command(
    "The credit limit's policies.",
    Checked(
        Policy.load, _domain, _overlap,
        found="counted in both",
        none="No input of the PD counts in the uplift too.",
        untold="That nothing counts both in the PD and in m needs a model: --card CARD.",
    ),
)  # fmt: skip

if __name__ == "__main__":
    use_utf8()
    app()
