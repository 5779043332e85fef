"""Whether a new model may take the champion's place, and if not, exactly why.

verdict = decide(judgement, config, parity, faults, against)
verdict.passed, verdict.why      # False, ["AUC: less than the champion's by .0123 ..."]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import Field

from datasets.errors import DataError
from datasets.schema import Column
from models import evaluation_summary
from models.bundle import Bundle
from training.config import Settings
from training.evaluation.evaluate import Judgement
from training.evaluation.fairness import Group
from training.evaluation.metrics import Draws, Interval, difference


class Bounds(Settings):
    """What any model must reach to serve."""

    least_auc: float = Field(default=0.5, ge=0.5, lt=1)  # the interval's lower end must be above it
    slope: tuple[float, float] = (0.8, 1.25)  # of calibration
    intercept: tuple[float, float] = (-0.25, 0.25)  # of calibration, in log-odds


class GateConfig(Bounds):
    """And what that of a table must."""

    least_approval_ratio: float = Field(default=0.8, ge=0, le=1)  # of an audit group to the largest: four fifths
    least_limit_ratio: float = Field(default=0.8, ge=0, le=1)  # at equal PD
    most_psi: float = Field(default=0.25, gt=0)  # of the score, training to held-out rows


@dataclass(frozen=True)
class Check:
    """One thing that must hold; what was found and what was needed are sentences."""

    name: str
    passed: bool
    found: str
    needed: str
    found_zh: str
    needed_zh: str

    def __str__(self) -> str:
        return f"{self.name}: {self.found}" + ("" if self.passed else f"; needed: {self.needed}")


@dataclass(frozen=True)
class Against:
    """The champion on the very rows that the new model is judged on. `refused`: why it could not be compared."""

    version: str
    gain: Interval | None = None  # our AUC less the champion's
    refused: str = ""


@dataclass(frozen=True)
class Verdict:
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def why(self) -> list[str]:
        return [str(check) for check in self.checks if not check.passed]

    def told(self) -> evaluation_summary.Verdict:
        """For the card."""
        return evaluation_summary.Verdict(
            passed=self.passed, checks=tuple(evaluation_summary.Check(**vars(check)) for check in self.checks)
        )


def decide(
    judgement: Judgement,
    config: GateConfig,
    parity: Mapping[str, float],
    policy_faults: Sequence[str],
    against: Against | None,
) -> Verdict:
    """Every check, not only up to the first that fails. `against` is None for the first model of a name."""
    checks = [
        *sound(judgement.figures, config),
        Check(
            "stability",
            judgement.psi["score"] <= config.most_psi,
            f"PSI of the score from training to held-out rows {judgement.psi['score']:.3f}",
            f"at most {config.most_psi:g}",
            f"训练集至留出集的评分 PSI {judgement.psi['score']:.3f}",
            f"不高于 {config.most_psi:g}",
        ),
        exported(parity),
        Check(
            "policy",
            not policy_faults,
            "every guard rail holds" if not policy_faults else "; ".join(policy_faults),
            "every guard rail proved",
            "全部护栏成立" if not policy_faults else f"不成立：{'；'.join(policy_faults)}",
            "全部护栏得到证明",
        ),
        *_fair(judgement.groups, config),
    ]
    return Verdict((*checks, better(against)))


def sound(figures: Mapping[str, Interval], config: Bounds) -> list[Check]:
    """Whether the probabilities order and mean what they say.

    A calibration figure passes where its interval lies within the bounds, or where the figure itself does and its
    interval holds the perfect value: few rows make a wide interval, which is no sign of a wrong PD.
    """
    area = figures["auc"]
    return [
        Check(
            "discrimination",
            area.low > config.least_auc,
            f"AUC {area}",
            f"all of the interval over {config.least_auc}",
            f"AUC {area}",
            f"整个区间高于 {config.least_auc}",
        ),
        _calibrated("calibration slope", figures["slope"], config.slope, perfect=1.0),
        _calibrated("calibration intercept", figures["intercept"], config.intercept, perfect=0.0),
    ]


def exported(parity: Mapping[str, float]) -> Check:
    """A graph that differs from its model comes no further than the export; this tells by how little it does."""
    found = ", ".join(f"{name} {value:.1e}" for name, value in parity.items())
    return Check("parity", True, found, "exact export", found, "导出结果与模型一致")


def against(
    champion: Bundle, frame: pl.DataFrame, columns: Sequence[Column], y: np.ndarray, pd: np.ndarray, draws: Draws
) -> Against:
    """The champion's AUC on the held-out rows beside ours, by its own bundle. `columns`: of the rows' contract."""
    from models.feature_encoder import encode
    from models.trees.onnx_session import Graph

    there = {column.name: column.kind for column in columns}
    absent = [column.name for column in champion.card.inputs if there.get(column.name) != column.kind]
    if absent:
        return Against(champion.card.version, refused=f"it reads columns that this table lacks: {', '.join(absent)}")
    try:
        theirs = Graph(champion.graph).run(encode(frame, champion.card.inputs)).pd
    except (DataError, ValueError) as error:
        return Against(champion.card.version, refused=f"it cannot read these rows: {error}")
    return Against(champion.card.version, difference(y, pd, theirs, draws))


def better(against: Against | None) -> Check:
    """All of the interval of the AUC's gain over 0, on the rows that judge."""
    if against is None:
        return Check("better than the champion", True, "there is no champion yet", "", "尚无在线版本", "")
    name = f"better than the champion {against.version}"
    if against.gain is None:
        by_hand = "python -m training promote MODEL VERSION --force --reason ..."
        return Check(
            name,
            False,
            f"the champion could not be compared: {against.refused}",
            f"a comparison; or promote by hand: {by_hand}",
            f"无法与在线版本比较：{against.refused}",
            f"与在线版本比较；或人工上线：{by_hand}",
        )
    gain = against.gain
    return Check(
        name,
        gain.low > 0,
        f"AUC differs by {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
        "an AUC above the champion's on the same rows, all of the interval",
        f"AUC 相差 {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
        "相同数据上 AUC 高于在线版本，且整个区间高于",
    )


