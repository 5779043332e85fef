"""The contract of a register of technology companies (科技企业名录) at the end of a month: its columns and its files.

TABLE is one company-month as a model and a batch see it, in one flat table. Money is in 10k RMB (万元); yearly amounts
cover the last 12 months. COMPUTED_COLUMNS follow from the months and the network: they are computed when a register
folder is read; a flat table may contain them already.

`direction` is positive where a higher value means more risk, and 0 where both can be argued: fast growth is a risk too,
and so are research or receivables that are large for the company.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from datasets.derived_columns import DerivedFormula
from datasets.schema import ColumnSchema, Source, TableSchema

Direction = Literal[-1, 0, 1]
MAX_MONEY = 100_000_000.0  # 10k RMB: a trillion yuan

_REGISTRATION, _TECHNOLOGY, _GROWTH, _AUXILIARY = "registration", "technology", "growth", "auxiliary"
_FINANCIAL, _PUBLIC, _MONTHS, _SHELL, _DATA = "financial", "public_records", "months", "shell", "data_assets"


def _money(
    name: str, direction: Direction, group: str, en: str, zh: str, yearly: bool = False, signed: bool = False
) -> ColumnSchema:
    return ColumnSchema(
        name=name, low=-MAX_MONEY if signed else 0, high=MAX_MONEY, unit="10k RMB/year" if yearly else "10k RMB",
        direction=direction, group=group, en=en, zh=zh,
    )  # fmt: skip


def _share(name: str, low: float, high: float, direction: Direction, group: str, en: str, zh: str) -> ColumnSchema:
    return ColumnSchema(name=name, low=low, high=high, unit="share", direction=direction, group=group, en=en, zh=zh)


def _count(
    name: str, direction: Direction, group: str, en: str, zh: str, unit: str = "count", high: float = 1e6
) -> ColumnSchema:
    return ColumnSchema(
        name=name, low=0, high=high, integer=True, unit=unit, direction=direction, group=group, en=en, zh=zh
    )  # fmt: skip


def _flag(name: str, direction: Direction, group: str, en: str, zh: str) -> ColumnSchema:
    return _count(name, direction, group, en, zh, unit="0/1", high=1)


def _ratio(
    name: str, of: str, by: str, direction: Direction, group: str, en: str, zh: str, unit: str = ""
) -> ColumnSchema:
    return ColumnSchema(
        name=name, unit=unit, direction=direction, group=group, en=en, zh=zh,
        derived=DerivedFormula(op="ratio", of=(of,), by=(by,)),
    )  # fmt: skip


TABLE = TableSchema(
    name="register",
    columns=(
        ColumnSchema(name="company_id", kind="text", role="id", required=True, en="company", zh="企业编号"),
        ColumnSchema(name="as_of", kind="text", role="time", unit="YYYY-MM", en="true as of the end of", zh="数据月份"),
        # registration 登记
        ColumnSchema(name="trade", kind="category", group=_REGISTRATION, en="trade", zh="行业",
               levels=("software", "electronics", "pharmaceuticals", "medical_devices", "machinery", "new_materials",
                       "new_energy", "aerospace", "research_services", "other")),
        _count("licence_age", -1, _REGISTRATION, "age of the business licence", "营业执照存续月数", "months", 2_400),
        _money("registered_capital", 0, _REGISTRATION, "registered capital", "注册资本"),
        _money("paid_in_capital", -1, _REGISTRATION, "paid-in capital", "实缴资本"),
        # this and the next flag: read by the decision, never an input of the PD
        _flag("deregistered", 1, _REGISTRATION, "deregistered, revoked or in liquidation", "注销、吊销或清算中"),
        # technology 技术创新
        _money("rd_expense", 0, _TECHNOLOGY, "R&D expense", "研发费用", yearly=True),
        _share("rd_growth", -1, 1_000, 0, _TECHNOLOGY, "growth of R&D expense", "研发费用增长率"),
        _share("rd_staff_share", 0, 1, 0, _TECHNOLOGY, "share of staff in R&D", "研发人员占比"),
        _count("invention_patents", -1, _TECHNOLOGY, "invention patents of the main products", "主营产品发明专利数"),
        _count("pct_filings", -1, _TECHNOLOGY, "PCT filings of the main products", "主营产品PCT申请数"),
        _money("technology_contracts", -1, _TECHNOLOGY, "technology contracts", "技术合同成交额", yearly=True),
        _money("patent_value", -1, _TECHNOLOGY, "appraised value of patents", "专利评估价值"),
        # growth 成长经营
        _money("revenue", -1, _GROWTH, "revenue", "营业收入", yearly=True),
        _money("high_tech_revenue", -1, _GROWTH, "high-tech revenue", "高新技术产品收入", yearly=True),
        _share("revenue_growth", -1, 1_000, 0, _GROWTH, "growth of revenue", "营业收入增长率"),
        _money("super_deduction", 0, _GROWTH, "super-deduction of R&D", "研发费用加计扣除额", yearly=True),
        _share("return_on_net_assets", -100, 100, -1, _GROWTH, "return on net assets", "净资产收益率"),
        # auxiliary 辅助
        _count("graduates_hired", 0, _AUXILIARY, "graduates hired in 12 months", "近12个月吸纳应届毕业生人数",
               "persons"),
        _count("provincial_platforms", -1, _AUXILIARY, "R&D platforms of provincial rank or above",
               "省级以上研发平台数"),
        _count("awards", -1, _AUXILIARY, "science and technology awards", "科技奖励数"),
        _count("projects", -1, _AUXILIARY, "science and technology projects", "科技计划项目数"),
        _money("venture_capital", -1, _AUXILIARY, "venture capital raised", "累计风险投资额"),
        # financial 财务
        _money("total_assets", -1, _FINANCIAL, "total assets", "资产总额"),
        _money("total_liabilities", 1, _FINANCIAL, "total liabilities", "负债总额"),
        _money("current_assets", -1, _FINANCIAL, "current assets", "流动资产"),
        _money("current_liabilities", 1, _FINANCIAL, "current liabilities", "流动负债"),
        _money("cash", -1, _FINANCIAL, "cash", "货币资金"),
        _money("receivables", 0, _FINANCIAL, "receivables", "应收账款"),
        _money("net_profit", -1, _FINANCIAL, "net profit", "净利润", yearly=True, signed=True),
        _money("operating_cash_flow", -1, _FINANCIAL, "operating cash flow before debt service",
               "经营活动现金流（偿债前）", yearly=True, signed=True),
        _money("interest_expense", 1, _FINANCIAL, "interest expense", "利息支出", yearly=True),
        _money("debt_service", 1, _FINANCIAL, "debt service", "还本付息额", yearly=True),
        _ratio("rd_intensity", "rd_expense", "revenue", 0, _TECHNOLOGY, "R&D over revenue", "研发投入强度", "share"),
        _ratio("current_ratio", "current_assets", "current_liabilities", -1, _FINANCIAL, "current ratio", "流动比率"),
        _ratio("debt_ratio", "total_liabilities", "total_assets", 1, _FINANCIAL, "liabilities over assets",
               "资产负债率", "share"),
        # Not cash flow over interest: where the flow is negative, more interest would look safer.
        _ratio("interest_burden", "interest_expense", "revenue", 1, _FINANCIAL, "interest over revenue",
               "利息支出占收入比", "share"),
        _ratio("asset_turnover", "revenue", "total_assets", -1, _FINANCIAL, "revenue over assets", "总资产周转率"),
        _ratio("cash_ratio", "cash", "current_liabilities", -1, _FINANCIAL, "cash over current liabilities",
               "现金比率"),
        _ratio("margin", "net_profit", "revenue", -1, _FINANCIAL, "net profit over revenue", "销售净利率", "share"),
        # public records 公共记录
        _count("insured_staff", -1, _PUBLIC, "insured staff", "社保参保人数", "persons"),
        ColumnSchema(name="tax_grade", kind="category", levels=("A", "B", "M", "C", "D"), ordered=True, direction=1,
               group=_PUBLIC, en="tax-credit grade", zh="纳税信用等级"),
        _money("tax_arrears", 1, _PUBLIC, "tax arrears", "欠税金额"),
        _count("court_cases", 1, _PUBLIC, "court cases as defendant in 36 months", "近36个月涉诉被告案件数"),
        _count("enforcement_cases", 1, _PUBLIC, "enforcement cases in 36 months", "近36个月被执行案件数"),
        _flag("qualified_audit", 1, _PUBLIC, "audit opinion qualified, adverse or disclaimed", "非标准审计意见"),
        _count("penalties_36m", 1, _PUBLIC, "penalties in 36 months", "近36个月行政处罚次数"),
        # from the monthly history 月度预警
        _share("revenue_change_6m", -1, 1_000, -1, _MONTHS, "revenue of 6 months against the 6 before",
               "近6个月收入较前6个月变化"),
        _share("staff_change_6m", -1, 1_000, -1, _MONTHS, "insured staff of 6 months against the 6 before",
               "近6个月参保人数较前6个月变化"),
        _share("cash_change_6m", -1, 1_000, -1, _MONTHS, "cash of 6 months against the 6 before",
               "近6个月货币资金较前6个月变化"),
        _share("electricity_change_6m", -1, 1_000, -1, _MONTHS, "electricity of 6 months against the 6 before",
               "近6个月用电量较前6个月变化"),
        _count("overdue_days_6m", 1, _MONTHS, "worst days overdue in 6 months", "近6个月最长逾期天数", "days", 3_650),
        _count("late_filings_6m", 1, _MONTHS, "late tax filings in 6 months", "近6个月逾期申报次数", high=6),
        _share("revenue_drop_12m", 0, 1, 1, _MONTHS, "worst fall of quarterly revenue in 12 months",
               "近12个月季度收入最大回落幅度"),
        # shell flags 空壳特征: read by the shell gate, never an input of the PD
        _count("zero_filing_months", 1, _SHELL, "months of zero filing in 24", "近24个月零申报月数", "months", 24),
        _count("address_companies", 1, _SHELL, "other companies at the address", "同地址其他企业数", "companies"),
        _share("address_empty_share", 0, 1, 1, _SHELL, "share of them without insured staff", "同地址无参保企业占比"),
        _count("officer_companies", 1, _SHELL, "other companies that share an officer", "共用高管其他企业数",
               "companies"),
        _share("officer_empty_share", 0, 1, 1, _SHELL, "share of them without insured staff",
               "共用高管无参保企业占比"),
        _share("invoice_loop_share", 0, 1, 1, _SHELL, "share of invoiced sales that runs in a loop", "循环开票占比"),
        _share("invoice_related_share", 0, 1, 1, _SHELL, "share of invoiced sales to related companies",
               "关联方开票占比"),
        ColumnSchema(name="invoice_to_electricity", low=0, unit="10k RMB/MWh", direction=1, group=_SHELL,
               en="invoiced sales per electricity used", zh="开票金额与用电量之比"),
        _flag("abnormal_list", 1, _SHELL, "on the list of abnormal operations", "列入经营异常名录"),
        _flag("ownership_cycle", 1, _SHELL, "owns itself, through others or directly", "股权循环持股"),
        ColumnSchema(name="loop_path", kind="text", group=_SHELL, en="loop of invoices", zh="循环开票路径"),
        # data assets 数据资产: they support a limit, never an input of the PD
        _flag("data_certificate", -1, _DATA, "data-resource holding certificate", "数据资源持有权证书"),
        _money("data_asset_value", -1, _DATA, "registered value of data assets", "数据资产登记价值"),
        # audit only, never scored
        ColumnSchema(name="ownership", kind="category", role="audit", group="audit", en="ownership", zh="所有制",
               levels=("private", "state", "foreign")),
        # outcome
        ColumnSchema(name="default_12m", role="target", low=0, high=1, integer=True, unit="0/1",
               en="default within 12 months", zh="12个月内违约"),
        # known only to the simulator, or only later
        ColumnSchema(name="true_pd", role="leak", low=0, high=1, unit="probability",
               en="true probability of default (simulator)", zh="真实违约概率（模拟）"),
        ColumnSchema(name="is_shell", role="leak", low=0, high=1, integer=True, unit="0/1",
               en="is a shell (simulator)", zh="空壳企业（模拟）"),
        ColumnSchema(name="months_in_arrears_after", role="leak", low=0, high=12, integer=True, unit="months",
               en="months in arrears after the date", zh="此后逾期月数"),
    ),
)  # fmt: skip

# A register folder: companies (TABLE without COMPUTED_COLUMNS) and these three, each as .parquet or .csv.
HISTORY = TableSchema(
    name="history",
    columns=(
        ColumnSchema(name="company_id", kind="text", role="id", required=True, en="company", zh="企业编号"),
        ColumnSchema(name="month", kind="text", role="time", required=True, unit="YYYY-MM", en="month", zh="月份"),
        _money("revenue", 0, _MONTHS, "revenue of the month", "当月营业收入"),
        _count("insured_staff", 0, _MONTHS, "insured staff", "参保人数", "persons"),
        _flag("zero_filing", 0, _MONTHS, "zero filing", "零申报"),
        _flag("late_filing", 0, _MONTHS, "late tax filing", "逾期申报"),
        ColumnSchema(name="electricity", low=0, high=1e8, unit="MWh", group=_MONTHS, en="electricity", zh="用电量"),
        _money("cash", 0, _MONTHS, "cash at the month's end", "月末货币资金"),
        _count("overdue_days", 0, _MONTHS, "days overdue", "逾期天数", "days", 3_650),
    ),
)
LINKS = TableSchema(
    name="links",
    columns=(
        ColumnSchema(name="company_id", kind="text", role="id", required=True, en="company", zh="企业编号"),
        ColumnSchema(name="kind", kind="category", levels=("officer", "address", "owner"), required=True,
               en="kind of link", zh="关联类型"),
        ColumnSchema(name="party", kind="text", required=True, en="officer, address or owner", zh="高管、地址或股东"),
    ),
)  # fmt: skip
INVOICES = TableSchema(
    name="invoices",
    columns=(
        ColumnSchema(name="seller", kind="text", required=True, en="seller", zh="销方"),
        ColumnSchema(name="buyer", kind="text", required=True, en="buyer", zh="购方"),
        ColumnSchema(name="amount", low=0, high=MAX_MONEY, unit="10k RMB", required=True,
               en="invoiced in 12 months, net of red-letter invoices", zh="近12个月开票净额"),
    ),
)  # fmt: skip

MONTHLY_COLUMNS = tuple(column.name for column in TABLE.columns if column.group == _MONTHS) + ("zero_filing_months",)
LINK_COLUMNS = (
    "address_companies", "address_empty_share", "officer_companies", "officer_empty_share", "ownership_cycle",
    "invoice_related_share",
)  # fmt: skip
INVOICE_COLUMNS = ("invoice_related_share", "invoice_loop_share", "invoice_to_electricity", "loop_path")
NETWORK_COLUMNS = tuple(dict.fromkeys(LINK_COLUMNS + INVOICE_COLUMNS))
COMPUTED_COLUMNS = (*MONTHLY_COLUMNS, *NETWORK_COLUMNS)
COMPANIES = TableSchema(
    name="companies",
    columns=tuple(column for column in TABLE.columns if column.name not in COMPUTED_COLUMNS),
    origin=Source(source="a register folder's companies file"),
)
FILES = {"companies": COMPANIES, "history": HISTORY, "links": LINKS, "invoices": INVOICES}


@dataclass(frozen=True)
class Remark:
    """A gap in a register that is not an error. `code` is stable."""

    code: str
    en: str
    zh: str


@dataclass(frozen=True)
class Register:
    """A register in memory.

    frame: TABLE, one row per company. history: HISTORY, sorted by company and month. month: 'YYYY-MM' of the frame.
    links, invoices: as read; None if there is no such file.
    """

    frame: pl.DataFrame
    history: pl.DataFrame
    month: str
    remarks: tuple[Remark, ...] = ()
    simulated: bool = False
    links: pl.DataFrame | None = None
    invoices: pl.DataFrame | None = None
