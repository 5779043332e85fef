"""The questions put to a model that reads slides or cells, on those that it never saw, and what it must reach.

Every figure is of the exported graphs, read as a service reads. Slides of one patient, or cells of one source, are
drawn together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.pathology.export import Verdict as Small
from models.pathology.operating_point import Point, lower_bound
from training.config import Settings
from training.evaluation.evaluate import Bin, parts
from training.evaluation.metrics import Draws, Interval, measures, statistic
from training.evaluation.promotion_gate import Against, Bounds, Check, Verdict, better, exported, sound
from training.pathology.shortcut_detector import Shortcut

EXTRA_ALARMS = 0.05  # of an 8-bit graph, at most


class JudgeConfig(Settings):
    """How closely to look."""

    resamples: int = Field(default=300, ge=20)
    plots: bool = True
    small: bool = True  # try the 8-bit graph
    shortcut: bool = True  # ask what colour and compression alone would tell
    threads: int = Field(default=2, ge=1)


class PathologyGate(Bounds):
    """What it must reach to serve."""

    least_bound: float = Field(default=0.85, ge=0, lt=1)  # exact lower bound of sensitivity on the held-out rows
    most_alarms: float = Field(default=0.15, gt=0, le=1)  # of held-out familiar tiles, called unlike all learned from
    least_strange: float = Field(default=0.5, ge=0, le=1)  # of strange tiles, called so
    most_abstained: float = Field(default=0.25, gt=0, le=1)


@dataclass(frozen=True)
class Answered:
    """Held-out rows and what was said of them: slides, or cells where the model reads no slide.

    told: (n, classes) probabilities by temperature. stated: (n,) calibrated probability of a positive class.
    abstained: (n,) why no answer is given, "" where one is.
    """

    unit: str  # "slides" or "cells"
    labels: NDArray[np.intp]
    told: NDArray[np.float64]
    stated: NDArray[np.float64]
    positive: NDArray[np.intp]  # places of the positive classes
    groups: NDArray[Any]
    abstained: NDArray[np.str_]
    point: Point

    @property
    def y(self) -> NDArray[np.float64]:
        return np.isin(self.labels, self.positive).astype(np.float64)

    def draws(self, resamples: int, seed: int) -> Draws:
        return Draws(len(self.labels), resamples, seed, self.groups)


@dataclass(frozen=True)
class Found:
    """What was found on one set of rows. confusion: (classes, classes) rows of a class, by the class told."""

    unit: str
    rows: int
    groups: int
    positives: int
    figures: dict[str, Interval]
    accuracy: Interval  # positive or not
    accuracy_classes: Interval
    confusion: NDArray[np.intp]
    sensitivity: Interval
    missed: int
    bound: float  # exact, one-sided 95 %, of the sensitivity, each positive group a trial
    specificity: Interval
    bins: list[Bin]
    abstained: dict[str, float]

    @property
    def silent(self) -> float:
        """Share without an answer."""
        return sum(self.abstained.values())


def look(answered: Answered, draws: Draws) -> Found:
    y, at_risk = answered.y, answered.stated >= answered.point.threshold
    argmax = answered.told.argmax(1)
    classes = answered.told.shape[1]
    confusion = np.zeros((classes, classes), np.intp)
    np.add.at(confusion, (answered.labels, argmax), 1)
    patients = set(answered.groups[y == 1].tolist())
    missed = set(answered.groups[(y == 1) & ~at_risk].tolist())
    reasons, counts = np.unique(answered.abstained[answered.abstained != ""], return_counts=True)
    return Found(
        unit=answered.unit,
        rows=len(y),
        groups=len(set(answered.groups.tolist())),
        positives=int(y.sum()),
        figures=measures(y, answered.stated, draws),
        accuracy=_share((answered.stated >= 0.5) == (y == 1), np.ones(len(y)), draws),
        accuracy_classes=_share(argmax == answered.labels, np.ones(len(y)), draws),
        confusion=confusion,
        sensitivity=_share(at_risk, y, draws),
        missed=len(missed),
        bound=lower_bound(len(patients) - len(missed), len(patients)),
        specificity=_share(~at_risk, 1 - y, draws),
        bins=parts(y, answered.stated),
        abstained={str(why): float(count / len(y)) for why, count in zip(reasons, counts, strict=True)},
    )


def _share(hit: NDArray[np.bool_], among: NDArray[np.float64], draws: Draws) -> Interval:
    """Share of `hit` among rows of weight `among`."""
    kept = hit * among

    def values(weights: np.ndarray) -> np.ndarray:
        of = weights @ among
        return np.where(of > 0, weights @ kept / np.where(of > 0, of, 1), np.nan)

    return statistic(values, draws)


@dataclass(frozen=True)
class Judgement:
    """Everything found. `main`: slides, or cells where there are none; `tiles`: those of the held-out slides.

    alarms, strange: share called unlike all learned from, of familiar and of strange tiles; None where none were tried.
    """

    main: Found
    tiles: Found | None
    claim: str
    claim_zh: str
    claimable: bool
    familiar: float
    alarms: float
    strange: float | None
    small: Small | None
    small_extra: float | None  # false alarms of the 8-bit graph beyond the whole one's, on calibration tiles
    shortcut: Shortcut | None
    remarks: list[str] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Interval]:
        return self.main.figures

    @property
    def offers_small(self) -> bool:
        """In 8 bits it is faster, orders as well, and does not take the familiar for strange."""
        if self.small is None or self.small_extra is None:
            return False
        return self.small.offered and self.small_extra <= EXTRA_ALARMS

    def flat(self) -> dict[str, float]:
        """Finite figures by name, as a run records them."""
        found = {"alarms": self.alarms, "familiar": self.familiar, "claimable": float(self.claimable)}
        if self.strange is not None:
            found["strange"] = self.strange
        for name, part in (("", self.main), ("tiles/", self.tiles)):
            if part is None:
                continue
            found |= {f"{name}rows": part.rows, f"{name}positives": part.positives, f"{name}missed": part.missed}
            found |= {f"{name}sensitivity_bound": part.bound, f"{name}abstained": part.silent}
            for figure, value in _intervals(part).items():
                found |= {f"{name}{figure}": value.value}
                found |= {f"{name}{figure}_low": value.low, f"{name}{figure}_high": value.high}
        if self.small is not None:
            found |= {"int8/speed": self.small.speed, "int8/auc_cost": self.small.auc - self.small.auc_int8}
        if self.shortcut is not None:
            found["shortcut/auc"] = self.shortcut.auc
        return {name: float(value) for name, value in found.items() if np.isfinite(value)}

    def json(self) -> dict[str, Any]:
        """The same for the card, with intervals; NaN is None."""
        return {
            **_json(self.main),
            "tiles": None if self.tiles is None else _json(self.tiles),
            "claim": self.claim,
            "familiar": self.familiar,
            "alarms": self.alarms,
            "strange": self.strange,
            "int8": None
            if self.small is None
            else {
                "offered": self.offers_small,
                "speed": self.small.speed,
                "auc": self.small.auc,
                "auc_int8": self.small.auc_int8,
                "extra_alarms": self.small_extra,
            },
            "shortcut": None
            if self.shortcut is None
            else {"auc": self.shortcut.auc, "cries": self.shortcut.cries, "told": self.shortcut.en},
            "remarks": self.remarks,
        }


UNITS_ZH = {"slides": "切片", "cells": "细胞"}


def decide(
    judgement: Judgement, config: PathologyGate, parity: Mapping[str, float], against: Against | None
) -> Verdict:
    """Every check, not only up to the first that fails. `against` is None for the first model of a name."""
    main, shortcut, unit_zh = judgement.main, judgement.shortcut, UNITS_ZH[judgement.main.unit]
    checks = [
        *sound(judgement.figures, config),
        Check(
            "sensitivity",
            judgement.claimable and main.bound >= config.least_bound,
            f"{judgement.claim} On the held-out {main.unit} {main.missed} were missed: at least {main.bound:.4f}",
            f"a claim, and at least {config.least_bound:g} on the held-out {main.unit}",
            f"{judgement.claim_zh}留出{unit_zh}漏检 {main.missed}：不低于 {main.bound:.4f}",
            f"可声明，且在留出{unit_zh}上不低于 {config.least_bound:g}",
        ),
        Check(
            "answers",
            main.silent <= config.most_abstained,
            f"no answer for {main.silent:.1%} of the held-out {main.unit}",
            f"at most {config.most_abstained:.0%}",
            f"{main.silent:.1%} 的留出{unit_zh}未作答",
            f"不超过 {config.most_abstained:.0%}",
        ),
        Check(
            "familiar tiles",
            judgement.alarms <= config.most_alarms,
            f"{judgement.alarms:.1%} of the held-out tiles called unlike all learned from",
            f"at most {config.most_alarms:.0%}",
            f"{judgement.alarms:.1%} 的留出图块被判为与训练图块不同",
            f"不超过 {config.most_alarms:.0%}",
        ),
        Check(
            "strange tiles",
            judgement.strange is None or judgement.strange >= config.least_strange,
            "none to try" if judgement.strange is None else f"{judgement.strange:.1%} of them recognised",
            f"at least {config.least_strange:.0%}",
            "没有可试的图块" if judgement.strange is None else f"识别出其中 {judgement.strange:.1%}",
            f"不低于 {config.least_strange:.0%}",
        ),
        Check(
            "shortcut",
            shortcut is None or not shortcut.cries,
            "not looked for" if shortcut is None else shortcut.en.rstrip("."),
            "labels that colour and compression alone do not tell",
            "未检查" if shortcut is None else shortcut.zh.rstrip("。"),
            "仅凭颜色与压缩不能判断标签",
        ),
        exported(parity),
        better(against),
    ]
    return Verdict(tuple(checks))


def _intervals(found: Found) -> dict[str, Interval]:
    return {
        **found.figures,
        "accuracy": found.accuracy,
        "accuracy_classes": found.accuracy_classes,
        "sensitivity": found.sensitivity,
        "specificity": found.specificity,
    }


def _json(found: Found) -> dict[str, Any]:
    return {
        "unit": found.unit,
        "rows": found.rows,
        "groups": found.groups,
        "positives": found.positives,
        **{name: value.json() for name, value in _intervals(found).items()},
        "confusion": found.confusion.tolist(),
        "missed": found.missed,
        "sensitivity_bound": found.bound,
        "abstained": found.abstained,
    }
