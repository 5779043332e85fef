"""Decide whether a new model may replace the champion, and if not, exactly why.

verdict = decide(evaluation, config, parity_check, policy_problems, comparison)
verdict.passed, verdict.failures      # False, ["discrimination: AUC 0.5050 [0.4850, 0.5250]; needed: ..."]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import Field

from datasets.errors import DataError
from datasets.leakage import Leak
from datasets.schema import ColumnSchema
from models import evaluation_summary
from models.bundle import Bundle
from models.metrics import Interval
from training.config import ConfigSection
from training.evaluation.evaluate import EvaluationReport
from training.evaluation.fairness import AuditGroup
from training.evaluation.metrics import BootstrapSamples, auc_difference


class GateThresholds(ConfigSection):
    """What every model must reach to be promoted."""

    min_auc: float = Field(default=0.5, ge=0.5, lt=1)  # the lower end of the interval must be above it
    slope: tuple[float, float] = (0.8, 1.25)  # of calibration
    intercept: tuple[float, float] = (-0.25, 0.25)  # of calibration, in log-odds


class TabularGateConfig(GateThresholds):
    """What a tabular model must reach as well."""

    min_approval_ratio: float = Field(
        default=0.8, ge=0, le=1
    )  # of an audit group to the largest one: the four-fifths rule
    min_limit_ratio: float = Field(default=0.8, ge=0, le=1)  # at equal PD
    max_psi: float = Field(default=0.25, gt=0)  # of the score, training to held-out rows
    max_auc: float = Field(default=0.98, gt=0.5, le=1)  # of each input and of the model's whole interval
    max_auc_reason: str = ""  # why the model may exceed it; an input's own reason is in its column


@dataclass(frozen=True)
class GateCheck:
    """One condition of the gate, with what was found and what is needed, in English and Chinese."""

    name: str
    passed: bool
    found: str
    needed: str
    found_zh: str
    needed_zh: str

    def __str__(self) -> str:
        return f"{self.name}: {self.found}" + ("" if self.passed else f"; needed: {self.needed}")


@dataclass(frozen=True)
class ChampionComparison:
    """The champion on the rows that the new model is evaluated on. `failure`: why it could not be compared."""

    version: str
    auc_gain: Interval | None = None  # AUC of the new model minus the champion's
    failure: str = ""


@dataclass(frozen=True)
class GateVerdict:
    """The gate's checks; the model passes when all of them do."""

    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[str]:
        return [str(check) for check in self.checks if not check.passed]

    def to_card(self) -> evaluation_summary.GateVerdict:
        """The verdict as the signed card stores it."""
        return evaluation_summary.GateVerdict(
            passed=self.passed, checks=tuple(evaluation_summary.CheckResult(**vars(check)) for check in self.checks)
        )


def decide(
    evaluation: EvaluationReport,
    config: TabularGateConfig,
    parity: GateCheck,
    policy_problems: Sequence[str],
    comparison: ChampionComparison | None,
    leaks: Sequence[Leak] = (),
    *,
    first_model: bool = True,
    without_evidence: bool = False,
) -> GateVerdict:
    """Run every check, also after one has failed. `comparison` is None for the first model of a name.

    leaks: inputs without a reason that are suspected to reveal the outcome. first_model, without_evidence: of the
    operator's GateFloors.
    """
    checks = [
        *check_performance(evaluation.metrics, config),
        GateCheck(
            "stability",
            evaluation.psi["score"] <= config.max_psi,
            f"PSI of the score from training to held-out rows {evaluation.psi['score']:.3f}",
            f"at most {config.max_psi:g}",
            f"训练集至留出集的评分 PSI {evaluation.psi['score']:.3f}",
            f"不高于 {config.max_psi:g}",
        ),
        parity,
        GateCheck(
            "policy",
            not policy_problems,
            "every guardrail holds" if not policy_problems else "; ".join(policy_problems),
            "every guardrail proved",
            "全部护栏成立" if not policy_problems else f"不成立：{'；'.join(policy_problems)}",
            "全部护栏得到证明",
        ),
        *_check_fairness(evaluation.groups, config, without_evidence),
        check_leakage(evaluation.metrics["auc"], leaks, config),
    ]
    return GateVerdict((*checks, check_champion(comparison, first_model)))