def _calibrated(name: str, found: Interval, bounds: tuple[float, float], perfect: float) -> Check:
    low, high = bounds
    surely = low <= found.low and found.high <= high
    likely = low <= found.value <= high and found.low <= perfect <= found.high
    needed = f"within {low:g} to {high:g}, the interval too unless it holds {perfect:g}"
    needed_zh = f"在 {low:g} 至 {high:g} 之间，区间亦然（含 {perfect:g} 者除外）"
    return Check(name, surely or likely, str(found), needed, str(found), needed_zh)


def _fair(groups: Sequence[Group], config: GateConfig) -> list[Check]:
    """One check of approvals and one of limits, each naming every group that falls short."""
    approvals = [(group, group.approval_ratio) for group in groups]
    limits = [(group, group.limit_ratio_at_equal_pd) for group in groups]
    checks = []
    for name, least, ratios in (
        ("fairness of approvals", config.least_approval_ratio, approvals),
        ("fairness of limits at equal PD", config.least_limit_ratio, limits),
    ):
        known = [(group, ratio) for group, ratio in ratios if np.isfinite(ratio.value)]
        short = [f"{group.name} {ratio}" for group, ratio in known if ratio.value < least]
        if short:
            found = found_zh = "; ".join(short)
        elif known:
            worst, ratio = min(known, key=lambda pair: pair[1].value)
            found, found_zh = f"least ratio {worst.name} {ratio}", f"最低比率 {worst.name} {ratio}"
        else:
            found, found_zh = "no audit group to compare", "没有可比较的审计组"
        needed, needed_zh = f"a ratio of {least:g} or more to the largest group", f"与最大组的比率不低于 {least:g}"
        checks.append(Check(name, not short, found, needed, found_zh, needed_zh))
    return checks
