"""The guard rails of a sci-tech answer: each a sentence, and what it would mean to break it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.policy.guardrails import Case, Rail, harms, helps, moved, refers, rounding, show
from models.scitech_risk.policy import CYCLE, DATA, EVIDENCE, FEWEST_SOURCES, INNOVATION, STAFF, Policy

BACKED = ("patent_value", *DATA)


def _said(what: str) -> Callable[[Case], str]:
    """A sentence over the worked limit: {limit}, {base}, {answer}, {points}, ..."""

    def tell(case: Case) -> str:
        worked, policy = case.one, case.formula.policy
        return what.format(
            answer="refer" if worked.referred else "approve",
            verdict=_verdict(worked.gate),
            limit=case.money(worked.limit),
            base=case.money(worked.base),
            cap=case.money(policy.product.cap),
            legal=case.money(policy.product.legal_cap),
            minimum=case.money(policy.product.minimum),
            points=show(worked.gate.points),
            sources=show(worked.gate.sources),
            known=show(case.first["known_share"]),
            least=show(policy.least_known.share),
            loss=case.money(_expected_loss(case)),
            budget=case.money(_budget(case)),
        )

    return tell


def _verdict(gate: Any) -> str:
    return "block" if gate.block else "review" if gate.review else "pass"


def _gated(case: Case) -> str:
    one, two = case.one.gate, case.two.gate
    told = f"{_verdict(one)} at {show(one.points)} points -> {_verdict(two)} at {show(two.points)} points"
    return f"{moved(case)}; gate {told}"


def _expected_loss(case: Case) -> Any:
    """Of the base limit, a year."""
    floor = case.ops.number(case.formula.policy.risk.pd_floor)
    return case.ops.most(case.first["pd"], floor) * case.formula.severity * case.one.base


def _budget(case: Case) -> Any:
    return case.formula.budget(case.first["pd"], case.first["known_share"])


def _milder(case: Case, slack: float) -> Any:
    """More evidence raised the limit, earned an approval, or made the verdict milder."""
    one, two, negate = case.one.gate, case.two.gate, case.ops.negate
    milder = case.any(case.all(one.block, negate(two.block)), case.all(one.review, negate(two.review)))
    return case.any(harms(case, slack), milder)


def _graver(case: Case, slack: float) -> Any:
    """Less evidence lowered the limit, cost an approval, or made the verdict graver."""
    one, two, negate = case.one.gate, case.two.gate, case.ops.negate
    graver = case.any(case.all(two.block, negate(one.block)), case.all(two.review, negate(one.review)))
    return case.any(helps(case, slack), graver)


def _lent_to_the_blocked(case: Case, slack: float) -> Any:
    return case.all(case.one.gate.block, case.any(case.one.exact > 0, case.ops.negate(case.one.referred)))


def _blocked_on_one(case: Case, slack: float) -> Any:
    """Counted here anew, whatever the gate says of its sources."""
    ops = case.ops
    sources: dict[str, Any] = {}
    for piece in case.formula.policy.gate.evidence:
        sources[piece.source] = ops.either(sources.get(piece.source, False), case.one.gate.holds[piece.code])
    count = ops.number(0.0)
    for some in sources.values():
        count = count + ops.where(some, ops.number(1.0), ops.number(0.0))
    return case.all(case.one.gate.block, count < ops.number(float(FEWEST_SOURCES)))


def _blind(case: Case) -> Any:
    """Whether too little of the evidence can be told, by the inputs themselves."""
    ops, gate = case.ops, case.formula.policy.gate
    known, everything = ops.number(0.0), sum(piece.points for piece in gate.evidence)
    for piece in gate.evidence:
        parts = [piece.indicator, *([piece.beside.indicator] if piece.beside else [])]
        some = case.any(*(ops.known(case.first[name]) for name in parts))
        known = known + ops.where(some, ops.number(piece.points), ops.number(0.0))
    return known < ops.number(gate.least_known * everything) if everything else case.first["pd"] >= 0


def _cycle(case: Case) -> Any:
    return case.all(case.ops.known(case.first[CYCLE]), case.first[CYCLE] >= 1)


def _lowered(case: Case, slack: float) -> Any:
    """The bound of the revenue is less than the plain multiples give."""
    formula, revenue = case.formula, case.first["revenue"]
    plain = formula.zero
    for at in range(len(formula.slices)):
        multiple = case.ops.number(formula.policy.stages[at].multiple)
        plain = plain + multiple * formula.within(at, revenue)
    return case.all(case.ops.known(revenue), case.one.bounds["revenue_multiple"][0] < plain - slack)


def _caps_broken(case: Case, slack: float) -> Any:
    product = case.formula.policy.product
    return case.any(
        case.one.base > case.ops.number(product.cap) + slack,
        case.one.exact > case.ops.number(product.legal_cap) + slack,
    )


def _lacks(case: Case) -> Any:
    """By the inputs themselves, whatever the formula says of its bounds."""
    needed = ("operating_cash_flow", "debt_service", "revenue")
    return case.any(*(case.ops.negate(case.ops.known(case.first[name])) for name in needed))


def _budget_rises(case: Case, slack: float) -> Any:
    budget = case.formula.grade_budget
    return budget(case.second["pd"]) > budget(case.first["pd"]) + case.ops.number(slack)


def _tells_evidence(policy: Policy) -> bool:
    return bool(policy.gate.evidence)


def _tells_cycles(policy: Policy) -> bool:
    return any(piece.indicator == CYCLE for piece in policy.gate.evidence)


def _scores(policy: Policy) -> bool:
    return bool(policy.innovation.indicators)


RAILS = (
    Rail("a_block_means_nothing", "Where the gate blocks, the limit is 0 and nothing is approved.",
         "空壳闸门拦截时，额度为 0 且不予自动批准。", _lent_to_the_blocked,
         _said("{answer} {limit} although the gate blocks at {points} points"), concerns=_tells_evidence),
    Rail("a_review_refers", "Where the gate asks for a review, a person decides.", "空壳闸门要求复核时转人工。",
         refers(lambda case: case.one.gate.review), _said("{answer} {limit} although the gate says {verdict}")),
    Rail("a_block_needs_independent_evidence",
         f"No company is blocked on evidence from fewer than {FEWEST_SOURCES} independent sources.",
         f"拦截须有至少 {FEWEST_SOURCES} 个独立来源的证据。", _blocked_on_one,
         _said("blocked at {points} points from {sources} source"), concerns=_tells_evidence),
    Rail("more_evidence_never_helps", "More evidence of a shell never raises the limit, nor makes the verdict milder.",
         "空壳证据增加，额度不会更高，结论不会更轻。", _milder, _gated, varies=EVIDENCE, concerns=_tells_evidence),
    Rail("more_staff_never_harms", "More insured staff never makes the verdict graver, nor lowers the limit.",
         "参保人数增加，结论不会更重，额度不会更低。", _graver, _gated, varies=(STAFF,), concerns=_tells_evidence),
    Rail("an_ownership_cycle_refers", "A company that owns itself goes to a person.", "循环持股的企业转人工。",
         refers(_cycle), _said("{answer} {limit} although its owner cannot be told"), concerns=_tells_cycles),
    Rail("a_blind_gate_refers", "Where too little of the evidence can be told, a person decides.",
         "可核验证据过少时转人工。", refers(_blind), _said("{answer} {limit} although the gate can tell too little")),
    Rail("too_little_known_refers", "A company of whom too little is known goes to a person.", "已知信息过少时转人工。",
         refers(lambda case: case.first["known_share"] < case.ops.number(case.formula.policy.least_known.share)),
         _said("{answer} {limit} although only {known} is known, and {least} is needed")),
    Rail("knowing_more_never_lowers", "Knowing more of the PD's inputs, at the same PD, never lowers the limit.",
         "违约概率相同时，已知信息更多，额度不会更低。", helps, moved,
         varies=("known_share",), opens=("grade_budget",)),
    Rail("below_the_floor_refers", "A grade below the floor goes to a person.", "低于准入等级转人工。",
         refers(lambda case: case.first["pd"] > case.ops.number(case.formula.policy.approval_pd)),
         _said("{answer} {limit} below the floor grade")),
    Rail("a_lacking_bound_refers", "A bound that lacks its input goes to a person.", "缺少测算依据转人工。",
         refers(_lacks), _said("{answer} {limit} although a bound lacks its input")),
    Rail("more_risk_never_raises", "A higher PD never raises the limit.", "违约概率更高，额度不会更高。",
         harms, moved, varies=("pd",)),
    Rail("a_worse_grade_has_no_larger_budget", "A worse grade never has the larger loss budget.",
         "等级更差，损失预算不会更大。", _budget_rises,
         lambda case: f"PD {show(case.first['pd'])} -> {show(case.second['pd'])}: budget "
                      f"{case.money(case.formula.grade_budget(case.first['pd']))} -> "
                      f"{case.money(case.formula.grade_budget(case.second['pd']))}", varies=("pd",)),
    Rail("loss_budget_holds", "The expected loss of the base limit keeps within the grade's budget.",
         "基础额度的预期损失不超过等级预算。",
         lambda case, slack: _expected_loss(case) > _budget(case) + slack,
         _said("expected loss {loss} a year with a budget of {budget}"), opens=("risk", "base")),
    Rail("more_cash_flow_never_lowers", "More operating cash flow never lowers the limit.",
         "经营现金流更多，额度不会更低。", helps, moved, varies=("operating_cash_flow",)),
    Rail("more_debt_service_never_raises", "More debt service never raises the limit.", "偿债支出更多，额度不会更高。",
         harms, moved, varies=("debt_service",)),
    Rail("more_revenue_never_lowers", "More revenue never lowers the limit, not at the edge of a stage either.",
         "营业收入更多，额度不会更低，跨阶段时亦然。", helps, moved, varies=("revenue",)),
    Rail("more_backing_never_lowers", "More patents or data assets never lower the limit.",
         "专利或数据资产更多，额度不会更低。", helps, moved, varies=BACKED),
    Rail("more_innovation_never_lowers", "More of any indicator of innovation never lowers the limit.",
         "任何创新指标提高，额度不会更低。", helps, moved,
         varies=tuple(name for name in INNOVATION if name != "revenue"), concerns=_scores),
    Rail("innovation_only_raises", "Innovation never takes the revenue's bound below its plain multiple.",
         "创新评分只会提高、不会降低收入倍数。", _lowered,
         _said("a base of {base}, below what the plain multiple of the revenue gives"),
         opens=("turned_over", "slice", "within", "raised"), concerns=_scores),
    Rail("leaving_out_never_helps", "Leaving out an indicator of innovation, patents or data assets never helps.",
         "缺报创新指标、专利或数据资产不会带来好处。", harms, moved,
         hides=(*(name for name in INNOVATION if name != "revenue"), *BACKED)),
    Rail("caps_always_hold", "The product cap and the legal cap always hold.", "产品上限与法定上限始终有效。",
         _caps_broken, _said("base {base} with a cap of {cap}, limit {limit} with a legal cap of {legal}"),
         opens=("base",)),
    Rail("amounts_never_negative", "No bound and no limit is below 0.", "任何上限与额度都不为负。",
         lambda case, slack: case.any(*(amount < 0 for amount, _ in case.one.bounds.values()), case.one.exact < 0),
         _said("base {base}, limit {limit}")),
    Rail("an_approval_has_money", "An approved limit is no smaller than the minimum.", "批准的额度不低于最低额度。",
         lambda case, slack: case.all(case.ops.negate(case.one.referred),
                                      case.one.exact < case.ops.number(case.formula.policy.product.minimum)),
         _said("{answer} {limit} with a minimum of {minimum}"), opens=("base",)),
    rounding("patent_value"),
)  # fmt: skip
