"""Turn a table into a PD and its decisions, for any tabular product: a recipe says in data how the products differ."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datasets.schema import ColumnSchema, TableSchema
from datasets.splits import Split
from models.card import Card
from models.trees.onnx_session import Scores
from training.evaluation.profit import LoanTerms
from training.progress import ProgressReporter
from training.tabular import config as tabular_config
from training.tabular import dataset as tabular_dataset
from training.tabular import fit
from training.tabular.config import TabularConfig
from training.tabular.dataset import Dataset
from training.tabular.fit import FittedModel


@dataclass(frozen=True)
class Decisions:
    """The decisions on some rows. approved (rows,) bool; limit (rows,) in the policy's currency, NaN where none.

    on_line: whether the approval line alone decides the row. but_for_age: approved, or referred for the age alone,
    which the policy reads openly.
    """

    approved: np.ndarray
    limit: np.ndarray
    on_line: np.ndarray
    but_for_age: np.ndarray
    referral_counts: dict[str, int] = field(default_factory=dict)  # reason why a person must decide -> rows

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> Decisions:
        """Build from a product's answers, one row each. An indicative limit counts as a limit here."""
        counts = frame["referral"].str.split(";").explode().drop_nulls().value_counts(sort=True).rows()
        return cls(
            approved=(frame["decision"] == "approve").to_numpy(),
            limit=frame["indicative_limit"].cast(pl.Float64).to_numpy(),
            on_line=frame["referral"].is_in(["", "below_floor_grade"]).to_numpy(),
            but_for_age=frame["referral"].is_in(["", "over_age"]).to_numpy(),
            referral_counts={code: rows for code, rows in counts if code},
        )


@dataclass(frozen=True)
class TabularRecipe:
    """How one product reads, fits, decides and verifies.

    policy_type.load(bytes) gives a policy; engine_type(card, policy).decide_batch(frame, scores) decides. `guardrails`
    is the module with build_domain and find_forbidden_inputs; it is imported on use, because it loads z3. Columns of
    `policy_groups` and `policy_columns` act through the policy, so the PD never reads them; it reads `withheld_groups`
    only in the variant, which is fitted to show what they would add.
    """

    config_type: type[TabularConfig]
    policy_type: Any
    engine_type: Any
    guardrails: str
    double_counting: str  # completes "inputs that ... too", for columns that both the PD and the policy read
    variant: str  # name of the variant among training.evaluation.evaluate.BASELINES
    withheld_groups: Collection[str]
    policy_groups: Collection[str] = ()
    policy_columns: Collection[str] = ()
    passthrough: Collection[str] = ()  # audit columns that the decision reads

    def load(self, path: Path, data: Path | None = None) -> TabularConfig:
        """Read a config; `data` replaces the file of its table. Raises ConfigError."""
        return tabular_config.load(path, self.config_type, data)

    def read(self, config: TabularConfig) -> Dataset:
        """Read the config's table. Raises DataError."""
        return tabular_dataset.read(config)

    def select_inputs(
        self, config: TabularConfig, table: TableSchema, include_withheld: bool = False
    ) -> tuple[ColumnSchema, ...]:
        """Select the columns that the PD reads; with `include_withheld` those of the variant."""

        def is_excluded(column: ColumnSchema) -> bool:
            return (
                column.name in self.policy_columns
                or column.group in self.policy_groups
                or (column.group in self.withheld_groups and not include_withheld)
            )

        return fit.select_inputs(config, table, is_excluded)

    def train(
        self, config: TabularConfig, policy: bytes, dataset: Dataset, split: Split, reporter: ProgressReporter
    ) -> FittedModel:
        """Fit the PD on the training rows; unknown inputs count as the policy says. Raises DataError."""
        columns = self.select_inputs(config, dataset.table)
        unknown = self.policy_type.load(policy).unknown
        return fit.train(config, dataset, split, columns, reporter, self.passthrough, unknown)

    def predict_variants(
        self, config: TabularConfig, dataset: Dataset, split: Split, reporter: ProgressReporter
    ) -> dict[str, np.ndarray]:
        """Held-out PDs of the variant by its name; empty where it is switched off or has no further columns."""
        columns = self.select_inputs(config, dataset.table, include_withheld=True)
        if not config.judge.unread or len(columns) == len(self.select_inputs(config, dataset.table)):
            return {}
        step = f"variant: {self.variant.replace('_', ' ')}"
        return {self.variant: fit.predict_variant(config, dataset, split, columns, reporter, step)}

    def decide(self, card: Card, policy: bytes, frame: pl.DataFrame, scores: Scores) -> Decisions:
        """Decide rows with these scores, as the service would."""
        engine = self.engine_type(card, self.policy_type.load(policy))
        return Decisions.from_frame(engine.decide_batch(frame, scores))

    def loan_terms(self, policy: bytes) -> LoanTerms:
        """A loan's economics under the policy."""
        return LoanTerms.from_policy(self.policy_type.load(policy))

    def verify(self, policy: bytes, fitted: FittedModel) -> list[str]:
        """Prove the guardrails for this policy and this model; returns a sentence for each that does not hold."""
        from models.policy.prover import prove_all  # loads z3

        guardrails = import_module(self.guardrails)
        double_counted = guardrails.find_forbidden_inputs(fitted.columns)
        problems = [f"inputs that {self.double_counting} too: {', '.join(double_counted)}"] if double_counted else []
        loaded = self.policy_type.load(policy)
        problems += fit.find_rewarded_unknowns(fitted, loaded.unknown)
        results = prove_all(loaded, guardrails.build_domain())
        return problems + [str(result) for result in results if not result.proved]
