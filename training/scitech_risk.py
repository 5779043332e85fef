"""Train a calibrated probability of default for technology companies.

    python -m training scitech_risk                                          # the simulated tech zone
    python -m training scitech_risk --config configs/scitech_risk_sba.toml   # a real table
    python -m training scitech_risk --config my_desk.toml --data loans.csv   # your own table

The PD reads neither the shell flags, which the gate reads, nor the value of patents and data assets, which backs the
limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from models.scitech_risk.decision import CompanyDecisionEngine
from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS
from models.scitech_risk.policy import BACKING, STANDING, Policy
from training.tabular.config import TabularConfig
from training.tabular.recipe import TabularRecipe


class Config(TabularConfig):
    """Settings of a company-risk model."""

    product: ClassVar[str] = "scitech_risk"
    purpose: str = "A calibrated probability of default, from which the policy computes the grade and the limit."
    not_for: str = "Refusing a company without a person; companies unlike those in the table that it was trained on."
    policy: Path = Path("configs/policies/scitech_risk.toml")


RECIPE = TabularRecipe(
    config_type=Config,
    policy_type=Policy,
    engine_type=CompanyDecisionEngine,
    guardrails="models.scitech_risk.guardrail_domain",
    double_counting="the gate or the limit counts",
    variant="with_shell_flags",
    withheld_groups=GATE_GROUPS,
    policy_groups=BACKING_GROUPS,
    policy_columns=(*BACKING, *STANDING),
)
