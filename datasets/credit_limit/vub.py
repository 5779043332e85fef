"""A Romanian non-bank lender (Petrides et al. 2020): real, read through YUHENG_DATA, not shipped (licence not stated).

18,917 loans, 17.0 % more than 45 days late. Money, age and gearing are standardised in the source (mean 0, sd 1);
V1..V8 are coded characteristics whose meaning it withholds. Three preset test flags, and profit and loss per row for
judging: they have no place in a model, nor has Days_late, which is the outcome itself.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets import schema
from datasets.external_files import locate
from datasets.schema import Column, Origin, Role, Table

FILE = "credit/vub_nbfi_romania/vub_credit_scoring.csv.gz"


def _coded(name: str, levels: int) -> Column:
    return Column(
        name=name, kind="category", levels=tuple(str(i + 1) for i in range(levels)), group="application",
        en=f"characteristic {name[1:]}", zh=f"特征{name[1:]}",
    )  # fmt: skip


def _standardised(name: str, en: str, zh: str, group: str, direction: int = 0, role: Role = "indicator") -> Column:
    return Column.model_validate(
        {"name": name, "low": -100, "high": 100, "unit": "standard deviations", "direction": direction,
         "role": role, "group": group, "en": en, "zh": zh}
    )  # fmt: skip


TABLE = Table(
    name="vub_nbfi_romania",
    origin=Origin(
        source="Petrides, Moldovan, Coenen, Guns, Verbeke 2020, by way of PyPI empulse 0.13.1",
        licence="not stated: not shipped",
        sha256="fe5f8386599649aa4102ad7665f77aedda8dd58533d8bdbea169931d1465fe56",
    ),
    columns=(
        Column(name="ID", role="id", low=1, integer=True, en="loan", zh="贷款编号"),
        _coded("V1", 5), _coded("V2", 6), _coded("V3", 16), _coded("V4", 6), _coded("V5", 7), _coded("V6", 7),
        _coded("V7", 3),
        Column(name="V8", kind="category", levels=("1", "2", "3", "4", ">4"), group="application",
               en="characteristic 8", zh="特征8"),
        Column(name="Has_FICO", low=0, high=1, integer=True, unit="0/1", group="credit_behaviour",
               en="has a bureau score", zh="有征信评分"),
        Column(name="Business_channel", kind="category", levels=("1", "2", "3"), group="application",
               en="business channel", zh="业务渠道"),
        Column(name="Days_late", role="leak", low=0, high=10_000, integer=True, unit="days",
               en="days late (the outcome)", zh="逾期天数（结果）"),
        _standardised("Expected_loss", "loss if it defaults", "违约损失", "", role="leak"),
        _standardised("Expected_profit", "profit if it does not", "正常收益", "", role="leak"),
        _standardised("FICO_Score", "bureau score", "征信评分", "credit_behaviour", -1),
        _standardised("Loan_amount", "loan amount", "贷款金额", "application"),
        _standardised("Monthly_income", "monthly income", "月收入", "tax", -1),
        _standardised("Age", "age", "年龄", "audit", role="audit"),
        _standardised("Gearing_coefficient", "gearing", "负债率", "credit_behaviour"),
        _standardised("Max_gearing_ratio", "highest gearing allowed", "负债率上限", "application"),
        Column(name="Default_45", role="target", low=0, high=1, integer=True, unit="0/1",
               en="more than 45 days late", zh="逾期超过45天"),
        *(Column(name=f"Test_set{i}", role="id", low=0, high=1, integer=True, unit="0/1",
                 en=f"preset test flag {i}", zh=f"预设测试标记{i}") for i in (1, 2, 3)),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All 18,917 rows. `folder` holds credit/…; without it YUHENG_DATA does."""
    return schema.read(locate(FILE, TABLE.origin.sha256, folder), TABLE)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
