"""Bankruptcies of Polish companies, year 5 (Zieba, Tomczak & Tomczak 2016; UCI 365): real, read through YUHENG_DATA.

The statements of 5,850 companies, 6.97 % of them bankrupt within the next year. The file has 5,910 rows, of which 60
repeat another row in all 64 ratios and the outcome; `read` drops these, so that no copy is on both sides of a split.
Names are UCI's, but not every formula is right: Attr52 is not multiplied by 365 (it is Attr32 in years), and Attr7,
Attr14 and Attr18 are the same numbers in 5,906 rows. Attr29 is log10 of the assets, in the unit of Attr55,
which UCI does not state.
The file reveals more than the ratios should: bankrupt companies are at its end, and none of the 534 companies whose
operating profit is exactly 0 (Attr22, and so Attr42 and Attr27) went bankrupt, as if it had not been filed for them.
datasets.leakage reports this; read scores on this table accordingly.

A ratio has a direction if its denominator cannot change the sign (assets, sales, short-term liabilities) and every
lender would agree: profit, equity and liquidity lower the risk, debt and costs raise it. Ratios of turnover, size and
growth have none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from datasets import validation
from datasets.files.external_files import locate
from datasets.schema import ColumnSchema, Source, TableSchema

FILE = "company/polish_bankruptcy/polish_5year.parquet"

RATIOS: tuple[tuple[Literal[-1, 0, 1], str, str, str], ...] = (  # Attr1, Attr2, ...: direction, unit, English, Chinese
    (-1, "ratio", "net profit / total assets", "净利润 / 总资产"),
    (1, "ratio", "total liabilities / total assets", "总负债 / 总资产"),
    (-1, "ratio", "working capital / total assets", "营运资金 / 总资产"),
    (-1, "ratio", "current assets / short-term liabilities", "流动资产 / 短期负债"),
    (0, "days", "(cash + short-term securities + receivables - short-term liabilities) * 365 / "
     "(operating expenses - depreciation)", "（现金 + 短期证券 + 应收账款 - 短期负债）* 365 /（营业费用 - 折旧）"),
    (-1, "ratio", "retained earnings / total assets", "留存收益 / 总资产"),
    (-1, "ratio", "EBIT / total assets", "息税前利润 / 总资产"),
    (0, "ratio", "book value of equity / total liabilities", "账面净资产 / 总负债"),
    (0, "ratio", "sales / total assets", "销售收入 / 总资产"),
    (-1, "ratio", "equity / total assets", "净资产 / 总资产"),
    (-1, "ratio", "(gross profit + extraordinary items + financial expenses) / total assets",
     "（毛利润 + 非经常性项目 + 财务费用）/ 总资产"),
    (0, "ratio", "gross profit / short-term liabilities", "毛利润 / 短期负债"),
    (-1, "ratio", "(gross profit + depreciation) / sales", "（毛利润 + 折旧）/ 销售收入"),
    (-1, "ratio", "(gross profit + interest) / total assets", "（毛利润 + 利息）/ 总资产"),
    (0, "days", "total liabilities * 365 / (gross profit + depreciation)", "总负债 * 365 /（毛利润 + 折旧）"),
    (0, "ratio", "(gross profit + depreciation) / total liabilities", "（毛利润 + 折旧）/ 总负债"),
    (-1, "ratio", "total assets / total liabilities", "总资产 / 总负债"),
    (-1, "ratio", "gross profit / total assets", "毛利润 / 总资产"),
    (-1, "ratio", "gross profit / sales", "毛利润 / 销售收入"),
    (0, "days", "inventory * 365 / sales", "存货 * 365 / 销售收入"),
    (0, "ratio", "sales (n) / sales (n-1)", "本年销售收入 / 上年销售收入"),
    (-1, "ratio", "profit on operating activities / total assets", "营业利润 / 总资产"),
    (-1, "ratio", "net profit / sales", "净利润 / 销售收入"),
    (-1, "ratio", "gross profit (in 3 years) / total assets", "三年毛利润 / 总资产"),
    (-1, "ratio", "(equity - share capital) / total assets", "（净资产 - 股本）/ 总资产"),
    (0, "ratio", "(net profit + depreciation) / total liabilities", "（净利润 + 折旧）/ 总负债"),
    (0, "ratio", "profit on operating activities / financial expenses", "营业利润 / 财务费用"),
    (0, "ratio", "working capital / fixed assets", "营运资金 / 固定资产"),
    (0, "log10", "logarithm of total assets", "总资产的对数"),
    (0, "ratio", "(total liabilities - cash) / sales", "（总负债 - 现金）/ 销售收入"),
    (-1, "ratio", "(gross profit + interest) / sales", "（毛利润 + 利息）/ 销售收入"),
    (0, "days", "current liabilities * 365 / cost of products sold", "流动负债 * 365 / 销售成本"),
    (0, "ratio", "operating expenses / short-term liabilities", "营业费用 / 短期负债"),
    (0, "ratio", "operating expenses / total liabilities", "营业费用 / 总负债"),
    (-1, "ratio", "profit on sales / total assets", "销售利润 / 总资产"),
    (0, "ratio", "total sales / total assets", "总销售收入 / 总资产"),
    (0, "ratio", "(current assets - inventories) / long-term liabilities", "（流动资产 - 存货）/ 长期负债"),
    (-1, "ratio", "constant capital / total assets", "长期资本 / 总资产"),
    (-1, "ratio", "profit on sales / sales", "销售利润 / 销售收入"),
    (-1, "ratio", "(current assets - inventory - receivables) / short-term liabilities",
     "（流动资产 - 存货 - 应收账款）/ 短期负债"),
    (0, "ratio", "total liabilities / ((profit on operating activities + depreciation) * (12/365))",
     "总负债 /（（营业利润 + 折旧）*（12/365））"),
    (-1, "ratio", "profit on operating activities / sales", "营业利润 / 销售收入"),
    (0, "days", "rotation receivables + inventory turnover in days", "应收账款周转天数 + 存货周转天数"),
    (0, "days", "receivables * 365 / sales", "应收账款 * 365 / 销售收入"),
    (0, "ratio", "net profit / inventory", "净利润 / 存货"),
    (-1, "ratio", "(current assets - inventory) / short-term liabilities", "（流动资产 - 存货）/ 短期负债"),
    (0, "days", "inventory * 365 / cost of products sold", "存货 * 365 / 销售成本"),
    (-1, "ratio", "EBITDA (profit on operating activities - depreciation) / total assets",
     "EBITDA（营业利润 - 折旧）/ 总资产"),
    (-1, "ratio", "EBITDA (profit on operating activities - depreciation) / sales",
     "EBITDA（营业利润 - 折旧）/ 销售收入"),
    (0, "ratio", "current assets / total liabilities", "流动资产 / 总负债"),
    (1, "ratio", "short-term liabilities / total assets", "短期负债 / 总资产"),
    (0, "years", "short-term liabilities / cost of products sold", "短期负债 / 销售成本"),
    (0, "ratio", "equity / fixed assets", "净资产 / 固定资产"),
    (0, "ratio", "constant capital / fixed assets", "长期资本 / 固定资产"),
    (0, "money, unit not stated", "working capital", "营运资金"),
    (0, "ratio", "(sales - cost of products sold) / sales", "（销售收入 - 销售成本）/ 销售收入"),
    (0, "ratio", "(current assets - inventory - short-term liabilities) / (sales - gross profit - depreciation)",
     "（流动资产 - 存货 - 短期负债）/（销售收入 - 毛利润 - 折旧）"),
    (1, "ratio", "total costs / total sales", "总成本 / 总销售收入"),
    (0, "ratio", "long-term liabilities / equity", "长期负债 / 净资产"),
    (0, "ratio", "sales / inventory", "销售收入 / 存货"),
    (0, "ratio", "sales / receivables", "销售收入 / 应收账款"),
    (0, "days", "short-term liabilities * 365 / sales", "短期负债 * 365 / 销售收入"),
    (0, "ratio", "sales / short-term liabilities", "销售收入 / 短期负债"),
    (0, "ratio", "sales / fixed assets", "销售收入 / 固定资产"),
)  # fmt: skip

TABLE = TableSchema(
    name="polish_bankruptcy",
    origin=Source(
        source="UCI 365, doi 10.24432/C5F600, 5year.arff, by way of GitHub ReebalSami/seminar-bankruptcy-prediction",
        licence="CC BY 4.0",
        sha256="6ef4e40a76fe19ea3ea7103b8b35d5d99e83c5964c1f4f7eba1f0582b707eb10",
    ),
    columns=(
        *(
            ColumnSchema(name=f"Attr{i}", unit=unit, direction=direction, group="financial", en=en, zh=zh)
            for i, (direction, unit, en, zh) in enumerate(RATIOS, start=1)
        ),
        ColumnSchema(name="class", role="target", low=0, high=1, integer=True, unit="0/1", en="bankrupt within a year",
               zh="一年内破产"),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """The 5,850 distinct rows, in the file's order. folder: contains company/…; YUHENG_DATA by default."""
    frame = validation.read_table(locate(FILE, TABLE.origin.sha256, folder), TABLE)
    return frame.unique(keep="first", maintain_order=True)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
