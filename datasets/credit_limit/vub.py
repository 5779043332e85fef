"""A Romanian non-bank lender (Petrides et al. 2020): real, read through YUHENG_DATA, not shipped (licence not stated).

18,917 loans, 17.0 % more than 45 days late. Money, age and gearing are standardised in the source (mean 0, sd 1);
V1 to V8 are coded characteristics of undisclosed meaning. The three preset test flags and the profit and loss per row
are for evaluation only, and Days_late is the outcome itself.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets import validation
from datasets.files.external_files import locate
from datasets.schema import ColumnRole, ColumnSchema, Source, TableSchema

FILE = "credit/vub_nbfi_romania/vub_credit_scoring.csv.gz"


def _coded_column(name: str, level_count: int) -> ColumnSchema:
    return ColumnSchema(
        name=name, kind="category", levels=tuple(str(i + 1) for i in range(level_count)), group="application",
        en=f"characteristic {name[1:]}", zh=f"特征{name[1:]}",
    )  # fmt: skip


def _standardised_column(
    name: str, en: str, zh: str, group: str, direction: int = 0, role: ColumnRole = "indicator"
) -> ColumnSchema:
    return ColumnSchema.model_validate(
        {"name": name, "low": -100, "high": 100, "unit": "standard deviations", "direction": direction,
         "role": role, "group": group, "en": en, "zh": zh}
    )  # fmt: skip


TABLE = TableSchema(
    name="vub_nbfi_romania",
    origin=Source(
        source="Petrides, Moldovan, Coenen, Guns, Verbeke 2020, by way of PyPI empulse 0.13.1",
        licence="not stated: not shipped",
        sha256="fe5f8386599649aa4102ad7665f77aedda8dd58533d8bdbea169931d1465fe56",
    ),
    columns=(
        ColumnSchema(name="ID", role="id", low=1, integer=True, en="loan", zh="贷款编号"),
        _coded_column("V1", 5), _coded_column("V2", 6), _coded_column("V3", 16), _coded_column("V4", 6),
        _coded_column("V5", 7), _coded_column("V6", 7), _coded_column("V7", 3),
        ColumnSchema(name="V8", kind="category", levels=("1", "2", "3", "4", ">4"), group="application",
               en="characteristic 8", zh="特征8"),
        ColumnSchema(name="Has_FICO", low=0, high=1, integer=True, unit="0/1", group="credit_behaviour",
               en="has a bureau score", zh="有征信评分"),
        ColumnSchema(name="Business_channel", kind="category", levels=("1", "2", "3"), group="application",
               en="business channel", zh="业务渠道"),
        ColumnSchema(name="Days_late", role="leak", low=0, high=10_000, integer=True, unit="days",
               en="days late (the outcome)", zh="逾期天数（结果）"),
        _standardised_column("Expected_loss", "loss if it defaults", "违约损失", "", role="leak"),
        _standardised_column("Expected_profit", "profit if it does not", "正常收益", "", role="leak"),
        _standardised_column("FICO_Score", "bureau score", "征信评分", "credit_behaviour", -1),
        _standardised_column("Loan_amount", "loan amount", "贷款金额", "application"),
        _standardised_column("Monthly_income", "monthly income", "月收入", "tax", -1),
        _standardised_column("Age", "age", "年龄", "audit", role="audit"),
        _standardised_column("Gearing_coefficient", "gearing", "负债率", "credit_behaviour"),
        _standardised_column("Max_gearing_ratio", "highest gearing allowed", "负债率上限", "application"),
        ColumnSchema(name="Default_45", role="target", low=0, high=1, integer=True, unit="0/1",
               en="more than 45 days late", zh="逾期超过45天"),
        *(ColumnSchema(name=f"Test_set{i}", role="id", low=0, high=1, integer=True, unit="0/1",
                 en=f"preset test flag {i}", zh=f"预设测试标记{i}") for i in (1, 2, 3)),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All 18,917 rows. folder: contains credit/…; YUHENG_DATA by default."""
    return validation.read_table(locate(FILE, TABLE.origin.sha256, folder), TABLE)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
