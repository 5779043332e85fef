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

from datasets.schema import Column, Table
from datasets.splits import Split
from models.card import Card
from models.credit_limit.decision import Decider
from models.credit_limit.limit_formula import MORAL_GROUPS
from models.credit_limit.policy import Policy
from models.trees.onnx_session import Scores
from training.evaluation.profit import Terms
from training.interfaces import Answers, Fit, Rows
from training.progress import Watch
from training.tabular import fit as tabular
from training.tabular.fit import TabularConfig
from training.tabular.pipeline import TabularTrip

PRODUCT = "credit_limit"
CONFIG = Path("configs/credit_limit.toml")
TRIP = TabularTrip


class Config(TabularConfig):
    product: ClassVar[str] = PRODUCT
    purpose: str = "A calibrated probability of default, and the limit that the policy makes of it."
    not_for: str = "Refusing anyone without a person; people unlike those of the table that it learned from."
    policy: Path = Path("configs/policies/credit_limit.toml")


def load(path: Path, data: Path | None = None) -> Config:
    return tabular.load(path, Config, data)


def read(config: Config) -> Rows:
    return tabular.read(config)


def inputs(config: Config, table: Table, moral: bool = False) -> tuple[Column, ...]:
    """What the PD may read: no moral group unless `moral`."""
    return tabular.inputs(config, table, lambda column: column.group in MORAL_GROUPS and not moral)


def train(config: Config, rows: Rows, split: Split, watch: Watch) -> Fit:
    columns = inputs(config, rows.table)
    return tabular.train(config, rows, split, columns, watch, also=["age"])  # legal capacity, nothing else


def variants(config: Config, rows: Rows, split: Split, watch: Watch) -> dict[str, np.ndarray]:
    """Held-out PDs of the same estimator with the moral groups, to say what they would add; never kept."""
    every = inputs(config, rows.table, moral=True)
    if not config.judge.unread or len(every) == len(inputs(config, rows.table)):
        return {}
    return {"with_moral_data": tabular.variant(config, rows, split, every, watch, "beside: with moral data")}


def decide(card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Answers:
    """What the policy would answer to rows with these scores."""
    return Answers.read(Decider(card, Policy.load(policy)).many(frame, scores))


def terms(policy: bytes) -> Terms:
    """A loan's economics, as the policy has them."""
    return Terms.of(Policy.load(policy))


def verify(policy: bytes, columns: tuple[Column, ...]) -> list[str]:
    """The guard rails that do not hold for this policy and these inputs; a sentence each."""
    from models.credit_limit.guardrail_domain import check, overlap

    counted = overlap(columns)
    faults = [f"inputs that count in the uplift too: {', '.join(counted)}"] if counted else []
    return faults + [str(verdict) for verdict in check(Policy.load(policy)) if not verdict.proved]
