"""A calibrated probability of default for a credit limit: read a table, fit small monotone trees, predict.

    python -m training credit_limit                                              # the simulated county
    python -m training credit_limit --config configs/credit_limit_taiwan.toml    # a real table
    python -m training credit_limit --config my_bank.toml --data loans.csv       # your own

The PD never reads the moral groups (they act through the limit's uplift), nor any audit column.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from datasets.schema import ColumnSchema, TableSchema
from datasets.splits import Split
from models.card import Card
from models.credit_limit.decision import CreditDecisionEngine
from models.credit_limit.limit_formula import MORAL_GROUPS
from models.credit_limit.policy import Policy
from models.trees.onnx_session import Scores
from training.evaluation.profit import LoanTerms
from training.interfaces import Dataset, Decisions, FittedModel
from training.progress import ProgressReporter
from training.tabular import fit as tabular
from training.tabular.fit import TabularConfig
from training.tabular.pipeline import TabularPipeline

PRODUCT = "credit_limit"
CONFIG = Path("configs/credit_limit.toml")
PIPELINE = TabularPipeline


class Config(TabularConfig):
    product: ClassVar[str] = PRODUCT
    purpose: str = "A calibrated probability of default, and the limit that the policy makes of it."
    not_for: str = "Refusing anyone without a person; people unlike those of the table that it learned from."
    policy: Path = Path("configs/policies/credit_limit.toml")


def load(path: Path, data: Path | None = None) -> Config:
    return tabular.load(path, Config, data)


def read(config: Config) -> Dataset:
    return tabular.read(config)


def select_inputs(config: Config, table: TableSchema, include_moral: bool = False) -> tuple[ColumnSchema, ...]:
    """What the PD may read: no moral group unless `moral`."""
    return tabular.select_inputs(config, table, lambda column: column.group in MORAL_GROUPS and not include_moral)


def train(config: Config, dataset: Dataset, split: Split, reporter: ProgressReporter) -> FittedModel:
    columns = select_inputs(config, dataset.table)
    return tabular.train(config, dataset, split, columns, reporter, passthrough=["age"])  # legal capacity, nothing else


def predict_variants(
    config: Config, dataset: Dataset, split: Split, reporter: ProgressReporter
) -> dict[str, np.ndarray]:
    """Held-out PDs of the same estimator with the moral groups, to say what they would add; never kept."""
    all_columns = select_inputs(config, dataset.table, include_moral=True)
    if not config.judge.unread or len(all_columns) == len(select_inputs(config, dataset.table)):
        return {}
    return {
        "with_moral_data": tabular.predict_variant(
            config, dataset, split, all_columns, reporter, "beside: with moral data"
        )
    }


def decide(card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Decisions:
    """What the policy would answer to rows with these scores."""
    return Decisions.from_frame(CreditDecisionEngine(card, Policy.load(policy)).decide_batch(frame, scores))


def loan_terms(policy: bytes) -> LoanTerms:
    """A loan's economics, as the policy has them."""
    return LoanTerms.from_policy(Policy.load(policy))


def verify(policy: bytes, columns: tuple[ColumnSchema, ...]) -> list[str]:
    """The guard rails that do not hold for this policy and these inputs; a sentence each."""
    from models.credit_limit.guardrail_domain import build_domain, find_forbidden_inputs
    from models.policy.prover import prove_all

    double_counted = find_forbidden_inputs(columns)
    problems = [f"inputs that count in the uplift too: {', '.join(double_counted)}"] if double_counted else []
    return problems + [str(verdict) for verdict in prove_all(Policy.load(policy), build_domain()) if not verdict.proved]
