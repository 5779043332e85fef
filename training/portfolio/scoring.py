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

from datasets.schema import Table
from models.bundle import Bundle, BundleRefused, load, pointed
from models.card import Card
from models.feature_encoder import encode
from models.scitech_risk.decision import Decider
from models.scitech_risk.policy import Policy
from models.scitech_risk.stress import Shock, no_better, shifted, shocked, with_rate
from models.trees.onnx_session import Graph
from training.progress import Tick, ignore
from training.tracking.mlflow_registry import NotRegistered

PRODUCT = "scitech_risk"
PIECE = 10_000  # rows
THREADS = 2  # the graph leaves Python's lock alone
STRESSED = ("decision", "limit", "indicative_limit", "pd", "grade", "gate", "expected_loss")


class NoChampion(NotRegistered):
    """Nothing is there to answer with."""


@dataclass(frozen=True)
class Champion:
    """A verified bundle and its policy, held ready."""

    card: Card
    digest: str
    policy: Policy
    graph: Graph

    @property
    def grades(self) -> list[str]:
        """Best first."""
        return [grade.name for grade in self.policy.risk.grades]

    @property
    def below(self) -> list[str]:
        """The grades that a machine may not approve."""
        return self.grades[self.grades.index(self.policy.risk.floor_grade) + 1 :]


def champion(var: Path, model: str) -> Champion:
    """Raises NoChampion or BundleRefused."""
    bundles, key = var / "bundles" / model, var / "keys" / "signing.pub.pem"
    version = pointed(bundles)
    if version is None:
        raise NoChampion(f"{bundles}: no champion of {model} is there. Train one: python -m training {model}; or name "
                         "another folder with --var.")  # fmt: skip
    if Path(version).name != version or not key.is_file():
        raise BundleRefused(f"{bundles}: names {version!r}, to be verified with {key}; a plain name beside the pointer "
                            "and that key are needed. Promote a version again, or copy the key.")  # fmt: skip
    found = load(bundles / version, key)
    if (found.card.model, found.card.version) != (model, version):
        told = f"{found.card.model} {found.card.version}"
        raise BundleRefused(f"{bundles / version}: its card says {told}. Publish it under its own name.")
    return hold(found)


def hold(bundle: Bundle) -> Champion:
    """Raises BundleRefused for another product's bundle."""
    card = bundle.card
    if card.product != PRODUCT:
        raise BundleRefused(f"{card.model} {card.version} answers for {card.product!r}; a register needs a model of "
                            f"{PRODUCT!r}. Name one with --model.")  # fmt: skip
    return Champion(card, bundle.digest, Policy.load(bundle.policy), Graph(bundle.graph))


def answer(held: Champion, frame: pl.DataFrame, tick: Tick = ignore, piece: int = PIECE) -> pl.DataFrame:
    """The decider's columns and `expected_loss`, a row each, reasons with them."""
    decider = Decider(held.card, held.policy)

    def one(part: pl.DataFrame) -> pl.DataFrame:
        scores = held.graph.run(encode(part, held.card.inputs), reasons=True)
        return with_loss(decider.many(part, scores), held.policy)

    return _in_pieces(one, frame, tick, piece)


def under(
    held: Champion, frame: pl.DataFrame, shock: Shock, table: Table, tick: Tick = ignore, piece: int = PIECE
) -> pl.DataFrame:
    """The same after a shock, its columns STRESSED; no reasons. A shock counts in no company's favour: its PD stays at
    least what it is without."""
    policy = with_rate(held.policy, shock.rate)
    decider = Decider(held.card, policy)

    def one(part: pl.DataFrame) -> pl.DataFrame:
        moved = shocked(part, shock, table)
        scores = shifted(held.graph.run(encode(moved, held.card.inputs)), moved, shock, held.card.head)
        scores = no_better(scores, held.graph.run(encode(part, held.card.inputs)))
        return with_loss(decider.many(moved, scores), policy).select(STRESSED)

    return _in_pieces(one, frame, tick, piece)


def with_loss(answers: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """`expected_loss`, RMB a year: pd x lgd x ccf x limit; null where no limit is granted."""
    severity = policy.risk.lgd * policy.risk.ccf
    return answers.with_columns(expected_loss=(pl.col("pd") * severity * pl.col("limit")).round(2))


def _in_pieces(
    one: Callable[[pl.DataFrame], pl.DataFrame], frame: pl.DataFrame, tick: Tick, piece: int
) -> pl.DataFrame:
    parts = [frame[at : at + piece] for at in range(0, max(1, frame.height), piece)]
    done: list[pl.DataFrame] = []
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for answered in pool.map(one, parts):
            done.append(answered)
            tick(len(done), len(parts))
    return pl.concat(done)