def check_performance(metrics: Mapping[str, Interval], config: GateThresholds) -> list[GateCheck]:
    """Check discrimination and calibration.

    A calibration metric passes where its interval lies within the bounds, or where its value does and its interval
    includes the perfect value: few rows make a wide interval, which is no sign of a wrong PD.
    """
    auc = metrics["auc"]
    return [
        GateCheck(
            "discrimination",
            auc.low > config.min_auc,
            f"AUC {auc}",
            f"the whole interval above {config.min_auc}",
            f"AUC {auc}",
            f"整个区间高于 {config.min_auc}",
        ),
        _check_calibration("calibration slope", metrics["slope"], config.slope, perfect=1.0),
        _check_calibration("calibration intercept", metrics["intercept"], config.intercept, perfect=0.0),
    ]


def check_leakage(auc: Interval, leaks: Sequence[Leak], config: TabularGateConfig) -> GateCheck:
    """Check that neither the model nor an input alone tells the outcome too well. auc: of the model."""
    actual = [f"{leak.column} alone reaches AUC {leak.auc:.3f}" for leak in leaks if leak.auc > config.max_auc]
    actual_zh = [f"{leak.column} 单列 AUC {leak.auc:.3f}" for leak in leaks if leak.auc > config.max_auc]
    if auc.low > config.max_auc and not config.max_auc_reason.strip():
        actual.append(f"the inputs together reach AUC {auc}")
        actual_zh.append(f"全部输入合计 AUC {auc}")
    expected = (
        f"at most {config.max_auc:g}. Where it is true, state why: reason in the input's column, or "
        "gate.max_auc_reason for the model"
    )
    expected_zh = f"不高于 {config.max_auc:g}；若属实，请在该列写明 reason，或在 gate.max_auc_reason 写明模型的理由"
    none, none_zh = "no input, nor all together, tells the outcome too well", "没有输入过于准确地反映结果"
    return GateCheck(
        "leakage", not actual, "; ".join(actual) or none, expected, "；".join(actual_zh) or none_zh, expected_zh
    )


def check_parity(differences: Mapping[str, float], tolerances: Mapping[str, float]) -> GateCheck:
    """Check that the exported graph computes what the fitted model does.

    differences: largest difference by output; tolerances: the largest one allowed, 0 where an output has none. NaN
    fails.
    """
    limits = {name: tolerances.get(name, 0.0) for name in differences}
    actual = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    expected = ", ".join(f"{name} {limit:g}" for name, limit in limits.items())
    passed = bool(differences) and all(differences[name] <= limit for name, limit in limits.items())
    return GateCheck(
        "parity",
        passed,
        f"largest difference between the model and its graph: {actual}",
        f"at most {expected}",
        f"模型与导出图的最大差异：{actual}",
        f"不超过 {expected}",
    )


def compare_champion(
    champion: Bundle,
    frame: pl.DataFrame,
    columns: Sequence[ColumnSchema],
    y: np.ndarray,
    pd: np.ndarray,
    samples: BootstrapSamples,
) -> ChampionComparison:
    """Compare the AUC of a new model's held-out PDs with that of the champion's own bundle on the same rows.

    columns: of the table's schema; y, pd: (held-out rows,).
    """
    from models.feature_encoder import encode
    from models.trees.onnx_session import TabularSession

    column_kinds = {column.name: column.kind for column in columns}
    missing_columns = [column.name for column in champion.card.inputs if column_kinds.get(column.name) != column.kind]
    if missing_columns:
        return ChampionComparison(
            champion.card.version,
            failure=f"it reads columns that this table does not have: {', '.join(missing_columns)}",
        )
    try:
        champion_pd = TabularSession(champion.graph).run(encode(frame, champion.card.inputs)).pd
    except (DataError, ValueError) as error:
        return ChampionComparison(champion.card.version, failure=f"it cannot read these rows: {error}")
    return ChampionComparison(champion.card.version, auc_difference(y, pd, champion_pd, samples))


