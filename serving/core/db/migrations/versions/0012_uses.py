"""Which leaves of the log name an authorisation. What was logged before is read once."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NAMED = b'"authorisations":["'
PART = 5_000  # leaves in memory together


def upgrade() -> None:
    uses = op.create_table(
        "grant_uses",
        sa.Column("authorisation", sa.String(40), primary_key=True),
        sa.Column("leaf", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.create_index("grant_uses_by_leaf", "grant_uses", ["leaf"])
    leaves = sa.table("log_leaves", sa.column("index"), sa.column("body"))
    connection, after = op.get_bind(), -1
    while True:
        chosen = sa.select(leaves.c.index, leaves.c.body).where(leaves.c.index > after).order_by(leaves.c.index)
        found = connection.execute(chosen.limit(PART)).all()
        if not found:
            return
        after = found[-1][0]
        named = [(index, json.loads(body)["authorisations"]) for index, body in found if NAMED in bytes(body)]
        if rows := [{"authorisation": one, "leaf": index} for index, many in named for one in dict.fromkeys(many)]:
            connection.execute(sa.insert(uses), rows)


def downgrade() -> None:
    op.drop_table("grant_uses")
