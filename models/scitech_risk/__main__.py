"""Checks a policy before any company is judged by it.

python -m models.scitech_risk check configs/policies/scitech_risk.toml
python -m models.scitech_risk check configs/policies/scitech_risk.toml --card var/bundles/scitech_risk/NAME/card.json
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.schema import Column
from datasets.text_encoding import use_utf8
from models.policy.cli import Checked, command
from models.scitech_risk.policy import Policy

if TYPE_CHECKING:
    from models.policy.prover import Domain


def _domain() -> Domain:
    from models.scitech_risk.guardrail_domain import domain

    return domain()


def _overlap(inputs: Sequence[Column]) -> list[str]:
    from models.scitech_risk.guardrail_domain import overlap

    return overlap(inputs)


app = command(
    "The policies of sci-tech finance risk.",
    Checked(
        Policy.load, _domain, _overlap,
        found="inputs of the PD that the gate or the limit counts too",
        none="No input of the PD is counted by the gate or backs the limit.",
        untold="That the PD reads neither the shell flags nor what backs the limit needs a model: --card CARD.",
    ),
)  # fmt: skip

if __name__ == "__main__":
    use_utf8()
    app()
