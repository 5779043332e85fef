"""Subjects by product, the months of companies, and a subject's decisions found without a walk through all."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COPIED_COLUMNS = ("id", "indicators", "source", "source_sha256", "simulated", "loaded")


def upgrade() -> None:
    _create_subjects("subjects_anew", [sa.Column("product", sa.String(64), primary_key=True)])
    # Until now every subject was a household.
    op.execute(
        f"INSERT INTO subjects_anew (product, {', '.join(COPIED_COLUMNS)}) SELECT 'credit_limit', {', '.join(COPIED_COLUMNS)} FROM subjects"
    )
    op.drop_table("subjects")
    op.rename_table("subjects_anew", "subjects")
    op.create_table(
        "companies",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("months", sa.LargeBinary, nullable=False),
    )
    has_subject = sa.text("subject IS NOT NULL")
    columns = ["scope", "subject", "id"]
    op.create_index(
        "decisions_of_a_subject", "decisions", columns, sqlite_where=has_subject, postgresql_where=has_subject
    )


def downgrade() -> None:
    op.drop_index("decisions_of_a_subject", "decisions")
    op.drop_table("companies")
    _create_subjects("subjects_before", [])
    copied = ", ".join(COPIED_COLUMNS)
    op.execute(f"INSERT INTO subjects_before ({copied}) SELECT {copied} FROM subjects WHERE product = 'credit_limit'")
    op.drop_table("subjects")
    op.rename_table("subjects_before", "subjects")


def _create_subjects(name: str, leading_columns: list[sa.Column[str]]) -> None:
    op.create_table(
        name,
        *leading_columns,
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("indicators", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("loaded", sa.String(32), nullable=False),
    )
