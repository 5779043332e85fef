"""The guard rails of a credit limit: each a sentence, and the condition that violates it.

`is_violated` is written in the operations of arithmetic.py, so one definition serves the solver and the floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.credit_limit.limit_formula import APPRAISAL, ASSETS, CONDUCT
from models.credit_limit.policy import (
    ADULT_AGE,
    INCOME,
    MAX_SELF_WEIGHT,
    MAX_UPLIFT,
    MIN_RATERS,
    REQUIRED_STOPS,
    STOP_INDICATORS,
    Policy,
)
from models.policy.fact_guardrails import counts_as_assumed, exceeds_baseline, fact_guardrails, hiding_pays
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

# What an applicant can leave out; a code and consent are asked of every one.
HIDDEN_FIELDS = (*INCOME, "utilisation", "self_score", *CONDUCT, *APPRAISAL, "village_leniency", *STOP_INDICATORS,
                 "age", "veto")  # fmt: skip
STOP_SENTENCES = {
    "identity_match": ("an_unproven_identity_refers", "An identity that does not match, or is not known, refers.",
                       "身份核验不一致或不明的，转人工。"),
    "days_past_due": ("a_default_refers", "90 days past due or more, or not known, refers.",
                      "逾期达 90 天或逾期情况不明的，转人工。"),
    "abnormal_list": ("an_abnormal_listing_refers", "A listing among abnormal operations, or not known, refers.",
                      "列入经营异常名录或情况不明的，转人工。"),
    "enforcement_cases": ("enforcement_refers", "A case of enforcement, or not known, refers.",
                          "有被执行案件或情况不明的，转人工。"),
    "tax_arrears": ("large_tax_arrears_refers", "Tax arrears of 100,000 or more, or not known, refer.",
                    "欠税达 10 万元或情况不明的，转人工。"),
}  # fmt: skip


def _describe(template: str) -> Callable[[Scenario], str]:
    """A function that fills the template from a result: {limit}, {base}, {m}, {affordability}, {answer}, ..."""

    def describe(scenario: Scenario) -> str:
        result, policy = scenario.baseline, scenario.formula.policy
        return template.format(
            answer="refer" if result.referred else "approve",
            limit=scenario.format_money(result.limit),
            exact=scenario.format_money(result.unrounded),
            base=scenario.format_money(result.base),
            m=f"{result.multiplier:.4f}",
            legal=scenario.format_money(policy.product.legal_cap),
            cap=scenario.format_money(policy.product.cap),
            minimum=scenario.format_money(policy.product.minimum),
            affordability=scenario.format_money(result.bounds["affordability"][0]),
            raters=format_value(scenario.baseline_inputs["raters"]),
            score=f"{result.conduct_score:.2f}",
            loss=scenario.format_money(expected_loss(scenario)),
            budget=scenario.format_money(
                scenario.formula.loss_budget(scenario.baseline_inputs["pd"], scenario.baseline_inputs["utilisation"])
            ),
        )

    return describe


def _uplifted_without_conduct(scenario: Scenario, slack: float) -> Any:
    """Violation: m is not 1 although conduct may not count."""
    inputs, ops = scenario.baseline_inputs, scenario.ops
    no_conduct = scenario.all_of(*(ops.logical_not(ops.is_known(inputs[name])) for name in CONDUCT))
    too_few_raters = scenario.all_of(ops.is_known(inputs["raters"]), inputs["raters"] < MIN_RATERS)
    related_rater = scenario.all_of(ops.is_known(inputs["related_rater"]), inputs["related_rater"] > 0)
    return scenario.all_of(
        scenario.any_of(no_conduct, too_few_raters, related_rater, inputs["consent"] <= 0),
        ops.logical_not(scenario.baseline.multiplier == scenario.formula.one),
    )


def _over_budget(scenario: Scenario, slack: float) -> Any:
    return (
        expected_loss(scenario)
        > scenario.formula.loss_budget(scenario.baseline_inputs["pd"], scenario.baseline_inputs["utilisation"]) + slack
    )


def _exceeds_caps(scenario: Scenario, slack: float) -> Any:
    product, conduct = scenario.formula.policy.product, scenario.formula.policy.conduct
    uplift = scenario.ops.number(conduct.cap if conduct else 0.0)
    return scenario.any_of(
        *(scenario.baseline.unrounded > amount + slack for amount, _ in scenario.baseline.caps.values()),
        scenario.baseline.base > scenario.ops.number(product.cap) + slack,
        scenario.baseline.unrounded > scenario.ops.number(product.cap) + slack,
        scenario.baseline.unrounded > scenario.ops.number(product.legal_cap) + slack,
        scenario.baseline.unrounded > scenario.baseline.base + uplift + slack,
    )


def _lacks_legal_capacity(scenario: Scenario) -> Any:
    policy, age = scenario.formula.policy, scenario.baseline_inputs["age"]
    term = scenario.ops.number(policy.product.term_months / 12)
    return scenario.any_of(
        scenario.ops.logical_not(scenario.ops.is_known(age)), age < ADULT_AGE, age + term > policy.max_age_at_end
    )


def _lacks_input(scenario: Scenario) -> Any:
    """Whether a required input is missing, judged by the inputs themselves."""
    known = {name: scenario.ops.is_known(value) for name, value in scenario.baseline_inputs.items()}
    required = ["declared_income", "monthly_debt_service"]
    if scenario.formula.policy.product.asset_based:
        required.append("debts")
    return scenario.any_of(*(scenario.ops.logical_not(known[name]) for name in required))


def _has_conduct_programme(policy: Policy) -> bool:
    return policy.conduct is not None


def _is_asset_based(policy: Policy) -> bool:
    return policy.product.asset_based


GUARDRAILS = (
    Guardrail(
        "conduct_only_helps",
        "Moral data never lowers the multiplier below 1.",
        "道德数据不会使倍数低于 1。",
        lambda scenario, slack: scenario.baseline.multiplier < scenario.formula.one,
        _describe("m is {m}, so conduct lowers the limit to {limit} from a base of {base}"),
        unfolds=("multiplier",),
    ),
    Guardrail(
        "better_conduct_never_lowers",
        "Better conduct never lowers the limit.",
        "品行更好，额度不会更低。",
        non_decreasing,
        describe_change,
        varied_fields=CONDUCT,
        applies_to=_has_conduct_programme,
    ),
    Guardrail(
        "no_uplift_without_moral_data",
        "No moral data, consent withdrawn, too few raters or a related one: the multiplier is 1.",
        "无道德数据、撤回同意、评议人不足或为亲属：倍数为 1。",
        _uplifted_without_conduct,
        _describe("m is {m} with {raters} raters"),
        unfolds=("multiplier",),
        applies_to=_has_conduct_programme,
    ),
    Guardrail(
        "consent_never_decides",
        "Giving or withdrawing consent to moral data never changes the decision.",
        "同意或撤回同意使用道德数据，不改变审批结论。",
        lambda scenario, slack: scenario.any_of(
            scenario.all_of(scenario.baseline.referred, scenario.ops.logical_not(scenario.variant.referred)),
            scenario.all_of(scenario.variant.referred, scenario.ops.logical_not(scenario.baseline.referred)),
        ),
        describe_change,
        varied_fields=("consent",),
        applies_to=_has_conduct_programme,
    ),
    Guardrail(
        "uplift_bounded",
        f"The multiplier never exceeds {1 + MAX_UPLIFT:.2f}.",
        f"倍数不超过 {1 + MAX_UPLIFT:.2f}。",
        lambda scenario, slack: scenario.baseline.multiplier > scenario.ops.number(1 + MAX_UPLIFT),
        _describe("m is {m}: a base of {base} becomes {limit}"),
        unfolds=("multiplier",),
        applies_to=_has_conduct_programme,
    ),
    Guardrail(
        "self_score_weighs_little",
        f"A point of self-score moves S by {MAX_SELF_WEIGHT:.2f} of a point at most.",
        f"自评 1 分对 S 的影响不超过 {MAX_SELF_WEIGHT:.2f} 分。",
        lambda scenario, slack: scenario.all_of(
            scenario.ops.is_known(scenario.baseline_inputs["self_score"]),
            scenario.baseline_inputs["raters"] > 0,
            scenario.variant.conduct_score - scenario.baseline.conduct_score
            > scenario.ops.number(MAX_SELF_WEIGHT)
            * (scenario.variant_inputs["self_score"] - scenario.baseline_inputs["self_score"]),
        ),
        lambda scenario: (
            f"self_score {format_value(scenario.baseline_inputs['self_score'])} -> "
            f"{format_value(scenario.variant_inputs['self_score'])}: "
            f"S {scenario.baseline.conduct_score:.2f} -> {scenario.variant.conduct_score:.2f}"
        ),
        varied_fields=("self_score",),
        unfolds=("conduct_score",),
        applies_to=_has_conduct_programme,
    ),
    Guardrail(
        "affordability_binds_after_uplift",
        "No limit, indicative or with an uplift, exceeds what the income affords.",
        "任何额度（含参考额度与上浮）不超过收入可负担的金额。",
        lambda scenario, slack: scenario.baseline.unrounded > scenario.baseline.bounds["affordability"][0] + slack,
        _describe("limit {limit} where {affordability} is affordable"),
    ),
    Guardrail(
        "caps_always_hold",
        "No limit, indicative or not, exceeds a cap that the ledger shows: product, uplift, income, law.",
        "任何额度（含参考额度）不超过明细所列的各项上限：产品、上浮、收入、法定。",
        _exceeds_caps,
        _describe("base {base} with a product cap of {cap}, limit {limit} with a legal cap of {legal}"),
        unfolds=("base_limit",),
    ),
    Guardrail(
        "loss_budget_holds",
        "The expected loss of the base limit stays within the grade's budget.",
        "基础额度的预期损失不超过等级预算。",
        _over_budget,
        _describe("expected loss {loss} a year with a budget of {budget}"),
        unfolds=("risk_limit", "base_limit"),
    ),
    Guardrail(
        "more_income_never_lowers",
        "A higher income never lowers the limit.",
        "收入更高，额度不会更低。",
        non_decreasing,
        describe_change,
        varied_fields=("declared_income",),
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
        "more_debt_service_never_raises",
        "More debt service never raises the limit.",
        "月还款更多，额度不会更高。",
        non_increasing,
        describe_change,
        varied_fields=("monthly_debt_service",),
    ),
    Guardrail(
        "more_utilisation_never_raises",
        "More use of existing lines never raises the limit.",
        "授信使用率更高，额度不会更高。",
        non_increasing,
        describe_change,
        varied_fields=("utilisation",),
    ),
    Guardrail(
        "more_debts_never_raise",
        "More debts never raise the limit.",
        "负债更多，额度不会更高。",
        non_increasing,
        describe_change,
        varied_fields=("debts",),
        applies_to=_is_asset_based,
    ),
    Guardrail(
        "more_assets_never_lower",
        "More of any asset never lowers the limit.",
        "资产更多，额度不会更低。",
        non_decreasing,
        describe_change,
        varied_fields=ASSETS,
        applies_to=_is_asset_based,
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
        "a_veto_refers",
        "A statutory veto, or not knowing whether there is one, is referred to a person.",
        "存在法定否决情形或情况不明的，转人工。",
        must_refer(
            lambda scenario: scenario.any_of(
                scenario.ops.logical_not(scenario.ops.is_known(scenario.baseline_inputs["veto"])),
                scenario.baseline_inputs["veto"] > 0,
            )
        ),
        _describe("{answer} {limit} despite a veto"),
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
        "no_capacity_refers",
        "An applicant under age, too old at the end of the term, or of unknown age is referred to a person.",
        "未成年、到期时超过最高年龄或年龄不明的，转人工。",
        must_refer(_lacks_legal_capacity),
        _describe("{answer} {limit} without legal capacity"),
    ),
    Guardrail(
        "a_lacking_bound_refers",
        "A bound without its input is referred to a person.",
        "缺少测算依据转人工。",
        must_refer(_lacks_input),
        _describe("{answer} {limit} although a bound has no input"),
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
    *fact_guardrails(REQUIRED_STOPS, STOP_SENTENCES, HIDDEN_FIELDS, INCOME),
    Guardrail(
        "hiding_assets_never_pays",
        "Leaving out an asset or the debts never brings an approval or a higher limit.",
        "隐瞒资产或负债，不会带来批准或更高的额度。",
        hiding_pays,
        describe_change,
        hidden_fields=(*ASSETS, "debts"),
        one_at_a_time=True,
        applies_to=_is_asset_based,
    ),
    Guardrail(
        "unknown_debts_count_as_assumed",
        "No limit, indicative or not, is higher without the debts than under the assumption.",
        "缺少负债时，额度（含参考额度）不高于按假定值测算的额度。",
        exceeds_baseline,
        describe_change,
        hidden_fields=("debts",),
        premise=counts_as_assumed,
        applies_to=_is_asset_based,
    ),
    rounding_guardrail("deposits"),
)
