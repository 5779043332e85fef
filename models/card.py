"""The card of a bundle: what the model takes, gives, was made from and is worth."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datasets.schema import ColumnSchema
from models.evaluation_summary import GateVerdict, PlotData


class DatasetInfo(BaseModel):
    """A data set the model was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int
    sha256: str
    source: str = ""
    licence: str = ""
    simulated: bool = False
    split: str = ""  # how its rows were divided, and the digest of the division
    split_sha256: str = ""
    authorisations: tuple[str, ...] = ()


class ScoreHead(BaseModel):
    """From the raw score of the trees to points: log-odds of default = slope * raw + intercept (Platt 1999)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float
    intercept: float
    bias: float  # mean raw score of the trees: contributions + bias = raw
    points: float = 600.0
    odds: float = 50.0
    double: float = 20.0


class ContributionReference(BaseModel):
    """Mean contributions of applicants by score: what reasons are measured against.

    points: (knots,) ascending; contributions: (knots, inputs) in raw-score units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: tuple[float, ...]
    contributions: tuple[tuple[float, ...], ...]


class BinCounts(BaseModel):
    """How a number was spread. Bin i holds what is above edges[i - 1] and at most edges[i]; the last, what is missing.

    counts: (edges + 2,) rows of the reference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class DriftProfile(BaseModel):
    """The spread of inputs and PD over rows that the model had not learned from: what drift is measured from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    inputs: tuple[BinCounts, ...]  # in the order of the card's
    score: BinCounts


class BaseCard(BaseModel):
    """What every product's card tells: whose it is, what for, and what it was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    model: str  # the recipe's name, as `credit_limit_taiwan`
    version: str
    created: str  # UTC, ISO 8601
    simulated: bool
    purpose: str
    not_for: str
    purpose_zh: str = ""  # this and the next: empty where the config, or an earlier card, tells English alone
    not_for_zh: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    verdict: GateVerdict | None = None  # this and the next: None in cards from before they told it
    plots: PlotData | None = None
    data: tuple[DatasetInfo, ...] = ()
    seed: int = 0
    git_commit: str = ""
    run_id: str = ""
    versions: dict[str, str] = Field(default_factory=dict)  # of the libraries that made it


class AnyCard(BaseCard):
    """The card of any product, with the fields that are of use without knowing the product."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    horizon: str = ""
    target: str = ""
    inputs: tuple[ColumnSchema, ...] = ()
    drift: DriftProfile | None = None


class Card(BaseCard):
    """Of a table's model. `inputs` are in the order of the graph's columns, categories' levels in that of the codes."""

    horizon: str = ""  # of the PD
    inputs: tuple[ColumnSchema, ...]
    also: tuple[ColumnSchema, ...] = ()  # columns that the decision reads and the model does not
    target: str
    head: ScoreHead
    reference: ContributionReference
    drift: DriftProfile | None = None
