"""What lies around each company, and its own id to be told beside others: each opened by its own key alone."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("label", "network"):
        op.add_column("companies", sa.Column(name, sa.LargeBinary))


def downgrade() -> None:
    for name in ("network", "label"):
        op.drop_column("companies", name)
