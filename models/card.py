"""The card of a bundle: a model's inputs and outputs, its training data and its evaluation."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datasets.schema import ColumnSchema
from models.evaluation_summary import GateVerdict, PlotData


class DatasetInfo(BaseModel):
    """A data set that the model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int
    sha256: str
    source: str = ""
    licence: str = ""
    simulated: bool = False
    format: str = ""  # how the file is written, in words
    split: str = ""  # how its rows were split; split_sha256 is the digest of the split
    split_sha256: str = ""
    authorisations: tuple[str, ...] = ()


class ScoreHead(BaseModel):
    """Converts the raw score of the trees to points: log-odds of default = slope * raw + intercept (Platt 1999)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float
    intercept: float
    bias: float  # mean raw score of the trees: contributions + bias = raw
    points: float = 600.0
    odds: float = 50.0
    double: float = 20.0


class ContributionReference(BaseModel):
    """Mean contributions of applicants by score, the reference of the reasons.

    points: (knots,) ascending; contributions: (knots, inputs) in raw-score units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: tuple[float, ...]
    contributions: tuple[tuple[float, ...], ...]


class BinCounts(BaseModel):
    """A histogram. Bin i is for values above edges[i - 1] and up to edges[i], the last bin for missing values.

    counts: (edges + 2,) rows of the reference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class DriftProfile(BaseModel):
    """Histograms of inputs and PD over held-out rows, the reference for drift."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    inputs: tuple[BinCounts, ...]  # in the order of the card's inputs
    score: BinCounts


class BaseCard(BaseModel):
    """What the cards of all products have: product, purpose and training data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    model: str  # name of the recipe, such as `credit_limit_taiwan`
    version: str
    created: str  # UTC, ISO 8601
    simulated: bool
    purpose: str
    not_for: str
    purpose_zh: str = ""  # this and the next: empty if the config has English only
    not_for_zh: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    verdict: GateVerdict | None = None  # this and the next: None for a card without an evaluation
    plots: PlotData | None = None
    data: tuple[DatasetInfo, ...] = ()
    seed: int = 0
    git_commit: str = ""
    run_id: str = ""
    versions: dict[str, str] = Field(default_factory=dict)  # of the libraries in training


class AnyCard(BaseCard):
    """The card of any product, with the fields that are of use without knowing the product."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    horizon: str = ""
    target: str = ""
    inputs: tuple[ColumnSchema, ...] = ()
    drift: DriftProfile | None = None


class Card(BaseCard):
    """The card of a tabular model. inputs: in the order of the graph's columns; levels in the order of their codes.

    missing: texts that mean "not known" in the table that it learned from; the service reads them so too.
    """

    horizon: str = ""  # of the PD
    inputs: tuple[ColumnSchema, ...]
    also: tuple[ColumnSchema, ...] = ()  # columns that only the decision reads
    missing: tuple[str, ...] = ()
    target: str
    head: ScoreHead
    reference: ContributionReference
    assumed: dict[str, float | str] = Field(default_factory=dict)  # what an unknown input counts as in the graph
    drift: DriftProfile | None = None
