"""The reason's code of an override, and whether it is only proposed."""

import sqlalchemy as sa
from alembic import op

revision = "0009_override_acts"
down_revision = "0008_references"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("overrides", sa.Column("reason_code", sa.String(64)))
    op.add_column("overrides", sa.Column("state", sa.String(16), nullable=False, server_default="decided"))
    op.add_column("overrides", sa.Column("proposed_by", sa.String(128)))


def downgrade() -> None:
    for name in ("proposed_by", "state", "reason_code"):
        op.drop_column("overrides", name)
