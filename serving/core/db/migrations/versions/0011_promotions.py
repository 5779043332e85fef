"""Which version of a model a person made the champion, and why."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "promotions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("gate", sa.Boolean),
        sa.Column("before", sa.String(128)),
        sa.Column("before_bundle", sa.String(64)),
        sa.Column("reason", sa.String(2_000), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("promotions_of_a_model", "promotions", ["model", "id"])


def downgrade() -> None:
    op.drop_table("promotions")
