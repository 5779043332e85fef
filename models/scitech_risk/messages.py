"""The sentences of an answer by code, in English and in Chinese. Codes are stable; sentences may change.

Shell evidence and early warnings have their sentences in the policy, beside their numbers.
"""

from __future__ import annotations

from datasets.schema import UNITS_ZH, ColumnSchema, format_number
from datasets.scitech_risk.register.schema import TABLE

_REGISTER = {column.name: column for column in TABLE.columns}

# {amount}: money with its unit
BOUNDS = {
    "debt_service_cover": (
        "After existing debt service, the operating cash flow can service {amount} over the term.",
        "按经营现金流覆盖既有还本付息后测算，期限内可承担 {amount}。",
    ),
    "revenue_multiple": (
        "The revenue, by the multiples of its stages raised by innovation, supports {amount}.",
        "按各阶段收入倍数并经创新评分上调，营业收入可支持 {amount}。",
    ),
    "backing": (
        "The unsecured allowance, patents and data assets after haircuts support {amount}.",
        "信用额度与折扣后的专利、数据资产可支持 {amount}。",
    ),
    "loss_budget": (
        "At this probability of default {amount} keeps the expected loss within the grade's budget.",
        "按该违约概率，{amount} 的预期损失不超过等级预算。",
    ),
    "product_cap": ("The product lends at most {amount}.", "产品额度上限为 {amount}。"),
}
UNGRADED = (
    "No grade is given; {amount} keeps the expected loss within the worst grade's budget.",
    "未予评级，{amount} 的预期损失不超过最差等级预算。",
)
LACKING = {  # {lacks}: names
    "debt_service_cover": (
        "What the cash flow can service is not confirmed: {lacks} not known.",
        "现金流可承担额度未经证实：缺少{lacks}。",
    ),
    "revenue_multiple": (
        "What the revenue supports is not confirmed: {lacks} not known.",
        "收入可支持额度未经证实：缺少{lacks}。",
    ),
}
ASSUMED_BOUNDS = {  # {amount}: money; {assumed}: names with what they count as
    "debt_service_cover": (
        "The cash flow could service {amount} over the term, assuming {assumed}.",
        "假定{assumed}，按经营现金流测算，期限内可承担 {amount}。",
    ),
    "revenue_multiple": (
        "The revenue would support {amount}, assuming {assumed}.",
        "假定{assumed}，营业收入可支持 {amount}。",
    ),
}
ASSUMED = {  # {value}: money with its unit
    "operating_cash_flow": ("an operating cash flow of {value} a year", "年经营现金流 {value}"),
    "debt_service": ("a debt service of {value} a year", "年还本付息额 {value}"),
    "revenue": ("a revenue of {value} a year", "年营业收入 {value}"),
}
UNBACKED = (" Not known, so not counted: {lacks}.", "未知而不计入：{lacks}。")
CAPS = {
    "legal_cap": ("One company may owe at most {amount}.", "单户额度上限为 {amount}。"),
    "gate": ("The shell gate blocks, so the limit is {amount}.", "空壳闸门拦截，额度为 {amount}。"),
}
ROUNDING = ("Rounding down to a multiple of {step} subtracts {amount}.", "按 {step} 向下取整，减少 {amount}。")
REFERRALS = {  # why a person decides
    "gate_block": (
        "Evidence from independent sources points to a shell; the company must be asked.",
        "多个独立来源的证据指向空壳特征，须向企业核实。",
    ),
    "gate_review": ("The shell gate asks for a review by a person.", "空壳闸门要求人工复核。"),
    "evidence_unknown": (
        "Evidence of a shell that is not known could call for a review: {lacks}.",
        "尚有可能触发复核的空壳证据不明：{lacks}。",
    ),
    "too_little_known": (
        "Only {known} of the information behind the grade is known, and {least} is required; no grade is given.",
        "评级所依据的信息仅知 {known}，至少需要 {least}；不予评级。",
    ),
    "below_floor_grade": (
        "The grade over {horizon} is below {floor}, the lowest that may be approved without a person.",
        "{horizon}等级低于可自动审批的最低等级 {floor}。",
    ),
    "lacks_debt_service_cover": LACKING["debt_service_cover"],
    "lacks_revenue_multiple": LACKING["revenue_multiple"],
    "below_minimum": ("The base limit is below the minimum of {minimum}.", "基础额度低于最低额度 {minimum}。"),
    "books_unsound": (
        "The statements cannot be right: there are no assets, or an item is larger than its total.",
        "报表数据不合理：资产为零，或分项大于合计。",
    ),
    "fact_unknown": (
        "Not known, and needed before a limit can be approved without a person: {lacks}.",
        "缺少自动审批所需的信息：{lacks}。",
    ),
    "warning_act": ("An early warning requires action.", "存在须处置的预警信号。"),
    "warning_unknown": (
        "Whether action is required cannot be determined: {lacks} not known.",
        "无法判断是否存在须处置的预警：缺少{lacks}。",
    ),
    "person_asked_for": ("The company asked for a person to decide.", "企业要求人工审核。"),
}
GATE = {  # {points}, {known}: of {all} points
    "pass": (
        "{points} points of evidence for a shell: below the threshold for a review.",
        "空壳证据 {points} 分，未达复核标准。",
    ),
    "review": (
        "{points} points of evidence for a shell: a person must review before anything is lent.",
        "空壳证据 {points} 分，放款前须人工复核。",
    ),
    "blind": (
        "Only {known} of {all} points of evidence are known, so a person must review; {points} point to a shell.",
        "{all} 分证据中仅 {known} 分可核验，须人工复核；其中 {points} 分指向空壳。",
    ),
    "block": (
        "{points} points of evidence for a shell, from {sources} independent sources: nothing is lent.",
        "来自 {sources} 个独立来源的空壳证据 {points} 分，不予授信。",
    ),
}
LOOP_PATH = (" The loop: {path}.", "循环路径：{path}。")
INNOVATION = {  # {score}, {low}: of 100; {coverage}: share
    "scored": (
        "The innovation score at the {stage} stage is {score} of 100, from {coverage} of the indicators by weight; "
        "{low} counts towards the limit.",
        "{stage}创新评分 {score} 分（满分 100），指标权重覆盖 {coverage}；计入额度的为 {low} 分。",
    ),
    "too_little_known": (
        "Too little is known to score innovation: {coverage} of the indicators by weight.",
        "创新指标已知权重仅 {coverage}，不予评分。",
    ),
    "no_stage": (
        "Without the revenue the growth stage is not known, so innovation is not scored.",
        "营业收入未知，无法判断成长阶段，不予创新评分。",
    ),
}
GROUPS = {
    "technology": ("technology", "技术创新"),
    "growth": ("growth", "成长经营"),
    "auxiliary": ("auxiliary indicators", "辅助指标"),
}
GROUP_SCORE = ("{group}: {score} of 100.", "{group}：{score} 分。")
GROUP_UNKNOWN = ("{group}: nothing is known.", "{group}：全部未知。")


def find_column(name: str, columns: dict[str, ColumnSchema]) -> ColumnSchema:
    """The column of the model's card, else of the register's contract, else a bare one."""
    return columns.get(name) or _REGISTER.get(name) or ColumnSchema(name=name)


def format_value(value: float, column: ColumnSchema) -> tuple[str, str]:
    """A number as text with its unit, in English and in Chinese."""
    if column.unit == "share":
        return (f"{100 * value:.0f}%",) * 2
    if column.unit.startswith("10k RMB"):  # "30,000 RMB", not "3 10k RMB"
        text_en = f"{format_number(10_000 * value)} {column.unit.removeprefix('10k ')}"
        return text_en, f"{format_number(value)} {UNITS_ZH.get(column.unit, column.unit)}"
    if column.unit in ("", "0/1", "count", "companies"):
        return (format_number(value),) * 2
    return f"{format_number(value)} {column.unit}", f"{format_number(value)} {UNITS_ZH.get(column.unit, column.unit)}"


def format_names(columns: list[ColumnSchema]) -> tuple[str, str]:
    return ", ".join(column.label for column in columns), "、".join(column.label_zh for column in columns)


def format_percent(share: float) -> str:
    return f"{100 * share:.0f}%"
