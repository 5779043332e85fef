"""Who asked for a decision."""

import sqlalchemy as sa
from alembic import op

revision = "0005_decision_by"
down_revision = "0004_forget_group_names"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decisions", sa.Column("by", sa.String(128)))


def downgrade() -> None:
    op.drop_column("decisions", "by")
