"""Which batch a batch tries anew, in the place of how many answers were charged for: which answers, can be compared."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

MATCHED_COLUMNS = ("tenant", "scope", "request_sha256")
OTHER_COLUMNS = ("id", "state", "idempotency_key", "created", "charged", "retry_of")


def upgrade() -> None:
    op.add_column("batches", sa.Column("retry_of", sa.String(40)))
    batches = sa.table("batches", *map(sa.column, (*MATCHED_COLUMNS, *OTHER_COLUMNS)))
    earlier = batches.alias()
    same_request = sa.and_(*(earlier.c[name] == batches.c[name] for name in MATCHED_COLUMNS))
    abandoned = earlier.c.state == "broken", earlier.c.idempotency_key.is_(None), earlier.c.created < batches.c.created
    latest_attempt = (
        sa.select(earlier.c.id)
        .where(same_request, *abandoned)
        .order_by(earlier.c.created.desc())
        .limit(1)
        .scalar_subquery()
    )
    was_retried = batches.c.state == "broken", batches.c.charged > 0
    op.execute(sa.update(batches).where(*was_retried).values(retry_of=latest_attempt))
    op.drop_column("batches", "charged")


def downgrade() -> None:
    op.add_column("batches", sa.Column("charged", sa.Integer, nullable=False, server_default="0"))
    op.drop_column("batches", "retry_of")
