"""Every company of a register answered by the champion: as the books are, and under a shock.

The rows go through in pieces, so memory is bounded by the answers rather than by what the model makes of a row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from datasets.schema import TableSchema
from models.bundle import Bundle, BundleError, load_bundle, read_alias
from models.card import Card
from models.feature_encoder import encode
from models.scitech_risk.decision import CompanyDecisionEngine
from models.scitech_risk.policy import Policy
from models.scitech_risk.stress import Shock, add_rate, apply_shock, shift_log_odds, worse_of
from models.trees.onnx_session import TabularSession
from training.progress import ProgressCallback, ignore_progress
from training.tracking.mlflow_registry import NotRegisteredError

PRODUCT = "scitech_risk"
CHUNK_ROWS = 10_000  # rows
THREADS = 2  # the graph leaves Python's lock alone
STRESS_COLUMNS = ("decision", "limit", "indicative_limit", "pd", "grade", "gate", "expected_loss")


class NoChampionError(NotRegisteredError):
    """Nothing is there to answer with."""


@dataclass(frozen=True)
class ChampionModel:
    """A verified bundle and its policy, held ready."""

    card: Card
    digest: str
    policy: Policy
    graph: TabularSession

    @property
    def grades(self) -> list[str]:
        """Best first."""
        return [grade.name for grade in self.policy.risk.grades]

    @property
    def below_floor(self) -> list[str]:
        """The grades that a machine may not approve."""
        return self.grades[self.grades.index(self.policy.risk.floor_grade) + 1 :]


def load_champion(var: Path, model: str) -> ChampionModel:
    """Raises NoChampion or BundleError."""
    bundles, public_key = var / "bundles" / model, var / "keys" / "signing.pub.pem"
    version = read_alias(bundles)
    if version is None:
        raise NoChampionError(f"{bundles}: no champion of {model} is there. Train one: python -m training {model}; or name "
                         "another folder with --var.")  # fmt: skip
    if Path(version).name != version or not public_key.is_file():
        raise BundleError(f"{bundles}: names {version!r}, to be verified with {public_key}; a plain name beside the pointer "
                            "and that key are needed. Promote a version again, or copy the key.")  # fmt: skip
    bundle = load_bundle(bundles / version, public_key)
    if (bundle.card.model, bundle.card.version) != (model, version):
        actual_name = f"{bundle.card.model} {bundle.card.version}"
        raise BundleError(f"{bundles / version}: its card says {actual_name}. Publish it under its own name.")
    return to_champion(bundle)


def to_champion(bundle: Bundle) -> ChampionModel:
    """Raises BundleError for another product's bundle."""
    card = bundle.card
    if card.product != PRODUCT:
        raise BundleError(f"{card.model} {card.version} answers for {card.product!r}; a register needs a model of "
                            f"{PRODUCT!r}. Name one with --model.")  # fmt: skip
    return ChampionModel(card, bundle.digest, Policy.load(bundle.policy), TabularSession(bundle.graph))


def score_register(
    champion: ChampionModel,
    frame: pl.DataFrame,
    progress: ProgressCallback = ignore_progress,
    chunk_rows: int = CHUNK_ROWS,
) -> pl.DataFrame:
    """The decider's columns and `expected_loss`, a row each, reasons with them."""
    decider = CompanyDecisionEngine(champion.card, champion.policy)

    def score_chunk(chunk: pl.DataFrame) -> pl.DataFrame:
        scores = champion.graph.run(encode(chunk, champion.card.inputs), reasons=True)
        return add_expected_loss(decider.decide_batch(chunk, scores), champion.policy)

    return _map_chunks(score_chunk, frame, progress, chunk_rows)


def score_under_shock(
    champion: ChampionModel,
    frame: pl.DataFrame,
    shock: Shock,
    table: TableSchema,
    progress: ProgressCallback = ignore_progress,
    chunk_rows: int = CHUNK_ROWS,
) -> pl.DataFrame:
    """The same after a shock, its columns STRESSED; no reasons. A shock counts in no company's favour: its PD stays at
    least what it is without."""
    policy = add_rate(champion.policy, shock.rate)
    decider = CompanyDecisionEngine(champion.card, policy)

    def score_chunk(chunk: pl.DataFrame) -> pl.DataFrame:
        stressed = apply_shock(chunk, shock, table)
        scores = shift_log_odds(
            champion.graph.run(encode(stressed, champion.card.inputs)), stressed, shock, champion.card.head
        )
        scores = worse_of(scores, champion.graph.run(encode(chunk, champion.card.inputs)))
        return add_expected_loss(decider.decide_batch(stressed, scores), policy).select(STRESS_COLUMNS)

    return _map_chunks(score_chunk, frame, progress, chunk_rows)


def add_expected_loss(answers: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """`expected_loss`, RMB a year: pd x lgd x ccf x limit; null where no limit is granted."""
    severity = policy.risk.lgd * policy.risk.ccf
    return answers.with_columns(expected_loss=(pl.col("pd") * severity * pl.col("limit")).round(2))


def _map_chunks(
    score_chunk: Callable[[pl.DataFrame], pl.DataFrame],
    frame: pl.DataFrame,
    progress: ProgressCallback,
    chunk_rows: int,
) -> pl.DataFrame:
    chunks = [frame[start : start + chunk_rows] for start in range(0, max(1, frame.height), chunk_rows)]
    results: list[pl.DataFrame] = []
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for scored in pool.map(score_chunk, chunks):
            results.append(scored)
            progress(len(results), len(chunks))
    return pl.concat(results)
