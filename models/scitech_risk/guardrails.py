"""The guard rails of a sci-tech limit: each a sentence, and the condition that violates it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.policy.fact_guardrails import fact_guardrails, warning_guardrail
from models.policy.guardrails import (
    Guardrail,
    Scenario,
    describe_change,
    expected_loss,
    format_value,
    must_refer,
    non_decreasing,
    non_increasing,
    rounding_guardrail,
)
from models.scitech_risk.limit_formula import INDICATORS
from models.scitech_risk.policy import (
    CASH,
    CYCLE,
    DATA_ASSETS,
    EVIDENCE,
    INNOVATION,
    MIN_SOURCES,
    REQUIRED_STOPS,
    STAFF,
    Policy,
)

BACKING_INPUTS = ("patent_value", *DATA_ASSETS)
STOP_SENTENCES = {
    "deregistered": ("deregistration_refers", "A deregistration, or not knowing of one, refers.",
                     "已注销、吊销、清算或登记状态不明的，转人工。"),
    "enforcement_cases": ("enforcement_refers", "A case of enforcement, or not known, refers.",
                          "有被执行案件或情况不明的，转人工。"),
    "qualified_audit": ("a_qualified_audit_refers", "A qualified audit opinion, or not known, refers.",
                        "审计意见为非标准意见或情况不明的，转人工。"),
    "debt_ratio": ("negative_net_assets_refers", "Net assets of 0 or less, or not known, refer.",
                   "净资产不为正或不明的，转人工。"),
}  # fmt: skip


def _describe(template: str) -> Callable[[Scenario], str]:
    """A function that fills the template from a result: {limit}, {base}, {answer}, {points}, ..."""

    def describe(scenario: Scenario) -> str:
        result, policy = scenario.baseline, scenario.formula.policy
        return template.format(
            answer="refer" if result.referred else "approve",
            verdict=_gate_verdict(result.gate),
            limit=scenario.format_money(result.limit),
            base=scenario.format_money(result.base),
            cap=scenario.format_money(policy.product.cap),
            legal=scenario.format_money(policy.product.legal_cap),
            minimum=scenario.format_money(policy.product.minimum),
            points=format_value(result.gate.points),
            sources=format_value(result.gate.sources),
            known=format_value(scenario.baseline_inputs["known_share"]),
            least=format_value(policy.least_known.share),
            loss=scenario.format_money(expected_loss(scenario)),
            budget=scenario.format_money(_loss_budget(scenario)),
        )

    return describe


def _gate_verdict(gate: Any) -> str:
    return "block" if gate.block else "review" if gate.review else "pass"


def _describe_gate_change(scenario: Scenario) -> str:
    baseline, variant = scenario.baseline.gate, scenario.variant.gate
    changes = (f"{_gate_verdict(gate)} at {format_value(gate.points)} points" for gate in (baseline, variant))
    return f"{describe_change(scenario)}; gate {' -> '.join(changes)}"


def _loss_budget(scenario: Scenario) -> Any:
    return scenario.formula.loss_budget(scenario.baseline_inputs["pd"], scenario.baseline_inputs["known_share"])


def _evidence_helped(scenario: Scenario, slack: float) -> Any:
    """Violation: more evidence raised the limit, gave an approval, or made the verdict milder."""
    baseline, variant, logical_not = scenario.baseline.gate, scenario.variant.gate, scenario.ops.logical_not
    milder = scenario.any_of(
        scenario.all_of(baseline.block, logical_not(variant.block)),
        scenario.all_of(baseline.review, logical_not(variant.review)),
    )
    return scenario.any_of(non_increasing(scenario, slack), milder)


def _staff_harmed(scenario: Scenario, slack: float) -> Any:
    """Violation: more staff lowered the limit, cost an approval, or made the verdict more severe."""
    baseline, variant, logical_not = scenario.baseline.gate, scenario.variant.gate, scenario.ops.logical_not
    graver = scenario.any_of(
        scenario.all_of(variant.block, logical_not(baseline.block)),
        scenario.all_of(variant.review, logical_not(baseline.review)),
    )
    return scenario.any_of(non_decreasing(scenario, slack), graver)


def _blocked_but_lent(scenario: Scenario, slack: float) -> Any:
    return scenario.all_of(
        scenario.baseline.gate.block,
        scenario.any_of(scenario.baseline.unrounded > 0, scenario.ops.logical_not(scenario.baseline.referred)),
    )


def _blocked_on_too_few_sources(scenario: Scenario, slack: float) -> Any:
    """Violation; sources are counted again here, independently of the gate."""
    ops = scenario.ops
    sources: dict[str, Any] = {}
    for piece in scenario.formula.policy.gate.evidence:
        sources[piece.source] = ops.logical_or(
            sources.get(piece.source, False), scenario.baseline.gate.holds[piece.code]
        )
    count = ops.number(0.0)
    for has_evidence in sources.values():
        count = count + ops.where(has_evidence, ops.number(1.0), ops.number(0.0))
    return scenario.all_of(scenario.baseline.gate.block, count < ops.number(float(MIN_SOURCES)))


def _has_insufficient_data(scenario: Scenario) -> Any:
    """Whether too much evidence is unknown, judged by the inputs themselves."""
    ops, gate = scenario.ops, scenario.formula.policy.gate
    known, total_points = ops.number(0.0), sum(piece.points for piece in gate.evidence)
    for piece in gate.evidence:
        indicators = [piece.indicator, *([piece.beside.indicator] if piece.beside else [])]
        any_known = scenario.any_of(*(ops.is_known(scenario.baseline_inputs[name]) for name in indicators))
        known = known + ops.where(any_known, ops.number(piece.points), ops.number(0.0))
    return known < ops.number(gate.least_known * total_points) if total_points else scenario.baseline_inputs["pd"] >= 0


def _has_ownership_cycle(scenario: Scenario) -> Any:
    return scenario.all_of(scenario.ops.is_known(scenario.baseline_inputs[CYCLE]), scenario.baseline_inputs[CYCLE] >= 1)


def _revenue_bound_lowered(scenario: Scenario, slack: float) -> Any:
    """Violation: the bound of the revenue is below the plain multiples."""
    formula, revenue = scenario.formula, scenario.baseline_inputs["revenue"]
    plain_bound = formula.zero
    for stage in range(len(formula.stage_ranges)):
        multiple = scenario.ops.number(formula.policy.stages[stage].multiple)
        plain_bound = plain_bound + multiple * formula.revenue_in_stage(stage, revenue)
    return scenario.all_of(
        scenario.ops.is_known(revenue), scenario.baseline.bounds["revenue_multiple"][0] < plain_bound - slack
    )


def _exceeds_caps(scenario: Scenario, slack: float) -> Any:
    product = scenario.formula.policy.product
    return scenario.any_of(
        *(scenario.baseline.unrounded > amount + slack for amount, _ in scenario.baseline.bounds.values()),
        scenario.baseline.base > scenario.ops.number(product.cap) + slack,
        scenario.baseline.unrounded > scenario.ops.number(product.legal_cap) + slack,
    )


def _lacks_input(scenario: Scenario) -> Any:
    """Whether a required input is missing, judged by the inputs themselves."""
    required = ("operating_cash_flow", "debt_service", "revenue")
    return scenario.any_of(
        *(scenario.ops.logical_not(scenario.ops.is_known(scenario.baseline_inputs[name])) for name in required)
    )


def _budget_rises(scenario: Scenario, slack: float) -> Any:
    budget = scenario.formula.grade_budget
    return budget(scenario.variant_inputs["pd"]) > budget(scenario.baseline_inputs["pd"]) + scenario.ops.number(slack)


def _has_evidence(policy: Policy) -> bool:
    return bool(policy.gate.evidence)


def _detects_cycles(policy: Policy) -> bool:
    return any(piece.indicator == CYCLE for piece in policy.gate.evidence)


def _has_innovation_score(policy: Policy) -> bool:
    return bool(policy.innovation.indicators)


GUARDRAILS = (
    Guardrail(
        "a_block_means_nothing",
        "If the gate blocks, the limit is 0 and nothing is approved.",
        "空壳闸门拦截时，额度为 0 且不予自动批准。",
        _blocked_but_lent,
        _describe("{answer} {limit} although the gate blocks at {points} points"),
        applies_to=_has_evidence,
    ),
    Guardrail(
        "a_review_refers",
        "If the gate asks for a review, a person decides.",
        "空壳闸门要求复核时转人工。",
        must_refer(lambda scenario: scenario.baseline.gate.review),
        _describe("{answer} {limit} although the gate says {verdict}"),
    ),
    Guardrail(
        "a_block_needs_independent_evidence",
        f"No company is blocked on evidence from fewer than {MIN_SOURCES} independent sources.",
        f"拦截须有至少 {MIN_SOURCES} 个独立来源的证据。",
        _blocked_on_too_few_sources,
        _describe("blocked at {points} points from {sources} source"),
        applies_to=_has_evidence,
    ),
    Guardrail(
        "more_evidence_never_helps",
        "More evidence of a shell never raises the limit or makes the verdict milder.",
        "空壳证据增加，额度不会更高，结论不会更轻。",
        _evidence_helped,
        _describe_gate_change,
        varied_fields=EVIDENCE,
        applies_to=_has_evidence,
    ),
    Guardrail(
        "more_staff_never_harms",
        "More insured staff never makes the verdict more severe or lowers the limit.",
        "参保人数增加，结论不会更重，额度不会更低。",
        _staff_harmed,
        _describe_gate_change,
        varied_fields=(STAFF,),
        applies_to=_has_evidence,
    ),
    Guardrail(
        "an_ownership_cycle_refers",
        "A company that owns itself is referred to a person.",
        "循环持股的企业转人工。",
        must_refer(_has_ownership_cycle),
        _describe("{answer} {limit} although its owner cannot be determined"),
        applies_to=_detects_cycles,
    ),
    Guardrail(
        "a_blind_gate_refers",
        "If too little of the evidence is known, a person decides.",
        "可核验证据过少时转人工。",
        must_refer(_has_insufficient_data),
        _describe("{answer} {limit} although the gate knows too little"),
    ),
    Guardrail(
        "too_little_known_refers",
        "A company about which too little is known is referred to a person.",
        "已知信息过少时转人工。",
        must_refer(
            lambda scenario: (
                scenario.baseline_inputs["known_share"] < scenario.ops.number(scenario.formula.policy.least_known.share)
            )
        ),
        _describe("{answer} {limit} although only {known} is known, and {least} is needed"),
    ),
    Guardrail(
        "knowing_more_never_lowers",
        "Knowing more of the PD's inputs, at the same PD, never lowers the limit.",
        "违约概率相同时，已知信息更多，额度不会更低。",
        non_decreasing,
        describe_change,
        varied_fields=("known_share",),
        unfolds=("grade_budget",),
    ),
    Guardrail(
        "below_the_floor_refers",
        "A grade below the floor is referred to a person.",
        "低于准入等级转人工。",
        must_refer(
            lambda scenario: scenario.baseline_inputs["pd"] > scenario.ops.number(scenario.formula.policy.approval_pd)
        ),
        _describe("{answer} {limit} below the floor grade"),
    ),
    Guardrail(
        "a_lacking_bound_refers",
        "A bound without its input is referred to a person.",
        "缺少测算依据转人工。",
        must_refer(_lacks_input),
        _describe("{answer} {limit} although a bound has no input"),
    ),
    Guardrail(
        "more_risk_never_raises",
        "A higher PD never raises the limit.",
        "违约概率更高，额度不会更高。",
        non_increasing,
        describe_change,
        varied_fields=("pd",),
    ),
    Guardrail(
        "a_worse_grade_has_no_larger_budget",
        "A worse grade never has a larger loss budget.",
        "等级更差，损失预算不会更大。",
        _budget_rises,
        lambda scenario: (
            f"PD {format_value(scenario.baseline_inputs['pd'])} -> "
            f"{format_value(scenario.variant_inputs['pd'])}: budget "
            f"{scenario.format_money(scenario.formula.grade_budget(scenario.baseline_inputs['pd']))} -> "
            f"{scenario.format_money(scenario.formula.grade_budget(scenario.variant_inputs['pd']))}"
        ),
        varied_fields=("pd",),
    ),
    Guardrail(
        "loss_budget_holds",
        "The expected loss of the base limit stays within the grade's budget.",
        "基础额度的预期损失不超过等级预算。",
        lambda scenario, slack: expected_loss(scenario) > _loss_budget(scenario) + slack,
        _describe("expected loss {loss} a year with a budget of {budget}"),
        unfolds=("risk_limit", "base_limit"),
    ),
    Guardrail(
        "more_cash_flow_never_lowers",
        "More operating cash flow never lowers the limit.",
        "经营现金流更多，额度不会更低。",
        non_decreasing,
        describe_change,
        varied_fields=("operating_cash_flow",),
    ),
    Guardrail(
        "more_debt_service_never_raises",
        "More debt service never raises the limit.",
        "偿债支出更多，额度不会更高。",
        non_increasing,
        describe_change,
        varied_fields=("debt_service",),
    ),
    Guardrail(
        "more_revenue_never_lowers",
        "More revenue never lowers the limit, not even at the edge of a stage.",
        "营业收入更多，额度不会更低，跨阶段时亦然。",
        non_decreasing,
        describe_change,
        varied_fields=("revenue",),
    ),
    Guardrail(
        "more_backing_never_lowers",
        "More patents or data assets never lower the limit.",
        "专利或数据资产更多，额度不会更低。",
        non_decreasing,
        describe_change,
        varied_fields=BACKING_INPUTS,
    ),
    Guardrail(
        "more_innovation_never_lowers",
        "More of any indicator of innovation never lowers the limit.",
        "任何创新指标提高，额度不会更低。",
        non_decreasing,
        describe_change,
        varied_fields=tuple(name for name in INNOVATION if name != "revenue"),
        applies_to=_has_innovation_score,
    ),
    Guardrail(
        "innovation_only_raises",
        "Innovation never lowers the bound of the revenue below its plain multiple.",
        "创新评分只会提高、不会降低收入倍数。",
        _revenue_bound_lowered,
        _describe("a base of {base}, below what the plain multiple of the revenue gives"),
        unfolds=("revenue_limit", "stage_limit", "revenue_in_stage", "stage_multiple"),
        applies_to=_has_innovation_score,
    ),
    warning_guardrail(),
    *fact_guardrails(REQUIRED_STOPS, STOP_SENTENCES, INDICATORS, (*CASH, "revenue")),
    Guardrail(
        "caps_always_hold",
        "No limit, indicative or not, exceeds a cap or bound that the ledger shows.",
        "任何额度（含参考额度）不超过明细所列的各项上限。",
        _exceeds_caps,
        _describe("base {base} with a cap of {cap}, limit {limit} with a legal cap of {legal}"),
        unfolds=("base_limit",),
    ),
    Guardrail(
        "amounts_never_negative",
        "No bound and no limit is below 0.",
        "任何上限与额度都不为负。",
        lambda scenario, slack: scenario.any_of(
            *(amount < 0 for amount, _ in scenario.baseline.bounds.values()), scenario.baseline.unrounded < 0
        ),
        _describe("base {base}, limit {limit}"),
    ),
    Guardrail(
        "an_approval_has_money",
        "An approved limit is not below the minimum.",
        "批准的额度不低于最低额度。",
        lambda scenario, slack: scenario.all_of(
            scenario.ops.logical_not(scenario.baseline.referred),
            scenario.baseline.unrounded < scenario.ops.number(scenario.formula.policy.product.minimum),
        ),
        _describe("{answer} {limit} with a minimum of {minimum}"),
        unfolds=("base_limit",),
    ),
    rounding_guardrail("patent_value"),
)
