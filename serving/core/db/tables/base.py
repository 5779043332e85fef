"""The metadata that every table joins, and the table that readiness checks write to."""

from __future__ import annotations

from typing import TypedDict

import sqlalchemy as sa

METADATA = sa.MetaData()

# On SQLite only a column of type INTEGER is the table's row number, which saves an index.
BIG_INTEGER_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


class ProbeRow(TypedDict):
    id: int
    at: str


PROBE = sa.Table(
    "probe",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.String(32), nullable=False),  # time of the last readiness check that wrote
    info={"row": ProbeRow},
)
