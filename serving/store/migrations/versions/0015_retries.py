"""Which batch a batch tries anew, in the place of how many answers were charged for: which answers, can be compared."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("retry_of", sa.String(40)))
    op.drop_column("batches", "charged")


def downgrade() -> None:
    op.add_column("batches", sa.Column("charged", sa.Integer, nullable=False, server_default="0"))
    op.drop_column("batches", "retry_of")
