"""Each record is its tenant's: batches, slides, and what an idempotency key stands for. What is there already was the
machine's own."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY_INDEXES = {"decisions": "one_answer_per_key", "batches": "one_batch_per_key"}
TENANT_COLUMN = ("tenant", sa.String(64))


def upgrade() -> None:
    for table in ("batches", "slides"):
        op.add_column(table, sa.Column(*TENANT_COLUMN, nullable=False, server_default="local"))
    for table, index in KEY_INDEXES.items():
        _recreate_key_index(table, index, ["tenant", "scope", "idempotency_key"])
    _recreate_subject_index(["tenant", "scope", "subject", "id"])
    op.create_index("slides_of_a_tenant", "slides", ["tenant", sa.text("priority DESC"), "id"])
    _recreate_slide_keys([sa.Column(*TENANT_COLUMN, primary_key=True)], "'local', ")
    op.create_table(
        "quotas",
        sa.Column(*TENANT_COLUMN, primary_key=True),
        sa.Column("month", sa.String(7), primary_key=True),
        sa.Column("used", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("quotas")
    _recreate_slide_keys([], "")
    op.drop_index("slides_of_a_tenant", "slides")
    _recreate_subject_index(["scope", "subject", "id"])
    for table, index in KEY_INDEXES.items():
        _recreate_key_index(table, index, ["scope", "idempotency_key"])
    for table in ("batches", "slides"):
        op.drop_column(table, "tenant")


def _recreate_key_index(table: str, index: str, columns: list[str]) -> None:
    op.drop_index(index, table)
    where = sa.text("idempotency_key IS NOT NULL")
    op.create_index(index, table, columns, unique=True, sqlite_where=where, postgresql_where=where)


def _recreate_subject_index(columns: list[str]) -> None:
    op.drop_index("decisions_of_a_subject", "decisions")
    where = sa.text("subject IS NOT NULL")
    op.create_index("decisions_of_a_subject", "decisions", columns, sqlite_where=where, postgresql_where=where)


def _recreate_slide_keys(leading_columns: list[sa.Column], leading_values: str) -> None:  # type: ignore[type-arg]
    """SQLite cannot change a primary key, so the table is made anew."""
    op.create_table(
        "slide_keys_anew",
        *leading_columns,
        sa.Column("scope", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.execute(
        f'INSERT INTO slide_keys_anew SELECT {leading_values}scope, "key", request_sha256, answer, at FROM slide_keys'
    )
    op.drop_table("slide_keys")
    op.rename_table("slide_keys_anew", "slide_keys")
