"""Who asked which colleague to look at a decision; a tenant's decisions in their order."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "referrals",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("about", sa.String(64), nullable=False),
        sa.Column("to", sa.String(128), nullable=False),
        sa.Column("note", sa.String(2_000), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("referrals_of_one", "referrals", ["tenant", "about", "id"])
    op.create_index("decisions_of_a_tenant", "decisions", ["tenant", "id"])


def downgrade() -> None:
    op.drop_index("decisions_of_a_tenant", "decisions")
    op.drop_table("referrals")
