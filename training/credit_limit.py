"""Train a calibrated probability of default for household credit limits.

    python -m training credit_limit                                              # the simulated county
    python -m training credit_limit --config configs/credit_limit_taiwan.toml    # a real table
    python -m training credit_limit --config my_bank.toml --data loans.csv       # your own table

The PD reads neither the moral groups, which act through the uplift of the limit, nor any audit column.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from models.credit_limit.decision import CreditDecisionEngine
from models.credit_limit.limit_formula import MORAL_GROUPS
from models.credit_limit.policy import Policy
from training.tabular.config import TabularConfig
from training.tabular.recipe import TabularRecipe


class Config(TabularConfig):
    """Settings of a credit-limit model."""

    product: ClassVar[str] = "credit_limit"
    purpose: str = "A calibrated probability of default, from which the policy computes the limit."
    not_for: str = "Refusing anyone without a person; people unlike those in the table that it was trained on."
    policy: Path = Path("configs/policies/credit_limit.toml")


RECIPE = TabularRecipe(
    config_type=Config,
    policy_type=Policy,
    engine_type=CreditDecisionEngine,
    guardrails="models.credit_limit.guardrail_domain",
    double_counting="count in the uplift",
    variant="with_moral_data",
    withheld_groups=MORAL_GROUPS,
    policy_columns=("enforcement_cases",),  # stops, whatever the PD says
    passthrough=("age",),  # for legal capacity, and nothing else
)
