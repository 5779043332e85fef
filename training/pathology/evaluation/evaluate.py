"""Evaluate a slide model on held-out slides or cells, and decide whether it may become the champion.

Every metric is that of the exported graphs, read as the service reads them. Slides of one patient, or cells of one
source, are resampled together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.metrics import CalibrationBin, Interval, calibration_bins
from models.pathology.neural.export import Int8Comparison
from models.pathology.operating_point import OperatingPoint, lower_bound
from training.config import ConfigSection
from training.evaluation.evaluate import CALIBRATION_BINS
from training.evaluation.metrics import BootstrapSamples, bootstrap_interval, compute_intervals
from training.evaluation.promotion_gate import (
    ChampionComparison,
    GateCheck,
    GateThresholds,
    GateVerdict,
    check_champion,
    check_performance,
)
from training.pathology.evaluation.shortcut_detector import ShortcutResult

MAX_EXTRA_ALARMS = 0.05  # false-alarm rate that an 8-bit graph may add


class SlideEvaluationConfig(ConfigSection):
    """How thoroughly to evaluate."""

    resamples: int = Field(default=300, ge=20)
    plots: bool = True
    small: bool = True  # quantise to 8 bits and compare
    shortcut: bool = True  # test whether colour and compression alone predict the label
    threads: int = Field(default=2, ge=1)


class SlideGateConfig(GateThresholds):
    """What a slide model must reach to be promoted."""

    min_sensitivity_bound: float = Field(default=0.85, ge=0, lt=1)  # exact lower bound, on the held-out rows
    max_false_alarms: float = Field(default=0.15, gt=0, le=1)  # share of held-out tiles called out of distribution
    min_ood_detection: float = Field(default=0.5, ge=0, le=1)  # share of out-of-distribution tiles recognised
    max_abstained: float = Field(default=0.25, gt=0, le=1)  # share of the held-out rows without an answer


@dataclass(frozen=True)
class HoldoutPredictions:
    """The predictions for n held-out slides, or cells where the model reads no slide.

    class_probabilities: (n, classes), scaled by temperature. positive_probability: (n,) calibrated probability of a
    positive class. abstention_reasons: (n,) why there is no answer, "" where there is one.
    """

    unit: str  # "slides" or "cells"
    labels: NDArray[np.intp]
    class_probabilities: NDArray[np.float64]
    positive_probability: NDArray[np.float64]
    positive_classes: NDArray[np.intp]  # indices of the positive classes
    groups: NDArray[Any]
    abstention_reasons: NDArray[np.str_]
    operating_point: OperatingPoint

    @property
    def y(self) -> NDArray[np.float64]:
        """(n,) 1 positive, 0 negative."""
        return np.isin(self.labels, self.positive_classes).astype(np.float64)

    def bootstrap_samples(self, resamples: int, seed: int) -> BootstrapSamples:
        """Resamples of whole groups."""
        return BootstrapSamples(len(self.labels), resamples, seed, self.groups)


@dataclass(frozen=True)
class HoldoutMetrics:
    """The metrics of one set of rows. confusion: (classes, classes) counts, true class by row, prediction by column."""

    unit: str
    rows: int
    groups: int
    positives: int
    metrics: dict[str, Interval]
    accuracy: Interval  # positive or not
    accuracy_classes: Interval
    confusion: NDArray[np.intp]
    sensitivity: Interval
    missed_groups: int
    sensitivity_bound: float  # exact, one-sided 95 %; each positive group is one trial
    specificity: Interval
    bins: list[CalibrationBin]
    abstention_shares: dict[str, float]

    @property
    def abstention_rate(self) -> float:
        """Share of rows without an answer."""
        return sum(self.abstention_shares.values())


def compute_metrics(predictions: HoldoutPredictions, samples: BootstrapSamples) -> HoldoutMetrics:
    """Compute every metric of held-out predictions; a positive group counts as missed if one of its rows is."""
    y, is_flagged = predictions.y, predictions.positive_probability >= predictions.operating_point.threshold
    predicted = predictions.class_probabilities.argmax(1)
    classes = predictions.class_probabilities.shape[1]
    confusion = np.zeros((classes, classes), np.intp)
    np.add.at(confusion, (predictions.labels, predicted), 1)
    positive_groups = set(predictions.groups[y == 1].tolist())
    missed_groups = set(predictions.groups[(y == 1) & ~is_flagged].tolist())
    reasons, counts = np.unique(
        predictions.abstention_reasons[predictions.abstention_reasons != ""], return_counts=True
    )
    return HoldoutMetrics(
        unit=predictions.unit,
        rows=len(y),
        groups=len(set(predictions.groups.tolist())),
        positives=int(y.sum()),
        metrics=compute_intervals(y, predictions.positive_probability, samples),
        accuracy=_share_interval((predictions.positive_probability >= 0.5) == (y == 1), np.ones(len(y)), samples),
        accuracy_classes=_share_interval(predicted == predictions.labels, np.ones(len(y)), samples),
        confusion=confusion,
        sensitivity=_share_interval(is_flagged, y, samples),
        missed_groups=len(missed_groups),
        sensitivity_bound=lower_bound(len(positive_groups) - len(missed_groups), len(positive_groups)),
        specificity=_share_interval(~is_flagged, 1 - y, samples),
        bins=calibration_bins(predictions.positive_probability, y == 1, CALIBRATION_BINS),
        abstention_shares={str(reason): float(count / len(y)) for reason, count in zip(reasons, counts, strict=True)},
    )


def _share_interval(mask: NDArray[np.bool_], row_weights: NDArray[np.float64], samples: BootstrapSamples) -> Interval:
    """Share of the rows in `mask` (n,), weighted by `row_weights` (n,)."""
    hit_weights = mask * row_weights

    def values(weights: np.ndarray) -> np.ndarray:
        total = weights @ row_weights
        return np.where(total > 0, weights @ hit_weights / np.where(total > 0, total, 1), np.nan)

    return bootstrap_interval(values, samples)


@dataclass(frozen=True)
class SlideEvaluationReport:
    """The results of an evaluation. `main`: slides, or cells where there are none; `tiles`: those of held-out slides.

    false_alarm_rate, ood_detection_rate: share of the held-out and of the out-of-distribution tiles that are called out
    of distribution; None where there are no such tiles.
    """

    main: HoldoutMetrics
    tiles: HoldoutMetrics | None
    claim: str
    claim_zh: str
    claimable: bool
    ood_threshold: float
    false_alarm_rate: float
    ood_detection_rate: float | None
    int8_verdict: Int8Comparison | None
    int8_extra_alarms: float | None  # false-alarm rate that 8 bits add, on calibration tiles
    shortcut: ShortcutResult | None
    remarks: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, Interval]:
        return self.main.metrics

    @property
    def offers_int8(self) -> bool:
        """Whether the 8-bit graph is faster, ranks as well, and adds few false alarms."""
        if self.int8_verdict is None or self.int8_extra_alarms is None:
            return False
        return self.int8_verdict.acceptable and self.int8_extra_alarms <= MAX_EXTRA_ALARMS

    def to_metrics(self) -> dict[str, float]:
        """Finite metrics by name, as an MLflow run records them."""
        metrics = {"alarms": self.false_alarm_rate, "familiar": self.ood_threshold, "claimable": float(self.claimable)}
        if self.ood_detection_rate is not None:
            metrics["strange"] = self.ood_detection_rate
        for name, subset in (("", self.main), ("tiles/", self.tiles)):
            if subset is None:
                continue
            metrics |= {
                f"{name}rows": subset.rows,
                f"{name}positives": subset.positives,
                f"{name}missed": subset.missed_groups,
            }
            metrics |= {
                f"{name}sensitivity_bound": subset.sensitivity_bound,
                f"{name}abstained": subset.abstention_rate,
            }
            for metric, value in _named_intervals(subset).items():
                metrics |= {f"{name}{metric}": value.value}
                metrics |= {f"{name}{metric}_low": value.low, f"{name}{metric}_high": value.high}
        if self.int8_verdict is not None:
            metrics |= {
                "int8/speed": self.int8_verdict.speed,
                "int8/auc_cost": self.int8_verdict.auc - self.int8_verdict.auc_int8,
            }
        if self.shortcut is not None:
            metrics["shortcut/auc"] = self.shortcut.auc
        return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """The results for the card, with intervals; NaN becomes None."""
        return {
            **_metrics_json(self.main),
            "tiles": None if self.tiles is None else _metrics_json(self.tiles),
            "claim": self.claim,
            "familiar": self.ood_threshold,
            "alarms": self.false_alarm_rate,
            "strange": self.ood_detection_rate,
            "int8": None
            if self.int8_verdict is None
            else {
                "offered": self.offers_int8,
                "speed": self.int8_verdict.speed,
                "auc": self.int8_verdict.auc,
                "auc_int8": self.int8_verdict.auc_int8,
                "extra_alarms": self.int8_extra_alarms,
            },
            "shortcut": None
            if self.shortcut is None
            else {"auc": self.shortcut.auc, "cries": self.shortcut.flagged, "told": self.shortcut.en},
            "remarks": self.remarks,
        }


UNITS_ZH = {"slides": "切片", "cells": "细胞"}


def decide(
    evaluation: SlideEvaluationReport,
    config: SlideGateConfig,
    parity: GateCheck,
    comparison: ChampionComparison | None,
    *,
    first_model: bool = True,
    without_evidence: bool = False,
) -> GateVerdict:
    """Run every check, also after one has failed. `comparison` is None for the first model of a name.

    first_model, without_evidence: of the operator's GateFloors.
    """
    main, shortcut, unit_zh = evaluation.main, evaluation.shortcut, UNITS_ZH[evaluation.main.unit]
    checks = [
        *check_performance(evaluation.metrics, config),
        GateCheck(
            "sensitivity",
            evaluation.claimable and main.sensitivity_bound >= config.min_sensitivity_bound,
            f"{evaluation.claim} {main.missed_groups} of the held-out {main.unit} were missed: at least "
            f"{main.sensitivity_bound:.4f}",
            f"a claimable sensitivity, and at least {config.min_sensitivity_bound:g} on the held-out {main.unit}",
            f"{evaluation.claim_zh}留出{unit_zh}漏检 {main.missed_groups}：不低于 {main.sensitivity_bound:.4f}",
            f"可声明，且在留出{unit_zh}上不低于 {config.min_sensitivity_bound:g}",
        ),
        GateCheck(
            "answers",
            main.abstention_rate <= config.max_abstained,
            f"no answer for {main.abstention_rate:.1%} of the held-out {main.unit}",
            f"at most {config.max_abstained:.0%}",
            f"{main.abstention_rate:.1%} 的留出{unit_zh}未作答",
            f"不超过 {config.max_abstained:.0%}",
        ),
        GateCheck(
            "familiar tiles",
            evaluation.false_alarm_rate <= config.max_false_alarms,
            f"{evaluation.false_alarm_rate:.1%} of the held-out tiles called out of distribution",
            f"at most {config.max_false_alarms:.0%}",
            f"{evaluation.false_alarm_rate:.1%} 的留出图块被判为与训练图块不同",
            f"不超过 {config.max_false_alarms:.0%}",
        ),
        GateCheck(
            "strange tiles",
            without_evidence
            if evaluation.ood_detection_rate is None
            else evaluation.ood_detection_rate >= config.min_ood_detection,
            "there are none to test"
            if evaluation.ood_detection_rate is None
            else f"{evaluation.ood_detection_rate:.1%} recognised as out of distribution",
            f"at least {config.min_ood_detection:.0%}",
            "没有可测试的图块"
            if evaluation.ood_detection_rate is None
            else f"识别出其中 {evaluation.ood_detection_rate:.1%}",
            f"不低于 {config.min_ood_detection:.0%}",
        ),
        GateCheck(
            "shortcut",
            without_evidence if shortcut is None else not shortcut.flagged,
            "not tested" if shortcut is None else shortcut.en.rstrip("."),
            "labels that colour and compression alone do not predict",
            "未检查" if shortcut is None else shortcut.zh.rstrip("。"),
            "仅凭颜色与压缩不能判断标签",
        ),
        parity,
        check_champion(comparison, first_model),
    ]
    return GateVerdict(tuple(checks))


def _named_intervals(metrics: HoldoutMetrics) -> dict[str, Interval]:
    return {
        **metrics.metrics,
        "accuracy": metrics.accuracy,
        "accuracy_classes": metrics.accuracy_classes,
        "sensitivity": metrics.sensitivity,
        "specificity": metrics.specificity,
    }


def _metrics_json(metrics: HoldoutMetrics) -> dict[str, Any]:
    return {
        "unit": metrics.unit,
        "rows": metrics.rows,
        "groups": metrics.groups,
        "positives": metrics.positives,
        **{name: value.to_json() for name, value in _named_intervals(metrics).items()},
        "confusion": metrics.confusion.tolist(),
        "missed": metrics.missed_groups,
        "sensitivity_bound": metrics.sensitivity_bound,
        "abstained": metrics.abstention_shares,
    }
