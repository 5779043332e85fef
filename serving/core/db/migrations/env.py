"""Run migrations on the connection that serving.core.db.engine.migrate provides; Alembic loads this file."""

from alembic import context

from serving.core.db.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite changes a table by copying it
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
