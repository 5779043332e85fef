"""Bankruptcies of US listed companies, 1999-2018 (Lombardo et al. 2022): real, read through YUHENG_DATA.

61,359 company-years of 7,120 companies. In the source, every year of a company that fails some day is marked; here the
outcome is that this is the last year of a company that failed, so 0.79 % of the rows. Rows of one company are alike: a
split must keep a company, or a year, on one side. A company that was bought or delisted counts as one that survived.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from datasets import validation
from datasets.files.external_files import locate
from datasets.schema import ColumnSchema, Source, TableSchema

FILE = "company/us_bankruptcy/us_bankruptcy.parquet"

ACCOUNTS: tuple[tuple[str, Literal[-1, 0, 1], str], ...] = (  # heading, direction, Chinese
    ("Current assets", 0, "流动资产"),
    ("Cost of goods sold", 0, "销售成本"),
    ("Depreciation and amortization", 0, "折旧与摊销"),
    ("EBITDA", 0, "息税折旧摊销前利润"),
    ("Inventory", 0, "存货"),
    ("Net Income", 0, "净利润"),
    ("Total Receivable", 0, "应收账款"),
    ("Market Value", -1, "市值"),
    ("Net Sales", 0, "销售净额"),
    ("Total Assets", 0, "总资产"),
    ("Total Long-term Debt", 0, "长期负债"),
    ("EBIT", 0, "息税前利润"),
    ("Gross Profit", 0, "毛利润"),
    ("Total Current Liabilities", 0, "流动负债"),
    ("Retained Earnings", 0, "留存收益"),
    ("Total Revenue", 0, "营业收入"),
    ("Total Liabilities", 0, "总负债"),
    ("Total Operating Expenses", 0, "营业费用"),
)

TABLE = TableSchema(
    name="us_bankruptcy",
    origin=Source(
        source="Lombardo et al., Future Internet 14(8):244, 2022, by way of GitHub "
        "ShahnawazHusian/US-Company-Bankruptcy-Prediction",
        licence="CC BY 4.0",
        sha256="31a54cd8518a22b6682431e6ea9fbbbcff79ba8ff7a3f5dd85264fa35527c1ea",
    ),
    columns=(
        ColumnSchema(name="company", kind="text", role="group", required=True, en="company", zh="企业"),
        ColumnSchema(name="year", role="time", low=1999, high=2018, integer=True, unit="year", required=True, en="year",
               zh="年度"),
        *(
            ColumnSchema(name=name, direction=direction, unit="million dollars", group="financial", en=name.lower(),
                         zh=zh)
            for name, direction, zh in ACCOUNTS
        ),
        ColumnSchema(name="fails_next", role="target", low=0, high=1, integer=True, unit="0/1",
               en="fails after this year", zh="次年破产"),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All company-years, by company and year. folder: contains company/…; YUHENG_DATA by default."""
    path = locate(FILE, TABLE.origin.sha256, folder)
    last_year = pl.col("year") == pl.col("year").max().over("company")
    fails_next = ((pl.col("failed") == 1) & last_year).cast(pl.Int64)
    raw = pl.read_parquet(path).sort("company", "year").with_columns(fails_next.alias("fails_next")).drop("failed")
    return validation.validate_or_raise(raw, TABLE, path.name)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
