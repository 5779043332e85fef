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

from datasets.schema import Column, Table
from datasets.splits import Split
from models.card import Card
from models.scitech_risk.decision import Decider
from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS
from models.scitech_risk.policy import BACKING, Policy
from models.trees.onnx_session import Scores
from training.evaluation.profit import Terms
from training.interfaces import Answers, Fit, Rows
from training.progress import Watch
from training.tabular import fit as tabular
from training.tabular.fit import TabularConfig
from training.tabular.pipeline import TabularTrip

PRODUCT = "scitech_risk"
CONFIG = Path("configs/scitech_risk.toml")
TRIP = TabularTrip


class Config(TabularConfig):
    product: ClassVar[str] = PRODUCT
    purpose: str = "A calibrated probability of default, and the grade and limit that the policy makes of it."
    not_for: str = "Refusing a company without a person; companies unlike those of the table that it learned from."
    policy: Path = Path("configs/policies/scitech_risk.toml")


def load(path: Path, data: Path | None = None) -> Config:
    return tabular.load(path, Config, data)


def read(config: Config) -> Rows:
    return tabular.read(config)


def inputs(config: Config, table: Table, shells: bool = False) -> tuple[Column, ...]:
    """What the PD may read: nothing that backs the limit, and no shell flag unless `shells`."""

    def unread(column: Column) -> bool:
        return column.name in BACKING or column.group in BACKING_GROUPS or (column.group in GATE_GROUPS and not shells)

    return tabular.inputs(config, table, unread)


def train(config: Config, rows: Rows, split: Split, watch: Watch) -> Fit:
    return tabular.train(config, rows, split, inputs(config, rows.table), watch, also=[])


def variants(config: Config, rows: Rows, split: Split, watch: Watch) -> dict[str, np.ndarray]:
    """Held-out PDs of the same estimator with the shell flags, to say what they would add; never kept."""
    every = inputs(config, rows.table, shells=True)
    if not config.judge.unread or len(every) == len(inputs(config, rows.table)):
        return {}
    return {"with_shell_flags": tabular.variant(config, rows, split, every, watch, "beside: with shell flags")}


def decide(card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Answers:
    """What the policy would answer to rows with these scores."""
    return Answers.read(Decider(card, Policy.load(policy)).many(frame, scores))


def terms(policy: bytes) -> Terms:
    """A loan's economics, as the policy has them."""
    return Terms.of(Policy.load(policy))


def verify(policy: bytes, columns: tuple[Column, ...]) -> list[str]:
    """The guard rails that do not hold for this policy and these inputs; a sentence each."""
    from models.scitech_risk.guardrail_domain import check, overlap

    counted = overlap(columns)
    faults = [f"inputs that the gate or the limit counts too: {', '.join(counted)}"] if counted else []
    return faults + [str(verdict) for verdict in check(Policy.load(policy)) if not verdict.proved]
