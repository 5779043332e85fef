"""FICO HELOC (Explainable ML challenge 2018): real, read through YUHENG_DATA, not shipped (FICO's terms).

10,459 applications, 52.2 % bad (90 days past due within two years). Codes: -9 no bureau record, -8 no usable value,
both missing; -7 condition not met. The absence of a delinquency is information, so MSinceMostRecentDelq -7 becomes the
month after the last that a bureau keeps. MSinceMostRecentInqexcl7days uses the codes differently: rows with -8 have
hardly any inquiries in six months (.04 on average) and .17 bad, so -8 means "none"; rows with -7 have 1.4 and are as
bad as those with 0 (.61). Directions are those of FICO's data dictionary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from datasets import validation
from datasets.files.external_files import locate
from datasets.schema import ColumnSchema, Source, TableSchema

FILE = "credit/fico_heloc/heloc.parquet"
NEVER_DELINQUENT = 84.0  # months: a bureau forgets a delinquency after seven years; the oldest in the data is 83
NEVER_INQUIRED = 25.0  # months: inquiries are kept for two years; the oldest in the data is 24


def _column(
    name: str, high: float, unit: str, direction: Literal[-1, 0, 1], en: str, zh: str, **recode: float
) -> ColumnSchema:
    return ColumnSchema(
        name=name, low=0, high=high, integer=True, unit=unit, direction=direction, group="credit_behaviour",
        missing_codes=tuple(code for code in (-9, -8) if str(code) not in recode), recode=recode, en=en, zh=zh,
    )  # fmt: skip


TABLE = TableSchema(
    name="fico_heloc",
    origin=Source(
        source="FICO Explainable ML challenge, by way of GitHub IBM/rulebenchmark 8a40933 data/heloc.csv",
        licence="FICO challenge terms: not shipped",
        sha256="32844201f0abc9f6d700e3ee10f6d6cdb8aa88bd567a4e3c2ac55f170d37060d",
    ),
    columns=(
        ColumnSchema(name="bad", role="target", low=0, high=1, integer=True, unit="0/1",
               en="90 days past due within two years", zh="两年内严重逾期"),
        _column("ExternalRiskEstimate", 100, "points", -1, "external risk estimate", "外部风险评分"),
        _column("MSinceOldestTradeOpen", 1_200, "months", -1, "months since oldest trade", "最早账户距今月数"),
        _column("MSinceMostRecentTradeOpen", 1_200, "months", -1, "months since newest trade", "最新账户距今月数"),
        _column("AverageMInFile", 1_200, "months", -1, "average months in file", "账户平均月数"),
        _column("NumSatisfactoryTrades", 1_000, "count", -1, "satisfactory trades", "正常账户数"),
        _column("NumTrades60Ever2DerogPubRec", 1_000, "count", 1, "trades ever 60 days late", "曾逾期60天账户数"),
        _column("NumTrades90Ever2DerogPubRec", 1_000, "count", 1, "trades ever 90 days late", "曾逾期90天账户数"),
        _column("PercentTradesNeverDelq", 100, "%", -1, "trades never delinquent", "从未逾期账户占比"),
        _column("MSinceMostRecentDelq", 84, "months", -1, "months since newest delinquency", "最近逾期距今月数",
                **{"-7": NEVER_DELINQUENT}),
        _column("MaxDelq2PublicRecLast12M", 9, "code", -1, "worst delinquency in 12 months", "近12个月最严重逾期等级"),
        _column("MaxDelqEver", 9, "code", -1, "worst delinquency ever", "历史最严重逾期等级"),
        _column("NumTotalTrades", 1_000, "count", 0, "trades in all", "账户总数"),
        _column("NumTradesOpeninLast12M", 1_000, "count", 1, "trades opened in 12 months", "近12个月新开账户数"),
        _column("PercentInstallTrades", 100, "%", 1, "instalment trades", "分期账户占比"),
        _column("MSinceMostRecentInqexcl7days", 25, "months", -1, "months since newest inquiry", "最近查询距今月数",
                **{"-8": NEVER_INQUIRED, "-7": 0.0}),
        _column("NumInqLast6M", 1_000, "count", 1, "inquiries in 6 months", "近6个月查询次数"),
        _column("NumInqLast6Mexcl7days", 1_000, "count", 1, "inquiries in 6 months but the last 7 days",
                "近6个月查询次数（不含近7天）"),
        _column("NetFractionRevolvingBurden", 1_000, "%", 1, "revolving balance over limit", "循环额度使用率"),
        _column("NetFractionInstallBurden", 1_000, "%", 1, "instalment balance over loan", "分期余额占比"),
        _column("NumRevolvingTradesWBalance", 1_000, "count", 0, "revolving trades with a balance", "有余额循环账户数"),
        _column("NumInstallTradesWBalance", 1_000, "count", 0, "instalment trades with a balance", "有余额分期账户数"),
        _column("NumBank2NatlTradesWHighUtilization", 1_000, "count", 1, "trades with high utilisation",
                "高使用率账户数"),
        _column("PercentTradesWBalance", 100, "%", 0, "trades with a balance", "有余额账户占比"),
    ),
)  # fmt: skip


def read(folder: Path | None = None) -> pl.DataFrame:
    """All 10,459 rows; the target `bad` is RiskPerformance == "Bad". folder: contains credit/…; YUHENG_DATA by
    default.
    """
    path = locate(FILE, TABLE.origin.sha256, folder)
    raw = validation.read_raw(path)
    target = (pl.col("RiskPerformance") == "Bad").cast(pl.Int8).alias("bad")
    return validation.validate_or_raise(raw.select(target, pl.exclude("RiskPerformance")), TABLE, path.name)


def sample(rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Real rows, drawn without replacement."""
    return read().sample(rows, seed=seed)