def check_champion(comparison: ChampionComparison | None, first_model: bool = True) -> GateCheck:
    """Check that the whole interval of the AUC's gain over the champion is above 0.

    first_model: whether the operator lets the first model of a name pass without a comparison.
    """
    if comparison is None:
        actual, actual_zh = "this is the first model of its name", "此名称下的首个模型"
        expected, expected_zh = (
            "a comparison; configs/gate.toml allows no first model",
            "与在线版本比较；configs/gate.toml 不允许首个模型",
        )
        return GateCheck("better than the champion", first_model, actual, expected, actual_zh, expected_zh)
    name = f"better than the champion {comparison.version}"
    if comparison.auc_gain is None:
        manual_command = "python -m training promote MODEL VERSION --force --reason ..."
        return GateCheck(
            name,
            False,
            f"the champion could not be compared: {comparison.failure}",
            f"a comparison; or promote the model manually: {manual_command}",
            f"无法与在线版本比较：{comparison.failure}",
            f"与在线版本比较；或人工上线：{manual_command}",
        )
    gain = comparison.auc_gain
    return GateCheck(
        name,
        gain.low > 0,
        f"AUC differs by {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
        "an AUC above the champion's on the same rows, with the whole interval above 0",
        f"AUC 相差 {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
        "相同数据上 AUC 高于在线版本，且整个区间高于",
    )


def _check_calibration(name: str, actual: Interval, bounds: tuple[float, float], perfect: float) -> GateCheck:
    low, high = bounds
    interval_within = low <= actual.low and actual.high <= high
    consistent_with_perfect = low <= actual.value <= high and actual.low <= perfect <= actual.high
    expected = f"between {low:g} and {high:g}, and so the interval unless it includes {perfect:g}"
    expected_zh = f"在 {low:g} 至 {high:g} 之间，区间亦然（区间含 {perfect:g} 时除外）"
    return GateCheck(name, interval_within or consistent_with_perfect, str(actual), expected, str(actual), expected_zh)


def _check_fairness(groups: Sequence[AuditGroup], config: TabularGateConfig, without_evidence: bool) -> list[GateCheck]:
    """One check of approvals and one of limits, each naming every group below the minimum ratio.

    without_evidence: whether they pass where there is no group to compare.
    """
    approvals = [(group, group.approval_ratio) for group in groups]
    limits = [(group, group.limit_ratio_at_equal_pd) for group in groups]
    checks = []
    for name, minimum, ratios in (
        ("fairness of approvals", config.min_approval_ratio, approvals),
        ("fairness of limits at equal PD", config.min_limit_ratio, limits),
    ):
        defined = [(group, ratio) for group, ratio in ratios if np.isfinite(ratio.value)]
        failing = [f"{group.name} {ratio}" for group, ratio in defined if ratio.value < minimum]
        if failing:
            actual = actual_zh = "; ".join(failing)
        elif defined:
            worst_group, ratio = min(defined, key=lambda pair: pair[1].value)
            actual, actual_zh = f"lowest ratio {worst_group.name} {ratio}", f"最低比率 {worst_group.name} {ratio}"
        else:
            actual, actual_zh = "no audit group to compare", "没有可比较的审计组"
        expected, expected_zh = (
            f"a ratio of at least {minimum:g} to the largest group",
            f"与最大组的比率不低于 {minimum:g}",
        )
        passed = not failing and (bool(defined) or without_evidence)
        checks.append(GateCheck(name, passed, actual, expected, actual_zh, expected_zh))
    return checks
