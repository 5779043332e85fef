"""The results of evaluation and promotion gate as numbers in the signed card, from which reports and pages draw."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _SummaryModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckResult(_SummaryModel):
    """One check of the gate; `found` and `needed` are sentences."""

    name: str
    passed: bool
    found: str
    needed: str = ""
    found_zh: str = ""
    needed_zh: str = ""


class GateVerdict(_SummaryModel):
    """Whether the gate lets the model replace the champion."""

    passed: bool
    checks: tuple[CheckResult, ...]


class MetricInterval(_SummaryModel):
    """A figure and its 95 % interval; None if the rows do not define it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Curve(_SummaryModel):
    """x and y have the same length."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    auc: float | None = None


class ReliabilityBin(_SummaryModel):
    """Held-out rows of similar probability: the stated one, and the observed one with its interval (Wilson 1927)."""

    rows: int
    stated: float
    seen: float
    low: float
    high: float


class Histogram(_SummaryModel):
    """Shares of two groups of rows between edges: (bins + 1,) and twice (bins,).

    what: the quantity, score (points) or probability. line: the cutoff of the decision, in the same unit.
    """

    what: str
    line: float
    edges: tuple[float, ...]
    negative: tuple[float, ...]
    positive: tuple[float, ...]


class FairnessRow(_SummaryModel):
    """A value of an audit attribute compared with the attribute's largest group."""

    attribute: str
    value: str
    rows: int
    approval: MetricInterval
    limit: MetricInterval  # at equal PD


class Importance(_SummaryModel):
    """Mean absolute points of an input."""

    name: str
    en: str
    zh: str
    points: float


class PlotData(_SummaryModel):
    """Plot data of held-out rows. unit: rows, slides or cells. line: cutoff of the decision as a probability."""

    unit: str
    rows: int
    roc: tuple[Curve, ...]
    reliability: tuple[ReliabilityBin, ...]
    spread: Histogram | None = None
    line: float | None = None
    profit: Curve | None = None
    profit_band: tuple[Curve, Curve] | None = None  # the 95 % interval of the curve: low, high
    best_line: MetricInterval | None = None  # the cutoff with the largest profit
    currency: str = ""
    fairness: tuple[FairnessRow, ...] = ()
    weights: tuple[Importance, ...] = ()
    learning: tuple[Curve, ...] = ()
