"""Name the codes of a report in English and Chinese; a code without a name is shown as it is."""

from __future__ import annotations

from datasets.scitech_risk.register.schema import TABLE
from models.policy.config import IndicatorCondition
from models.scitech_risk.messages import find_column, format_value
from models.scitech_risk.policy import Policy

TRADES = {
    "software": ("software", "软件"),
    "electronics": ("electronics", "电子信息"),
    "pharmaceuticals": ("pharmaceuticals", "医药"),
    "medical_devices": ("medical devices", "医疗器械"),
    "machinery": ("machinery", "装备制造"),
    "new_materials": ("new materials", "新材料"),
    "new_energy": ("new energy", "新能源"),
    "aerospace": ("aerospace", "航空航天"),
    "research_services": ("research services", "研发服务"),
    "other": ("other", "其他"),
    "unrated": ("not stated", "未填"),
}
BINDING_CONSTRAINTS = {
    "debt_service_cover": ("debt-service cover", "偿债能力"),
    "revenue_multiple": ("revenue multiple", "收入倍数"),
    "backing": ("backing", "增信价值"),
    "loss_budget": ("expected-loss budget", "预期损失预算"),
    "product_cap": ("product cap", "产品上限"),
}
REFERRALS = {
    "gate_block": ("blocked by the shell gate", "空壳筛查拦截"),
    "gate_review": ("the shell gate requires a review", "空壳筛查须复核"),
    "evidence_unknown": ("evidence of a shell not known", "空壳证据不明"),
    "fact_unknown": ("a needed indicator not stated", "缺少必需指标"),
    "too_little_known": ("too little is known for a grade", "信息不足，未评级"),
    "below_floor_grade": ("below the floor grade", "低于准入等级"),
    "lacks_debt_service_cover": ("cash flow or debt service not stated", "缺现金流或偿债额"),
    "lacks_revenue_multiple": ("revenue not stated", "缺营业收入"),
    "books_unsound": ("implausible financial statements", "报表数据不合理"),
    "warning_act": ("an early warning requires action", "存在须处置的预警"),
    "warning_unknown": ("whether action is required is unknown", "无法判断是否须处置"),
    "below_minimum": ("limit below the product's minimum", "额度低于产品下限"),
}
_COLUMNS = {column_label.name: (column_label.label, column_label.label_zh) for column_label in TABLE.columns}


def trade_label(code: str | None) -> tuple[str, str]:
    """The name of a trade, English and Chinese; None is a trade not stated."""
    return TRADES.get(code or "unrated", (humanize_code(code or ""), ""))


def column(name: str) -> tuple[str, str]:
    """The label of an indicator, English and Chinese."""
    return _COLUMNS.get(name, (humanize_code(name), ""))


def humanize_code(code: str) -> str:
    """A code with spaces instead of underscores."""
    return code.replace("_", " ")


CodeLabels = dict[tuple[str, str], tuple[str, str]]  # (kind, code) -> English, Chinese


def policy_labels(policy: Policy) -> CodeLabels:
    """Name a policy's codes; a piece of evidence or a warning is named by its indicator and threshold."""
    labels: CodeLabels = {("bound", code): pair for code, pair in BINDING_CONSTRAINTS.items()}
    labels |= {("referral", code): pair for code, pair in REFERRALS.items()}
    labels |= {("referral", stop.code): _condition_label(stop) for stop in policy.stops}
    labels |= {
        ("evidence", evidence.code): _conditions_label(evidence, evidence.beside) for evidence in policy.gate.evidence
    }
    return labels | {("warning", signal.code): _conditions_label(signal, None) for signal in policy.signals}


def _conditions_label(*parts: IndicatorCondition | None) -> tuple[str, str]:
    labels = [_condition_label(condition) for condition in parts if condition is not None]
    return ", ".join(en for en, _ in labels), "，".join(zh for _, zh in labels)


def _condition_label(condition: IndicatorCondition) -> tuple[str, str]:
    en, zh = column(condition.indicator)
    value, sign = (condition.at_least, "≥") if condition.at_least is not None else (condition.at_most or 0.0, "≤")
    unit = TABLE[condition.indicator].unit if condition.indicator in _COLUMNS else ""
    if unit == "0/1":
        return en, zh or en
    value_en, value_zh = format_value(value, find_column(condition.indicator, {}))
    if unit.startswith("10k RMB"):
        value_en = f"RMB {10_000 * value:,.0f}{unit.removeprefix('10k RMB')}"
    sign = "=" if sign == "≤" and value == 0 else sign
    return f"{en} {sign} {value_en}", f"{zh or en} {sign} {value_zh}"
