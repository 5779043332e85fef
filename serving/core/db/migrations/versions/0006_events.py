"""Who signed in, who read personal data, which tokens and keys were issued."""

import sqlalchemy as sa
from alembic import op

revision = "0006_events"
down_revision = "0005_decision_by"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("about", sa.String(255)),
        sa.Column("what", sa.String(255), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("entry", sa.String(40), nullable=False),
        sa.Column("leaf", sa.BigInteger, nullable=False),
    )
    op.create_index("events_about", "events", ["about", "id"])
    op.create_index("events_of_an_entry", "events", ["entry"])


def downgrade() -> None:
    op.drop_table("events")
