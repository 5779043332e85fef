"""The case of Li, Mickel & Taylor (2018): SBA loans to Californian lessors and estate agents; read through YUHENG_DATA.

2,101 of the article's 2,102 loans (the source lacks one), 32.7 % charged off. Selected is 1 in the article's
training half and 0 in its test half. The columns are those of `sba` without State, and the article's own.

ARTICLE_FEATURES are the features of the article's last model, a logistic regression: on the test half its error rate is
32.2 % and its AUC .735. Two of the three were not known on the day of approval and are declared as leaks, so no lender
could have had that score:
- RealEstate is 1 if Term is 240 months or more, and the Term of a failed loan is its actual life (see `sba`);
- Recession is 1 if the loan ended, by that same Term, between December 2007 and June 2009.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets import validation
from datasets.files.external_files import locate
from datasets.schema import ColumnSchema, Source, TableSchema
from datasets.scitech_risk import sba

FILE = "company/sba_case/SBAcase.parquet"
ARTICLE_FEATURES = ("RealEstate", "Portion", "Recession")
SAS_EPOCH = 3_653  # days from 1960-01-01, the file's epoch, to 1970-01-01
DATE_COLUMNS = ("ApprovalDate", "ChgOffDate", "DisbursementDate")

TRADES = {  # the first three digits of NAICS -> (level, English, Chinese)
    "531": ("real_estate", "real estate", "房地产"),
    "532": ("rental", "rental and leasing", "设备租赁"),
    "533": ("intangibles", "lessors of intangible assets", "无形资产出租"),
}
LABELS = {**sba.LABELS, "trade": {level: (en, zh) for level, en, zh in TRADES.values()}}


def _columns() -> list[ColumnSchema]:
    levels = {"levels": tuple(LABELS["trade"])}
    return [
        column.model_copy(update=levels) if column.name == "trade" else column
        for column in sba.TABLE.columns
        if column.name != "State"
    ]


TABLE = TableSchema(
    name="sba_case",
    origin=Source(
        source="Li, Mickel & Taylor, J. Statistics Education 2018, by way of GitHub eremt56/Loan-Defaulters e5f0fc6",
        licence="records of a US federal agency, compiled by the authors; the copy states none: not shipped",
        sha256="8cda663e6f22a16ad812ebff57ef4b8e3d66d0a6bc7579174f4a78acb7e352d8",
    ),
    columns=(
        ColumnSchema(name="Selected", role="group", low=0, high=1, integer=True, unit="0/1", required=True,
               en="in the article's training half", zh="属于论文训练集"),
        *_columns(),
        ColumnSchema(name="New", low=0, high=1, integer=True, unit="0/1", group="registration", en="new business",
               zh="新设企业"),
        ColumnSchema(name="Portion", low=0, high=1, unit="share", group="application",
               en="share guaranteed, as the article has it", zh="论文所用担保比例"),
        ColumnSchema(name="RealEstate", role="leak", low=0, high=1, integer=True, unit="0/1",
               en="term of 240 months or more as it turned out", zh="期限（结果）不少于240个月"),
        ColumnSchema(name="Recession", role="leak", low=0, high=1, integer=True, unit="0/1",
               en="ended in the recession", zh="在衰退期内结束"),
        ColumnSchema(name="daysterm", role="leak", low=0, high=20_000, integer=True, unit="days",
               en="term as it turned out", zh="贷款期限（结果）"),
        ColumnSchema(name="xx", role="leak", low=0, high=40_000, integer=True, unit="days since 1960-01-01",
               en="day of disbursement plus term", zh="放款日加期限"),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All 2,101 loans. folder: contains company/…; YUHENG_DATA by default."""
    path = locate(FILE, TABLE.origin.sha256, folder)
    return validation.validate_or_raise(to_contract(validation.read_raw(path)), TABLE, path.name)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)


def to_contract(raw: pl.DataFrame) -> pl.DataFrame:
    """Convert the published columns to the contract's; City, Zip and State are left out, MIS_Status is the target."""
    dates = [(pl.col(name).cast(pl.Int32) - SAS_EPOCH).cast(pl.Date) for name in DATE_COLUMNS]
    trade_cases = [
        pl.when(pl.col("NAICS").cast(pl.String).str.starts_with(code)).then(pl.lit(level))
        for code, (level, _, _) in TRADES.items()
    ]
    loans = sba.to_contract(raw.with_columns(dates)).drop("State").with_columns(pl.coalesce(trade_cases).alias("trade"))
    return pl.concat([loans, raw.select("Selected", "New", *ARTICLE_FEATURES, "daysterm", "xx")], how="horizontal")
