"""What the judge saw and what the gate said, as numbers in the signed card: whoever shows a model draws from these.

Cards that were written before have neither; they stay readable and say nothing here.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _SummaryModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckResult(_SummaryModel):
    """One thing that must hold; what was found and what was needed are sentences. Earlier cards have English alone."""

    name: str
    passed: bool
    found: str
    needed: str = ""
    found_zh: str = ""
    needed_zh: str = ""


class GateVerdict(_SummaryModel):
    """Of the gate: whether the model may take the champion's place."""

    passed: bool
    checks: tuple[CheckResult, ...]


class MetricInterval(_SummaryModel):
    """A figure and its 95 % interval; None where the rows do not define it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Curve(_SummaryModel):
    """`x` and `y` are of one length."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    auc: float | None = None


class ReliabilityBin(_SummaryModel):
    """Held-out rows of like probability: stated, and seen with its interval (Wilson 1927)."""

    rows: int
    stated: float
    seen: float
    low: float
    high: float


class Histogram(_SummaryModel):
    """Shares of two groups of rows between edges: (bins + 1,) and twice (bins,).

    what: the number that is spread: score (points), probability. line: where answers part, in the same unit.
    """

    what: str
    line: float
    edges: tuple[float, ...]
    negative: tuple[float, ...]
    positive: tuple[float, ...]


class FairnessRow(_SummaryModel):
    """A value of an audit attribute against the attribute's largest group."""

    attribute: str
    value: str
    rows: int
    approval: MetricInterval
    limit: MetricInterval  # at equal PD


class Importance(_SummaryModel):
    """Points that an input adds to or takes from the score, on average."""

    name: str
    en: str
    zh: str
    points: float


class PlotData(_SummaryModel):
    """On held-out rows, what pictures need. unit: rows, slides or cells. line: probability where answers part."""

    unit: str
    rows: int
    roc: tuple[Curve, ...]
    reliability: tuple[ReliabilityBin, ...]
    spread: Histogram | None = None
    line: float | None = None
    profit: Curve | None = None
    currency: str = ""
    fairness: tuple[FairnessRow, ...] = ()
    weights: tuple[Importance, ...] = ()
    learning: tuple[Curve, ...] = ()
