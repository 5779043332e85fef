"""A calibrated probability of default for a technology company: read a table, fit small monotone trees, predict.

    python -m training scitech_risk                                          # the simulated tech zone
    python -m training scitech_risk --config configs/scitech_risk_sba.toml   # a real table
    python -m training scitech_risk --config my_desk.toml --data loans.csv   # your own

The PD reads neither the shell flags, which the gate reads, nor what backs the limit: patents' and data assets' value.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from datasets.schema import ColumnSchema, TableSchema
from datasets.splits import Split
from models.card import Card
from models.scitech_risk.decision import CompanyDecisionEngine
from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS
from models.scitech_risk.policy import BACKING, Policy
from models.trees.onnx_session import Scores
from training.evaluation.profit import LoanTerms
from training.interfaces import Dataset, Decisions, FittedModel
from training.progress import ProgressReporter
from training.tabular import fit as tabular
from training.tabular.fit import TabularConfig
from training.tabular.pipeline import TabularPipeline

PRODUCT = "scitech_risk"
CONFIG = Path("configs/scitech_risk.toml")
PIPELINE = TabularPipeline


class Config(TabularConfig):
    product: ClassVar[str] = PRODUCT
    purpose: str = "A calibrated probability of default, and the grade and limit that the policy makes of it."
    not_for: str = "Refusing a company without a person; companies unlike those of the table that it learned from."
    policy: Path = Path("configs/policies/scitech_risk.toml")


def load(path: Path, data: Path | None = None) -> Config:
    return tabular.load(path, Config, data)


def read(config: Config) -> Dataset:
    return tabular.read(config)


def select_inputs(config: Config, table: TableSchema, include_shell_flags: bool = False) -> tuple[ColumnSchema, ...]:
    """What the PD may read: nothing that backs the limit, and no shell flag unless `shells`."""

    def is_excluded(column: ColumnSchema) -> bool:
        return (
            column.name in BACKING
            or column.group in BACKING_GROUPS
            or (column.group in GATE_GROUPS and not include_shell_flags)
        )

    return tabular.select_inputs(config, table, is_excluded)


def train(config: Config, dataset: Dataset, split: Split, reporter: ProgressReporter) -> FittedModel:
    return tabular.train(config, dataset, split, select_inputs(config, dataset.table), reporter, passthrough=[])


def predict_variants(
    config: Config, dataset: Dataset, split: Split, reporter: ProgressReporter
) -> dict[str, np.ndarray]:
    """Held-out PDs of the same estimator with the shell flags, to say what they would add; never kept."""
    all_columns = select_inputs(config, dataset.table, include_shell_flags=True)
    if not config.judge.unread or len(all_columns) == len(select_inputs(config, dataset.table)):
        return {}
    return {
        "with_shell_flags": tabular.predict_variant(
            config, dataset, split, all_columns, reporter, "beside: with shell flags"
        )
    }


def decide(card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Decisions:
    """What the policy would answer to rows with these scores."""
    return Decisions.from_frame(CompanyDecisionEngine(card, Policy.load(policy)).decide_batch(frame, scores))


def loan_terms(policy: bytes) -> LoanTerms:
    """A loan's economics, as the policy has them."""
    return LoanTerms.from_policy(Policy.load(policy))


def verify(policy: bytes, columns: tuple[ColumnSchema, ...]) -> list[str]:
    """The guard rails that do not hold for this policy and these inputs; a sentence each."""
    from models.policy.prover import prove_all
    from models.scitech_risk.guardrail_domain import build_domain, find_forbidden_inputs

    double_counted = find_forbidden_inputs(columns)
    problems = [f"inputs that the gate or the limit counts too: {', '.join(double_counted)}"] if double_counted else []
    return problems + [str(verdict) for verdict in prove_all(Policy.load(policy), build_domain()) if not verdict.proved]
