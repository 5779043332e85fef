"""The second person who confirmed a forced promotion, and an index of the log entries of promotions."""

import sqlalchemy as sa
from alembic import op

revision = "0007_confirmed_promotions"
down_revision = "0006_events"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("promotions", sa.Column("confirmed_by", sa.String(128)))
    is_promotion = sa.text("kind = 'promotion'")
    op.create_index(
        "promotion_entries", "log_leaves", ["ref"], sqlite_where=is_promotion, postgresql_where=is_promotion
    )


def downgrade() -> None:
    op.drop_index("promotion_entries")
    op.drop_column("promotions", "confirmed_by")
