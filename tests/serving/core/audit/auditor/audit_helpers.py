"""Audit a store after altering it in a transaction that is rolled back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa

from serving.core.audit.auditor.auditor import Auditor
from serving.core.security import keys
from serving.settings import Settings


def findings(connection: sa.Connection, settings: Settings) -> list[str]:
    """The findings of an audit of what the connection sees."""
    key = keys.load_private_key(settings.paths.log_key).public_key()
    return [str(finding) for finding in Auditor(connection, key, None).run().findings]


@contextlib.contextmanager
def rolled_back(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that leaves nothing behind."""
    with engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def findings_after(engine: sa.Engine, settings: Settings, statement: sa.Executable) -> list[str]:
    """The findings of an audit after the statement, whose effect is rolled back."""
    with rolled_back(engine) as connection:
        connection.execute(statement)
        return findings(connection, settings)
