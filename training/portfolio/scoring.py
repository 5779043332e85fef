"""Answer every company of a register with the champion, with its current figures and under a shock.

Rows are processed in chunks, so memory is bounded by the answers and not by the model's intermediate results.
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
CHUNK_ROWS = 10_000
THREADS = 2  # the graph runs without Python's lock
STRESS_COLUMNS = ("decision", "limit", "indicative_limit", "pd", "grade", "gate", "expected_loss")


class NoChampionError(NotRegisteredError):
    """There is no champion to answer with."""


@dataclass(frozen=True)
class ChampionModel:
    """A verified bundle, loaded with its policy."""

    card: Card
    digest: str
    policy: Policy
    graph: TabularSession

    @property
    def grades(self) -> list[str]:
        """The policy's grades, best first."""
        return [grade.name for grade in self.policy.risk.grades]

    @property
    def below_floor(self) -> list[str]:
        """The grades that are never approved automatically."""
        return self.grades[self.grades.index(self.policy.risk.floor_grade) + 1 :]


def load_champion(var: Path, model: str) -> ChampionModel:
    """Load and verify a model's champion. Raises NoChampionError or BundleError."""
    bundles, public_key = var / "bundles" / model, var / "keys" / "signing.pub.pem"
    version = read_alias(bundles)
    if version is None:
        raise NoChampionError(
            f"{bundles}: there is no champion of {model}. Train one: python -m training {model}; or name another "
            "folder "
            "with --var."
        )
    if Path(version).name != version or not public_key.is_file():
        raise BundleError(
            f"{bundles}: the champion is {version!r} and its key {public_key}; the name of a folder and an existing "
            "key file "
            "are expected. Promote a version again, or copy the key."
        )
    bundle = load_bundle(bundles / version, public_key)
    if (bundle.card.model, bundle.card.version) != (model, version):
        actual_name = f"{bundle.card.model} {bundle.card.version}"
        raise BundleError(f"{bundles / version}: its card names {actual_name}. Publish the bundle under its own name.")
    return to_champion(bundle)


def to_champion(bundle: Bundle) -> ChampionModel:
    """Load a bundle's policy and graph. Raises BundleError for another product's bundle."""
    card = bundle.card
    if card.product != PRODUCT:
        raise BundleError(
            f"{card.model} {card.version} is a model of {card.product!r}; one of {PRODUCT!r} is expected. Name one "
            "with "
            "--model."
        )
    return ChampionModel(card, bundle.digest, Policy.load(bundle.policy), TabularSession(bundle.graph))


def score_register(
    champion: ChampionModel,
    frame: pl.DataFrame,
    progress: ProgressCallback = ignore_progress,
    chunk_rows: int = CHUNK_ROWS,
) -> pl.DataFrame:
    """The decision engine's columns with reasons, and `expected_loss`, one row for each of `frame`."""
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
    """The columns STRESS_COLUMNS after a shock, without reasons. A shock never lowers a company's PD."""
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
    """Add `expected_loss`, RMB a year: pd x lgd x ccf x limit; null where no limit is granted."""
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
