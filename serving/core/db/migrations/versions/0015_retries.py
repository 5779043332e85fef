"""Which batch a batch tries anew, in the place of how many answers were charged for: which answers, can be compared."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SAME = ("tenant", "scope", "request_sha256")
OTHER = ("id", "state", "idempotency_key", "created", "charged", "retry_of")


def upgrade() -> None:
    op.add_column("batches", sa.Column("retry_of", sa.String(40)))
    mine = sa.table("batches", *map(sa.column, (*SAME, *OTHER)))
    before = mine.alias()
    same = sa.and_(*(before.c[name] == mine.c[name] for name in SAME))
    taken = before.c.state == "broken", before.c.idempotency_key.is_(None), before.c.created < mine.c.created
    newest = sa.select(before.c.id).where(same, *taken).order_by(before.c.created.desc()).limit(1).scalar_subquery()
    retried = mine.c.state == "broken", mine.c.charged > 0
    op.execute(sa.update(mine).where(*retried).values(retry_of=newest))
    op.drop_column("batches", "charged")


def downgrade() -> None:
    op.add_column("batches", sa.Column("charged", sa.Integer, nullable=False, server_default="0"))
    op.drop_column("batches", "retry_of")
