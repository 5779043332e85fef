"""Alembic's entry: runs the steps on the connection that serving.core.db.engine.migrate hands over."""

from alembic import context

from serving.core.db.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite changes a table by making it anew
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
