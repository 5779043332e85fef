"""Charges and monthly quotas."""

from __future__ import annotations

from typing import TypedDict

import sqlalchemy as sa

from serving.core.db.tables.base import METADATA


class UnloggedMeterRow(TypedDict):
    """A row of METER before its log entry has an index."""

    decision: str
    tenant: str
    product: str
    at: str
    units: int
    rules: str
    rule: str
    fen: int


class MeterRow(UnloggedMeterRow):
    leaf: int


# One row per use: a decision, a chunk of a batch, or the reading of a slide.
METER = sa.Table(
    "meter",
    METADATA,
    sa.Column("decision", sa.String(64), primary_key=True),  # or <batch>-<first row>, or the slide's id: charged once
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("product", sa.String(64), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("units", sa.Integer, nullable=False),  # answers
    sa.Column("rules", sa.String(32), nullable=False),  # version of the price list
    sa.Column("rule", sa.String(16), nullable=False),  # free, set, market
    sa.Column("fen", sa.BigInteger, nullable=False),  # for all units
    sa.Column("leaf", sa.BigInteger, nullable=False),  # index of the log entry, which holds the price too
    info={"row": MeterRow},
)
sa.Index("meter_by_tenant", METER.c.tenant, METER.c.at)


class QuotaRow(TypedDict):
    tenant: str
    month: str
    used: int


# The number of answers that each tenant received in a month.
QUOTAS = sa.Table(
    "quotas",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("month", sa.String(7), primary_key=True),  # YYYY-MM
    sa.Column("used", sa.BigInteger, nullable=False),
    info={"row": QuotaRow},
)
