"""Authenticate the entries of the log with a key that the database does not hold.

    engine = open_log_store(settings)               # a store whose entries this process may write
    authenticator_of(connection).tag(index, leaf_hash(body))

Whoever can write to the database alone can compute the hash of an entry, but not its tag. The tag covers the index too,
so an entry can be neither moved nor repeated. Whatever gives an entry its index computes the tag, under the append lock
today; a sequencer would check a tag over the queued entry first, under a key derived for that purpose.
"""

from __future__ import annotations

import hmac
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from serving.core.db.engine import open_store, to_store_error
from serving.core.db.schema import LOG_LEAVES
from serving.core.security import keys
from serving.settings import Settings

KEY_LABEL = "YUHENG LOG ENTRY KEY"
TAG_BYTES = 32
ENGINE_OPTION = "log_authenticator"


class EntryAuthenticator:
    """Computes and checks the tags of entries. `secret`: of the key file. `origin`: name of the log, so that a key used
    by mistake for two logs does not let one accept the entries of the other."""

    def __init__(self, secret: bytes, origin: str):
        self.written_size = 0  # of the log after the last commit of this process
        info = b"yuheng log entry\0" + origin.encode()
        self._key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)
        self.fingerprint = hmac.digest(self._key, b"fingerprint", "sha256").hex()[:32]  # identifies the key

    def tag(self, index: int, digest: bytes) -> bytes:
        """The tag of the entry at `index` whose leaf hash is `digest`."""
        return hmac.digest(self._key, index.to_bytes(8, "big") + digest, "sha256")

    def is_authentic(self, index: int, digest: bytes, tag: object) -> bool:
        return isinstance(tag, bytes) and hmac.compare_digest(self.tag(index, digest), tag)


def load_authenticator(file: Path, origin: str) -> EntryAuthenticator:
    """The authenticator of a key file, which is created where there is none. Raises KeyFileError."""
    return EntryAuthenticator(keys.load_secret(file, KEY_LABEL), origin)


def open_log_store(settings: Settings, lock_timeout: float | None = None) -> sa.Engine:
    """`open_store` on the store of the settings, with the key of its log. Raises StoreUnavailableError, KeyFileError.

    lock_timeout: seconds; None for the one of the settings.
    """
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    timeout = settings.store.lock_timeout_seconds if lock_timeout is None else lock_timeout
    engine = open_store(settings.store_location, timeout)
    try:
        attach(engine, authenticator)
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise to_store_error(error) from error
    return engine


def attach(engine: sa.Engine, authenticator: EntryAuthenticator) -> None:
    """Have `append` authenticate what is written through an engine."""
    engine.update_execution_options(**{ENGINE_OPTION: authenticator})
    _tag_start_entry(engine, authenticator)


def authenticator_of(connection: sa.Connection) -> EntryAuthenticator:
    """The authenticator of the engine that a connection belongs to."""
    authenticator = connection.get_execution_options().get(ENGINE_OPTION)
    if not isinstance(authenticator, EntryAuthenticator):
        raise TypeError("the engine writes no log entries; open it with open_log_store, or attach an authenticator")
    return authenticator


def _tag_start_entry(engine: sa.Engine, authenticator: EntryAuthenticator) -> None:
    """The migration that creates a log writes its first entry without the key, so it gets its tag here, as long as it
    is the only entry."""
    count, table = sa.select(sa.func.max(LOG_LEAVES.c.index)), LOG_LEAVES.c
    is_start = table.index == 0, table.kind == "start", table.tag.is_(None)
    with engine.connect().execution_options(reading=True) as connection:
        if connection.execute(count).scalar() != 0:
            return
    with engine.begin() as connection:
        digest = connection.execute(sa.select(table.hash).where(*is_start, count.scalar_subquery() == 0)).scalar()
        if digest is not None:
            connection.execute(sa.update(LOG_LEAVES).where(*is_start).values(tag=authenticator.tag(0, digest)))
