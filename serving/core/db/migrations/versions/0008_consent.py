"""Indicators sealed by subject, and the grants under which they are read.

What was there in plain goes: load the subjects and registers again, which names and seals them by the vault's key.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("subjects")
    op.drop_table("companies")
    op.execute("UPDATE decisions SET subject = NULL WHERE subject IS NOT NULL")  # an id in plain
    op.create_table(
        "vault",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("profile", sa.String(8), nullable=False),
        sa.Column("key_check", sa.String(32), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "subject_keys",
        sa.Column("pseudonym", sa.String(64), primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
    )
    op.create_table(
        "indicators",
        sa.Column("pseudonym", sa.String(64), primary_key=True),
        sa.Column("group", sa.String(64), primary_key=True),
        sa.Column("true_at", sa.String(10), primary_key=True),
        sa.Column("loaded", sa.String(32), primary_key=True),
        sa.Column("product", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
    )
    op.create_index("indicators_of_a_product", "indicators", ["product", "pseudonym"])
    op.create_table(
        "companies",
        sa.Column("pseudonym", sa.String(64), primary_key=True),
        sa.Column("months", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("grantor", sa.String(255), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(64)),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("groups", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("valid_from", sa.String(32), nullable=False),
        sa.Column("valid_to", sa.String(32), nullable=False),
        sa.Column("revoked_at", sa.String(32)),
        sa.Column("document_sha256", sa.String(64), nullable=False),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
    )
    op.create_index("grants_asked_for", "grants", ["tenant", "purpose", "subject"])


def downgrade() -> None:
    for name in ("grants", "companies", "indicators", "subject_keys", "vault"):
        op.drop_table(name)
    op.create_table(
        "subjects",
        sa.Column("product", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("indicators", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("loaded", sa.String(32), nullable=False),
    )
    op.create_table(
        "companies",
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("months", sa.LargeBinary, nullable=False),
    )
