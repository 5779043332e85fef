"""The sentences of an answer by code, in English and in Chinese. Codes are stable; sentences may change."""

from __future__ import annotations

from datasets.credit_limit.county.schema import TABLE
from datasets.schema import ColumnSchema

_COUNTY = {column.name: column for column in TABLE.columns}

# {value}: money with its unit
ASSUMED = {
    "declared_income": ("an income of {value} a year", "年收入 {value}"),
    "monthly_debt_service": ("a debt service of {value} a month", "月还款额 {value}"),
    "debts": ("debts of {value}", "负债 {value}"),
}
# {amount}: money with its unit
BOUNDS = {
    "affordability": ("The income affords {amount} over the term.", "按收入测算，期限内可负担 {amount}。"),
    "risk_budget": (
        "At this probability of default {amount} keeps the expected loss within the grade's budget.",
        "按该违约概率，{amount} 的预期损失不超过等级预算。",
    ),
    "product_cap": ("The product lends at most {amount}.", "产品额度上限为 {amount}。"),
    "assets": ("The assets after haircuts, less the debts, support {amount}.", "资产折扣后扣除负债，可支持 {amount}。"),
}
LACKING = {  # {lacks}: names
    "affordability": (
        "What the income affords is not confirmed: {lacks} not known.",
        "收入可负担额度未经证实：缺少{lacks}。",
    ),
    "assets": (
        "What the assets support is not confirmed: {lacks} not known.",
        "资产可支持额度未经证实：缺少{lacks}。",
    ),
}
ASSUMED_BOUNDS = {  # {amount}: money; {assumed}: names with what they count as
    "affordability": (
        "The income would afford {amount} over the term, assuming {assumed}.",
        "假定{assumed}，期限内可负担 {amount}。",
    ),
    "assets": (
        "The assets after haircuts, less the debts, would support {amount}, assuming {assumed}.",
        "假定{assumed}，资产折扣后扣除负债可支持 {amount}。",
    ),
}
CAPS = {
    "uplift_cap": ("Good conduct raises the limit to {amount} at most.", "品行上浮后额度不超过 {amount}。"),
    "affordability": (
        "Including the uplift, the limit may not exceed the {amount} that the income affords.",
        "上浮后仍不超过收入可负担的 {amount}。",
    ),
    "product_cap": ("Including the uplift, the product lends at most {amount}.", "上浮后仍不超过产品上限 {amount}。"),
    "legal_cap": ("The law caps the limit at {amount}.", "法定上限为 {amount}。"),
}
ROUNDING = ("Rounding down to a multiple of {step} subtracts {amount}.", "按 {step} 向下取整，减少 {amount}。")
CONDUCT = {  # {score}: points, {m}: multiplier, {uplift}: money
    "uplifted": (
        "Good conduct ({score} points) multiplies the base limit by {m}; after the caps this adds {uplift}.",
        "品行评分 {score} 分，基础额度乘以 {m}，受各项上限约束后上浮 {uplift}。",
    ),
    "below_qualifying": (
        "Conduct ({score} points) is below the threshold for an uplift; this lowers nothing.",
        "品行评分 {score} 分，未达上浮标准；不影响额度。",
    ),
    "no_programme": ("This product has no conduct programme.", "本产品不设品行上浮。"),
    "consent_withdrawn": (
        "Conduct does not count, as there is no consent to its use; this lowers nothing.",
        "未取得使用品行数据的同意，不计品行；不影响额度。",
    ),
    "no_moral_data": ("There are no moral data; this lowers nothing.", "无道德数据；不影响额度。"),
    "appraisal_incomplete": (
        "The village's appraisal is incomplete, so it does not count; this lowers nothing.",
        "村社评议不完整，不计入；不影响额度。",
    ),
    "too_few_raters": (
        "There were too few raters, so the appraisal does not count; this lowers nothing.",
        "评议人数不足，不计入；不影响额度。",
    ),
    "related_rater": (
        "A rater is a relative, so the appraisal does not count; this lowers nothing.",
        "评议人含亲属，不计入；不影响额度。",
    ),
}
REFERRALS = {  # why a person decides
    "statutory_veto": ("A statutory veto was reported: {veto}.", "存在法定否决情形：{veto}。"),
    "below_floor_grade": (
        "The grade is below {floor}, the lowest that may be approved without a person.",
        "等级低于可自动审批的最低等级 {floor}。",
    ),
    "fact_unknown": (
        "Not known, and needed before a limit can be approved without a person: {lacks}.",
        "缺少自动审批所需的信息：{lacks}。",
    ),
    "over_age": (
        "The applicant would be over {max_age} at the end of the term.",
        "贷款到期时申请人将超过 {max_age} 岁。",
    ),
    "under_age": ("The applicant is under {age}.", "申请人未满 {age} 岁。"),
    "age_unknown": (
        "The applicant's age, and therefore legal capacity, is not known.",
        "年龄不明，无法确认民事行为能力。",
    ),
    "below_minimum": ("The base limit is below the minimum of {minimum}.", "基础额度低于最低额度 {minimum}。"),
    "lacks_affordability": LACKING["affordability"],
    "lacks_assets": LACKING["assets"],
    "person_asked_for": ("The applicant asked for a person to decide.", "申请人要求人工审核。"),
}


def find_column(name: str, columns: dict[str, ColumnSchema]) -> ColumnSchema:
    """The column of the model's card, else of the county's contract, else a bare one."""
    return columns.get(name) or _COUNTY.get(name) or ColumnSchema(name=name)
