"""The names of codes in a report, English and Chinese; a code that nobody named is told as it is."""

from __future__ import annotations

from datasets.scitech_risk.register.schema import TABLE
from models.scitech_risk.messages import column_of, value_text
from models.scitech_risk.policy import Condition, Policy

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
BOUNDS = {
    "debt_service_cover": ("debt-service cover", "偿债能力"),
    "revenue_multiple": ("revenue multiple", "收入倍数"),
    "backing": ("backing", "增信价值"),
    "loss_budget": ("expected-loss budget", "预期损失预算"),
    "product_cap": ("product cap", "产品上限"),
}
REFERRALS = {
    "gate_block": ("blocked by the shell gate", "空壳筛查拦截"),
    "gate_review": ("the shell gate asks for a review", "空壳筛查须复核"),
    "too_little_known": ("too little is known for a grade", "信息不足，未评级"),
    "below_floor_grade": ("below the floor grade", "低于准入等级"),
    "lacks_debt_service_cover": ("cash flow or debt service not stated", "缺现金流或偿债额"),
    "lacks_revenue_multiple": ("revenue not stated", "缺营业收入"),
    "books_unsound": ("books that cannot be right", "报表数据不合理"),
    "warning_act": ("an early warning asks for an act", "存在须处置的预警"),
    "warning_unknown": ("whether an act is asked for is not known", "无法判断是否须处置"),
    "below_minimum": ("limit below the product's minimum", "额度低于产品下限"),
}
_COLUMNS = {column.name: (column.label, column.label_zh) for column in TABLE.columns}


def trade(code: str | None) -> tuple[str, str]:
    return TRADES.get(code or "unrated", (plain(code or ""), ""))


def column(name: str) -> tuple[str, str]:
    return _COLUMNS.get(name, (plain(name), ""))


def plain(code: str) -> str:
    return code.replace("_", " ")


Names = dict[tuple[str, str], tuple[str, str]]  # (kind, code) -> English, Chinese


def names(policy: Policy) -> Names:
    """What a policy's codes are called: an indicator and the value from which it counts."""
    told: Names = {("bound", code): pair for code, pair in BOUNDS.items()}
    told |= {("referral", code): pair for code, pair in REFERRALS.items()}
    told |= {("evidence", piece.code): _condition(piece, piece.beside) for piece in policy.gate.evidence}
    return told | {("warning", signal.code): _condition(signal, None) for signal in policy.signals}


def _condition(*parts: Condition | None) -> tuple[str, str]:
    told = [_one(part) for part in parts if part is not None]
    return ", ".join(en for en, _ in told), "，".join(zh for _, zh in told)


def _one(part: Condition) -> tuple[str, str]:
    en, zh = column(part.indicator)
    value, sign = (part.at_least, "≥") if part.at_least is not None else (part.at_most or 0.0, "≤")
    unit = TABLE[part.indicator].unit if part.indicator in _COLUMNS else ""
    if unit == "0/1":
        return en, zh or en
    shown, shown_zh = value_text(value, column_of(part.indicator, {}))
    if unit.startswith("10k RMB"):
        shown = f"RMB {10_000 * value:,.0f}{unit.removeprefix('10k RMB')}"
    sign = "=" if sign == "≤" and value == 0 else sign
    return f"{en} {sign} {shown}", f"{zh or en} {sign} {shown_zh}"
