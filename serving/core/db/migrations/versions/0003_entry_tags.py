"""A tag for each entry of the log, computed with a key that the database does not hold.

Entries that were written before have none, and the audit says so of each.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003_entry_tags"
down_revision = "0002_upload_groups"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log_leaves", sa.Column("tag", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("log_leaves", "tag")
