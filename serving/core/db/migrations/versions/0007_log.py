"""The audit log, its checkpoints, and the meter. The first leaf counts what was answered before there was a log."""

import hashlib
import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SALTED_TABLES = ("decisions", "batch_chunks", "slides")
LEAF_TABLES = ("decisions", "batch_chunks", "slide_reports")
AUTO_INCREMENT_TYPE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    for table in SALTED_TABLES:
        op.add_column(table, sa.Column("salt", sa.LargeBinary))
    for table in LEAF_TABLES:
        op.add_column(table, sa.Column("leaf", sa.BigInteger))
    leaves = op.create_table(
        "log_leaves",
        sa.Column("index", AUTO_INCREMENT_TYPE, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("ref", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_nodes",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_checkpoints",
        sa.Column("size", AUTO_INCREMENT_TYPE, primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "lineages",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "meter",
        sa.Column("decision", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("product", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("units", sa.Integer, nullable=False),
        sa.Column("rules", sa.String(32), nullable=False),
        sa.Column("rule", sa.String(16), nullable=False),
        sa.Column("fen", sa.BigInteger, nullable=False),
        sa.Column("leaf", sa.BigInteger, nullable=False),
    )
    op.create_index("meter_by_tenant", "meter", ["tenant", "at"])
    connection = op.get_bind()
    row_counts = {table: connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) for table in LEAF_TABLES}
    timestamp = f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    entry = {"kind": "start", "at": timestamp, "tenant": "", "ref": "", "before": row_counts}
    body = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(b"\0" + body).digest()
    op.bulk_insert(
        leaves, [{"index": 0, "at": timestamp, "kind": "start", "tenant": "", "ref": "", "body": body, "hash": digest}]
    )


def downgrade() -> None:
    for table in ("meter", "lineages", "log_checkpoints", "log_nodes", "log_leaves"):
        op.drop_table(table)
    for table in SALTED_TABLES:
        op.drop_column(table, "salt")
    for table in LEAF_TABLES:
        op.drop_column(table, "leaf")
