"""Stored subjects: the vault's identity, each subject's key, encrypted indicators, and companies."""

from __future__ import annotations

from typing import TypedDict

import sqlalchemy as sa

from serving.core.db.tables.base import METADATA


class VaultRow(TypedDict):
    id: int
    profile: str
    key_check: str
    at: str


# One row: the vault key file that encrypts this store.
VAULT = sa.Table(
    "vault",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("profile", sa.String(8), nullable=False),  # aes, sm
    sa.Column("key_check", sa.String(32), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    info={"row": VaultRow},
)


class SubjectKeyRow(TypedDict):
    pseudonym: str
    wrapped: bytes
    created: str


# Each subject's own key. Once this row is deleted, nothing in the store about the subject can be decrypted. On SQLite
# the table lies in the key store, a file of its own: serving/core/db/engine.py.
SUBJECT_KEYS = sa.Table(
    "subject_keys",
    METADATA,
    sa.Column("pseudonym", sa.String(64), primary_key=True),  # keyed hash of product and id
    sa.Column("wrapped", sa.LargeBinary, nullable=False),  # encrypted with the key file's wrapping key
    sa.Column("created", sa.String(32), nullable=False),
    info={"row": SubjectKeyRow},
)


class IndicatorRow(TypedDict):
    pseudonym: str
    group: str
    true_at: str
    loaded: str
    product: str
    sealed: bytes
    source: str
    source_sha256: str
    simulated: bool


INDICATORS = sa.Table(
    "indicators",
    METADATA,
    sa.Column("pseudonym", sa.String(64), primary_key=True),
    sa.Column("group", sa.String(64), primary_key=True),  # of the product's table schema
    sa.Column("true_at", sa.String(10), primary_key=True),  # the day that the values describe
    sa.Column("loaded", sa.String(32), primary_key=True),
    sa.Column("product", sa.String(64), nullable=False),  # a household and a company may have the same id
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # encrypted JSON object: name -> value, without nulls
    sa.Column("source", sa.String(255), nullable=False),  # name of the imported file
    sa.Column("source_sha256", sa.String(64), nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    info={"row": IndicatorRow},
)
sa.Index("indicators_of_a_product", INDICATORS.c.product, INDICATORS.c.pseudonym)


class CompanyRow(TypedDict):
    pseudonym: str
    months: bytes
    label: bytes
    network: bytes | None


# One row per company: a register brings all months at once and a history shows most of them. The months hold warnings
# and results, never the indicators behind them. A network names its neighbours by pseudonym only, and each neighbour's
# own row holds its id, so that an erased company is named nowhere.
COMPANIES = sa.Table(
    "companies",
    METADATA,
    sa.Column("pseudonym", sa.String(64), primary_key=True),
    sa.Column("months", sa.LargeBinary, nullable=False),  # encrypted; packed by decisions/companies/history.py
    sa.Column("label", sa.LargeBinary, nullable=False),  # encrypted; the company's id
    sa.Column("network", sa.LargeBinary),  # encrypted; packed by decisions/companies/network.py; null without links
    info={"row": CompanyRow},
)
