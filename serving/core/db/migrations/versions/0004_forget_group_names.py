"""Groups of uploads are known by keyed digests of their names, and the keys of requests for slides likewise.

The names of earlier groups go: files that are sent to one of them from now on begin a slide of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004_forget_group_names"
down_revision = "0003_entry_tags"
branch_labels = None
depends_on = None


def upgrade() -> None:
    groups = sa.table("upload_groups", sa.column("name"), sa.column("slide"))
    keys = sa.table("slide_keys", sa.column("scope"))
    op.execute(sa.update(groups).values(name=groups.c.slide))
    op.execute(sa.delete(keys).where(sa.or_(keys.c.scope == "/v1/uploads", keys.c.scope.startswith("/v1/slides"))))


def downgrade() -> None:
    """Nothing: what was removed is not known any more."""
