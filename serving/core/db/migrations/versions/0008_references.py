"""The keyed reference of an answer about indicators that a caller stated."""

import sqlalchemy as sa
from alembic import op

revision = "0008_references"
down_revision = "0007_confirmed_promotions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decisions", sa.Column("reference", sa.String(64)))
    has_reference = sa.text("reference IS NOT NULL")
    op.create_index(
        "decisions_of_a_reference",
        "decisions",
        ["reference"],
        sqlite_where=has_reference,
        postgresql_where=has_reference,
    )


def downgrade() -> None:
    op.drop_index("decisions_of_a_reference")
    op.drop_column("decisions", "reference")
