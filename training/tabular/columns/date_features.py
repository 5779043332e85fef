"""Make features of a table's dates: the months from each to the date of the application, and the age at it.

A date itself is no feature: the model would learn the calendar. A date that lies after the application may be known
only afterwards, so that nothing is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import polars as pl

from datasets.derived_columns import DerivedFormula
from datasets.schema import ColumnSchema
from datasets.tables.values.dates import parse_mixed
from training.tabular.columns.roles import is_known_afterwards, words

# Headings of the date that a decision was made for, the best first.
APPLICATION = (
    r"\b(appl(y|ied|ication)|request(ed)?|submitted)\b|申请|申报|受理|进件",
    r"\b(approv(al|ed)|decision|decided|granted)\b|审批|批准|授信日|评审",
    r"\b(issued?|origination|originated|disburse?d?(ment)?|loan|contract|booked)\b"
    r"|放款|发放|贷款日|借款日|借据日|签[订约]|起[始息]|投放",
)
MIN_KNOWN_SHARE = 0.95  # of the rows, for the date of application
MIN_BEFORE_SHARE = 0.95  # of the pairs, for a date that is known at the application
MIN_PAIRS = 20  # rows with both dates


@dataclass(frozen=True)
class DateFeatures:
    """columns: those of the table with their roles, then those derived. remarks: on the dates that were used or not."""

    columns: list[ColumnSchema]
    remarks: dict[str, str] = field(default_factory=dict)


def add_date_features(
    columns: Sequence[ColumnSchema], values: pl.DataFrame, declared: Collection[str], birth_dates: Collection[str]
) -> DateFeatures:
    """Add what follows from the dates. values: as text; declared: columns that the owner describes, which stay so."""
    days = {c.name: parse_mixed(values[c.name], c.date_format) for c in columns if c.date_format and not c.derived}
    usable = {c.name for c in columns if c.role in ("id", "time") and c.name in days} - {*birth_dates}
    application = _find_application([name for name in days if name in usable], days)
    if application is None:
        return DateFeatures([*columns])
    result = DateFeatures([_as_time(c) if c.name == application and c.name not in declared else c for c in columns])
    result.remarks[application] = (
        f"holds the date of application ({_form(columns, application)}); it is no input. Rows can be split by it."
    )
    for name in days:
        if name in declared or name == application or (name not in usable and name not in birth_dates):
            continue
        feature, remark = _make_feature(name, application, days, name in birth_dates)
        if feature and feature.name not in values.columns:
            result.columns.append(feature)
        result.remarks[name] = f"holds dates ({_form(columns, name)}); {remark}"
    return result


def _find_application(names: Sequence[str], days: dict[str, pl.Series]) -> str | None:
    for pattern in APPLICATION:
        for name in names:
            known_share = 1 - days[name].null_count() / max(1, days[name].len())
            if known_share >= MIN_KNOWN_SHARE and days[name].n_unique() > 1 and re.search(pattern, words(name)):
                return name
    return None


def _make_feature(
    name: str, application: str, days: dict[str, pl.Series], is_birth: bool
) -> tuple[ColumnSchema | None, str]:
    """(the column derived from one date, a sentence on it)."""
    gaps = (days[application] - days[name]).dt.total_days().drop_nulls()
    after = int((gaps < 0).sum())
    if is_known_afterwards(name):
        return None, "it is left out of the model: its heading says that it is known only afterwards."
    if after > (1 - MIN_BEFORE_SHARE) * gaps.len():
        return None, f"it is left out of the model: {after:,} of {gaps.len():,} lie after {application}."
    if gaps.len() < MIN_PAIRS or gaps.n_unique() < 2:
        return None, "it is left out of the model: few rows have it, or all have it at one distance to the application."
    if is_birth:
        age = ColumnSchema(
            name=f"age at {application}",
            role="audit",
            unit="years",
            derived=DerivedFormula(op="years", of=(application, name)),
            zh=f"{application}时的年龄",
        )
        return age, f"the age at {application} is compared between groups and is no input."
    months = ColumnSchema(
        name=f"months from {name} to {application}",
        unit="months",
        derived=DerivedFormula(op="months", of=(application, name)),
        zh=f"{name}至{application}的月数",
    )
    return months, f"the months to {application} are an input."


def _as_time(column: ColumnSchema) -> ColumnSchema:
    return column.model_copy(update={"role": "time"})


def _form(columns: Sequence[ColumnSchema], name: str) -> str:
    return next(column.date_format for column in columns if column.name == name)
