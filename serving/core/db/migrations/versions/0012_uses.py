"""Which leaves of the log name an authorisation. What was logged before is read once."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

GRANTS_MARKER = b'"authorisations":["'
CHUNK_SIZE = 5_000  # leaves in memory together


def upgrade() -> None:
    uses = op.create_table(
        "grant_uses",
        sa.Column("authorisation", sa.String(40), primary_key=True),
        sa.Column("leaf", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.create_index("grant_uses_by_leaf", "grant_uses", ["leaf"])
    leaves = sa.table("log_leaves", sa.column("index"), sa.column("body"))
    connection, last_index = op.get_bind(), -1
    while True:
        stmt = sa.select(leaves.c.index, leaves.c.body).where(leaves.c.index > last_index).order_by(leaves.c.index)
        chunk = connection.execute(stmt.limit(CHUNK_SIZE)).all()
        if not chunk:
            return
        last_index = chunk[-1][0]
        grants_by_leaf = [
            (index, json.loads(body)["authorisations"]) for index, body in chunk if GRANTS_MARKER in bytes(body)
        ]
        if rows := [
            {"authorisation": grant, "leaf": index}
            for index, grants in grants_by_leaf
            for grant in dict.fromkeys(grants)
        ]:
            connection.execute(sa.insert(uses), rows)


def downgrade() -> None:
    op.drop_table("grant_uses")
