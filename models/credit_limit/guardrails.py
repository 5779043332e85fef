"""The guard rails of a credit limit: each a sentence, and what it would mean to break it.

`broken` is written in the operations of limit.py, so one definition serves the solver and the floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.credit_limit.limit_formula import ASSETS, CONDUCT
from models.credit_limit.policy import FEWEST_RATERS, MOST_SELF_WEIGHT, MOST_UPLIFT, Policy
from models.policy.guardrails import Case, Rail, harms, helps, moved, refers, rounding, show


def _said(what: str) -> Callable[[Case], str]:
    """A sentence over the worked limit: {limit}, {base}, {m}, {affordability}, {answer}, ..."""

    def tell(case: Case) -> str:
        worked, policy = case.one, case.formula.policy
        return what.format(
            answer="refer" if worked.referred else "approve",
            limit=case.money(worked.limit),
            exact=case.money(worked.exact),
            base=case.money(worked.base),
            m=f"{worked.m:.4f}",
            legal=case.money(policy.product.legal_cap),
            cap=case.money(policy.product.cap),
            minimum=case.money(policy.product.minimum),
            affordability=case.money(worked.bounds["affordability"][0]),
            raters=show(case.first["raters"]),
            score=f"{worked.conduct:.2f}",
            loss=case.money(_expected_loss(case)),
            budget=case.money(case.formula.loss_budget(case.first["pd"], case.first["utilisation"])),
        )

    return tell


def _expected_loss(case: Case) -> Any:
    """Of the base limit, a year."""
    floor = case.ops.number(case.formula.policy.risk.pd_floor)
    return case.ops.most(case.first["pd"], floor) * case.formula.severity * case.one.base


def _uncounted(case: Case, slack: float) -> Any:
    """m is not 1 although conduct may not count."""
    a, ops = case.first, case.ops
    silent = case.all(*(ops.negate(ops.known(a[name])) for name in CONDUCT))
    few = case.all(ops.known(a["raters"]), a["raters"] < FEWEST_RATERS)
    related = case.all(ops.known(a["related_rater"]), a["related_rater"] > 0)
    return case.all(case.any(silent, few, related, a["consent"] <= 0), ops.negate(case.one.m == case.formula.one))


def _over_budget(case: Case, slack: float) -> Any:
    return _expected_loss(case) > case.formula.loss_budget(case.first["pd"], case.first["utilisation"]) + slack


def _caps_broken(case: Case, slack: float) -> Any:
    product, conduct = case.formula.policy.product, case.formula.policy.conduct
    uplift = case.ops.number(conduct.cap if conduct else 0.0)
    return case.any(
        case.one.base > case.ops.number(product.cap) + slack,
        case.one.exact > case.ops.number(product.legal_cap) + slack,
        case.one.exact > case.one.base + uplift + slack,
    )


def _age_unfit(case: Case) -> Any:
    known = case.ops.known(case.first["age"])
    return case.any(case.ops.negate(known), case.first["age"] < case.formula.policy.min_age)


def _lacks(case: Case) -> Any:
    """By the inputs themselves, whatever the formula says of its bounds."""
    known = {name: case.ops.known(value) for name, value in case.first.items()}
    needed = ["declared_income", "monthly_debt_service"]
    if case.formula.policy.product.asset_based:
        needed.append("debts")
    return case.any(*(case.ops.negate(known[name]) for name in needed))


def _programme(policy: Policy) -> bool:
    return policy.conduct is not None


def _pledged(policy: Policy) -> bool:
    return policy.product.asset_based


RAILS = (
    Rail("conduct_only_helps", "Moral data never lowers the multiplier below 1.", "道德数据不会使倍数低于 1。",
         lambda case, slack: case.one.m < case.formula.one,
         _said("m is {m}, so conduct lowers the limit to {limit} from a base of {base}"), opens=("multiplier",)),
    Rail("better_conduct_never_lowers", "Better conduct never lowers the limit.", "品行更好，额度不会更低。",
         helps, moved, varies=CONDUCT, concerns=_programme),
    Rail("no_uplift_without_moral_data",
         "No moral data, consent withdrawn, too few raters or a related one: the multiplier is 1.",
         "无道德数据、撤回同意、评议人不足或为亲属：倍数为 1。", _uncounted,
         _said("m is {m} with {raters} raters"), opens=("multiplier",), concerns=_programme),
    Rail("consent_never_decides", "Giving or withdrawing consent to moral data never changes the decision.",
         "同意或撤回同意使用道德数据，不改变审批结论。",
         lambda case, slack: case.any(case.all(case.one.referred, case.ops.negate(case.two.referred)),
                                      case.all(case.two.referred, case.ops.negate(case.one.referred))),
         moved, varies=("consent",), concerns=_programme),
    Rail("uplift_bounded", f"The multiplier never exceeds {1 + MOST_UPLIFT:.2f}.",
         f"倍数不超过 {1 + MOST_UPLIFT:.2f}。",
         lambda case, slack: case.one.m > case.ops.number(1 + MOST_UPLIFT),
         _said("m is {m}: a base of {base} becomes {limit}"), opens=("multiplier",), concerns=_programme),
    Rail("self_score_weighs_little", f"A point of self-score moves S by {MOST_SELF_WEIGHT:.2f} of a point at most.",
         f"自评 1 分对 S 的影响不超过 {MOST_SELF_WEIGHT:.2f} 分。",
         lambda case, slack: case.all(
             case.ops.known(case.first["self_score"]), case.first["raters"] > 0,
             case.two.conduct - case.one.conduct
             > case.ops.number(MOST_SELF_WEIGHT) * (case.second["self_score"] - case.first["self_score"])),
         lambda case: f"self_score {show(case.first['self_score'])} -> {show(case.second['self_score'])}: "
                      f"S {case.one.conduct:.2f} -> {case.two.conduct:.2f}",
         varies=("self_score",), opens=("conduct",), concerns=_programme),
    Rail("affordability_binds_after_uplift", "No approved limit exceeds what the income affords, uplift included.",
         "经批准的额度（含上浮）不超过收入可负担的金额。",
         lambda case, slack: case.all(case.ops.negate(case.one.referred),
                                      case.one.exact > case.one.bounds["affordability"][0] + slack),
         _said("limit {limit} where {affordability} is affordable")),
    Rail("caps_always_hold", "The product cap, the uplift cap and the legal cap always hold.",
         "产品上限、上浮上限与法定上限始终有效。", _caps_broken,
         _said("base {base} with a product cap of {cap}, limit {limit} with a legal cap of {legal}"), opens=("base",)),
    Rail("loss_budget_holds", "The expected loss of the base limit keeps within the grade's budget.",
         "基础额度的预期损失不超过等级预算。",
         _over_budget, _said("expected loss {loss} a year with a budget of {budget}"), opens=("risk", "base")),
    Rail("more_income_never_lowers", "A higher income never lowers the limit.", "收入更高，额度不会更低。",
         helps, moved, varies=("declared_income",)),
    Rail("more_risk_never_raises", "A higher PD never raises the limit.", "违约概率更高，额度不会更高。",
         harms, moved, varies=("pd",)),
    Rail("more_debt_service_never_raises", "More debt service never raises the limit.", "月还款更多，额度不会更高。",
         harms, moved, varies=("monthly_debt_service",)),
    Rail("more_utilisation_never_raises", "More use of existing lines never raises the limit.",
         "授信使用率更高，额度不会更高。",
         harms, moved, varies=("utilisation",)),
    Rail("more_debts_never_raise", "More debts never raise the limit.", "负债更多，额度不会更高。",
         harms, moved, varies=("debts",), concerns=_pledged),
    Rail("more_assets_never_lower", "More of any asset never lowers the limit.", "资产更多，额度不会更低。",
         helps, moved, varies=ASSETS, concerns=_pledged),
    Rail("amounts_never_negative", "No bound and no limit is below 0.", "任何上限与额度都不为负。",
         lambda case, slack: case.any(*(amount < 0 for amount, _ in case.one.bounds.values()), case.one.exact < 0),
         _said("base {base}, limit {limit}")),
    Rail("a_veto_refers", "A statutory veto goes to a person.", "法定否决情形转人工。",
         refers(lambda case: case.first["veto"] > 0), _said("{answer} {limit} despite a veto")),
    Rail("below_the_floor_refers", "A grade below the floor goes to a person.", "低于准入等级转人工。",
         refers(lambda case: case.first["pd"] > case.ops.number(case.formula.policy.approval_pd)),
         _said("{answer} {limit} below the floor grade")),
    Rail("no_capacity_refers", "Under age, or of unknown age, goes to a person.", "未成年或年龄不明转人工。",
         refers(_age_unfit), _said("{answer} {limit} without legal capacity")),
    Rail("a_lacking_bound_refers", "A bound that lacks its input goes to a person.", "缺少测算依据转人工。",
         refers(_lacks), _said("{answer} {limit} although a bound lacks its input")),
    Rail("an_approval_has_money", "An approved limit is no smaller than the minimum.", "批准的额度不低于最低额度。",
         lambda case, slack: case.all(case.ops.negate(case.one.referred),
                                      case.one.exact < case.ops.number(case.formula.policy.product.minimum)),
         _said("{answer} {limit} with a minimum of {minimum}"), opens=("base",)),
    rounding("deposits"),
)  # fmt: skip
