"""Alembic migrations of the store; serving.core.db.engine.migrate runs them."""
