"""The processes that read slides, each known as long as its heart beats."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "slide_workers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("place", sa.String(128), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("born", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("started", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("slide_workers")
