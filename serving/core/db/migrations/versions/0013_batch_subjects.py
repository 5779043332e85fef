"""Which rows of batches are about a stored subject; how much of a batch earlier tries were charged for."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batch_subjects",
        sa.Column("batch", sa.String(40), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("pseudonym", sa.String(64), nullable=False),
    )
    op.create_index("batch_rows_of_a_subject", "batch_subjects", ["pseudonym", "batch", "row"])
    op.add_column("batches", sa.Column("charged", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("batches", "charged")
    op.drop_table("batch_subjects")
