"""Subjects' keys lie in a file of their own beside a SQLite store."""

import sqlalchemy as sa
from alembic import op

revision = "0010_key_store"
down_revision = "0009_override_acts"
branch_labels = None
depends_on = None

COLUMNS = "pseudonym VARCHAR(64) NOT NULL PRIMARY KEY, wrapped BLOB NOT NULL, created VARCHAR(32) NOT NULL"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute(sa.text("PRAGMA secure_delete = ON"))
    op.execute(
        sa.text(
            "INSERT OR IGNORE INTO key_store.subject_keys SELECT pseudonym, wrapped, created FROM main.subject_keys"
        )
    )
    op.execute(sa.text("DROP TABLE main.subject_keys"))


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute(sa.text(f"CREATE TABLE main.subject_keys ({COLUMNS})"))
    op.execute(sa.text("INSERT INTO main.subject_keys SELECT pseudonym, wrapped, created FROM key_store.subject_keys"))
