"""Compute the indicators of a company from its invoices: one row per company, in seconds for a million invoices.

Amounts are without tax. A negative amount is a return. Void invoices count in the void rates alone. A window ends at
`as_of`, which is the last day of the whole table unless it is given; later invoices are not used. An indicator
whose base is missing or 0 is missing.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from datasets.schema import ColumnSchema

MIN_SEASON_MONTHS = 24  # from the first sale to `as_of`, for seasonality
DIGITS = 10  # the order in which a group is summed changes the digits after them
MAX_CHANGE = 1_000.0  # from a base near 0 a share means little


def _column(name: str, direction: int, unit: str, en: str, zh: str) -> ColumnSchema:
    return ColumnSchema(name=name, direction=direction, unit=unit, group="invoices", en=en, zh=zh)  # type: ignore[arg-type]


COLUMNS = (  # a direction only where every lender would agree
    _column("sales_invoices", 0, "invoices", "valid sales invoices", "有效销项发票数"),
    _column("purchase_invoices", 0, "invoices", "valid purchase invoices", "有效进项发票数"),
    _column("sales", 0, "yuan", "sales less returns", "销售净额"),
    _column("purchases", 0, "yuan", "purchases less returns", "采购净额"),
    _column("sales_void_share", 1, "share", "share of void sales invoices", "销项作废率"),
    _column("purchase_void_share", 1, "share", "share of void purchase invoices", "进项作废率"),
    _column("sales_return_share", 1, "share", "returns / gross sales", "销售退货率"),
    _column("purchase_return_share", 0, "share", "returns / gross purchases", "采购退货率"),
    _column("buyers", -1, "companies", "buyers", "下游客户数"),
    _column("sellers", 0, "companies", "sellers", "上游供应商数"),
    _column("top_buyer_share", 1, "share", "share of the largest buyer in sales", "第一大客户销售占比"),
    _column("top_seller_share", 0, "share", "share of the largest seller in purchases", "第一大供应商采购占比"),
    _column("buyer_concentration", 1, "index", "concentration of buyers (sum of squared shares)", "客户集中度（HHI）"),
    _column("seller_concentration", 0, "index", "concentration of sellers (sum of squared shares)",
            "供应商集中度（HHI）"),
    _column("sales_growth", -1, "share", "sales of 12 months against the 12 before", "近12个月销售额同比增长"),
    _column("purchase_growth", 0, "share", "purchases of 12 months against the 12 before", "近12个月采购额同比增长"),
    _column("months_without_sales", 1, "share", "share of months without a sale since the first",
            "首次销售以来无销售月份占比"),
    _column("longest_gap", 1, "days", "longest time without a sale", "最长无销售间隔"),
    _column("days_since_sale", 1, "days", "time since the last sale", "距最近一次销售的天数"),
    _column("sales_variation", 1, "ratio", "deviation of monthly sales / their mean", "月销售额变异系数"),
    _column("seasonality", 0, "share", "share of the variance of monthly sales between calendar months",
            "月销售额季节性（方差占比）"),
    _column("margin", -1, "share", "(sales - purchases) / sales", "进销差率"),
    _column("tax_rate", 0, "share", "tax / sales", "销项税负率"),
    _column("shared_buyer_share", 0, "share", "share of sales to buyers of other companies here",
            "与他企共有客户的销售占比"),
    _column("shared_seller_share", 0, "share", "share of purchases from sellers to other companies here",
            "与他企共有供应商的采购占比"),
    _column("two_way_share", 1, "share", "share of sales to those who sell to the company too", "互为购销方的销售占比"),
)  # fmt: skip


def compute_features(invoices: pl.DataFrame, as_of: date | None = None) -> pl.DataFrame:
    """`company` and COLUMNS for every company with an invoice until `as_of`. invoices: of reader.FRAME."""
    as_of = as_of or invoices["date"].max()  # type: ignore[assignment]
    known = invoices.lazy().filter(pl.col("date") <= as_of)
    features = known.select("company").unique()
    for is_sale, word, party in ((True, "sales", "buyer"), (False, "purchase", "seller")):
        rows = known.filter(pl.col("sale") == is_sale)
        for indicators in (_totals(rows, word, as_of), _parties(rows.filter(~pl.col("void")), party)):
            features = features.join(indicators, on="company", how="left")
    sales = known.filter(pl.col("sale") & ~pl.col("void"))
    for indicators in (_sale_days(sales, as_of), _sale_months(sales, as_of), _two_ways(known.filter(~pl.col("void")))):
        features = features.join(indicators, on="company", how="left")
    features = features.rename({"purchase": "purchases"}).with_columns(
        margin=_ratio(pl.col("sales") - pl.col("purchases").fill_null(0.0), pl.col("sales")),
        tax_rate=_ratio(pl.col("sales_tax"), pl.col("sales")),
    )
    figures = (pl.col(column.name).cast(pl.Float64).round_sig_figs(DIGITS) for column in COLUMNS)
    return features.select("company", *figures).sort("company").collect(engine="in-memory")


def _ratio(numerator: pl.Expr, base: pl.Expr) -> pl.Expr:
    """Missing where the base is not above 0."""
    return pl.when(base > 0).then((numerator / base).clip(-MAX_CHANGE, MAX_CHANGE))


def _totals(rows: pl.LazyFrame, word: str, as_of: date | None) -> pl.LazyFrame:
    valid = rows.filter(~pl.col("void"))
    void = rows.group_by("company").agg(pl.col("void").mean().alias(f"{word}_void_share"))
    amount = pl.col("amount")
    last_year = pl.col("date") > pl.lit(as_of).dt.offset_by("-12mo")
    two_years = pl.col("date") > pl.lit(as_of).dt.offset_by("-24mo")
    sums = valid.group_by("company").agg(
        pl.len().alias(f"{word}_invoices"),
        amount.sum().alias(word),
        pl.col("tax").sum().alias(f"{word}_tax"),
        _ratio(-amount.filter(amount < 0).sum(), amount.filter(amount > 0).sum()).alias(f"{word}_return_share"),
        pl.when(pl.col("date").min() <= pl.lit(as_of).dt.offset_by("-24mo"))  # else the first year is not whole
        .then(_ratio(amount.filter(last_year).sum(), amount.filter(two_years & ~last_year).sum()) - 1)
        .alias(f"{word}_growth"),
    )
    return void.join(sums, on="company", how="left")


def _parties(valid: pl.LazyFrame, party: str) -> pl.LazyFrame:
    """Concentration, and how much of the amount is of parties who deal with other companies too."""
    pairs = valid.group_by("company", "counterparty").agg(pl.col("amount").sum().clip(lower_bound=0))
    companies = pairs.group_by("counterparty").agg(pl.len().alias("companies"))
    return (
        pairs.join(companies, on="counterparty")
        .group_by("company")
        .agg(
            pl.len().alias(f"{party}s"),
            _ratio(pl.col("amount").max(), pl.col("amount").sum()).alias(f"top_{party}_share"),
            _ratio((pl.col("amount") ** 2).sum(), pl.col("amount").sum() ** 2).alias(f"{party}_concentration"),
            _ratio(pl.col("amount").filter(pl.col("companies") > 1).sum(), pl.col("amount").sum()).alias(
                f"shared_{party}_share"
            ),
        )
    )


def _sale_days(sales: pl.LazyFrame, as_of: date | None) -> pl.LazyFrame:
    days = pl.col("date").unique().sort()
    return sales.group_by("company").agg(
        days.diff().dt.total_days().max().alias("longest_gap"),
        (pl.lit(as_of) - pl.col("date").max()).dt.total_days().alias("days_since_sale"),
    )


def _sale_months(sales: pl.LazyFrame, as_of: date | None) -> pl.LazyFrame:
    """Figures over all months from the first sale to `as_of`; a month without a sale counts as 0."""
    month = pl.col("date").dt.year() * 12 + pl.col("date").dt.month().cast(pl.Int32)
    last = pl.lit(as_of).dt.year() * 12 + pl.lit(as_of).dt.month().cast(pl.Int32)
    first = sales.group_by("company").agg(month.min().alias("first"))
    months = first.select("company", pl.int_ranges("first", last + 1, dtype=pl.Int32).alias("month")).explode("month")
    sums = sales.group_by("company", month.alias("month")).agg(pl.col("amount").sum(), pl.len().alias("invoices"))
    filled = months.join(sums, on=["company", "month"], how="left").with_columns(
        pl.col("amount").fill_null(0.0),
        pl.col("amount").fill_null(0.0).mean().over("company", pl.col("month") % 12).alias("calendar_mean"),
    )
    return filled.group_by("company").agg(
        pl.col("invoices").is_null().mean().alias("months_without_sales"),
        _ratio(pl.col("amount").std(), pl.col("amount").mean()).alias("sales_variation"),
        pl.when(pl.len() >= MIN_SEASON_MONTHS)
        .then(_ratio(pl.col("calendar_mean").var(), pl.col("amount").var()))
        .alias("seasonality"),
    )


def _two_ways(valid: pl.LazyFrame) -> pl.LazyFrame:
    pairs = valid.filter(pl.col("sale")).group_by("company", "counterparty").agg(pl.col("amount").sum().clip(0))
    sellers = valid.filter(~pl.col("sale")).select("company", "counterparty").unique().with_columns(both=pl.lit(True))
    return (
        pairs.join(sellers, on=["company", "counterparty"], how="left")
        .group_by("company")
        .agg(_ratio(pl.col("amount").filter(pl.col("both")).sum(), pl.col("amount").sum()).alias("two_way_share"))
    )
