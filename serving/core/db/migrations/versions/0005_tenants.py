"""Whose each decision is. What is there already was nobody else's than the machine's own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decisions", sa.Column("tenant", sa.String(64), nullable=False, server_default="local"))


def downgrade() -> None:
    op.drop_column("decisions", "tenant")
