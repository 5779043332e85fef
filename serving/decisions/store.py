"""The store of decisions, opened together with the vault and the signer of the audit log's checkpoints."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from serving.core.audit.authenticator import attach, load_authenticator
from serving.core.audit.checkpoints import CheckpointSigner
from serving.core.audit.entry_checks import LogRolledBackError
from serving.core.audit.epochs import rollback_message
from serving.core.audit.events import new_event, record_events
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import EVENTS
from serving.core.db.store import Store
from serving.core.db.writer import GroupCommitWriter
from serving.core.security import keys
from serving.core.security.errors import KeyFileError
from serving.decisions.records import DecisionTransaction
from serving.privacy.subjects.errors import VaultKeyError
from serving.privacy.subjects.vault import Vault, bind_store, open_vault
from serving.settings import Settings

log = logging.getLogger("yuheng.store")


class DecisionStore(Store):
    """A store whose writer records decisions; its vault and its checkpoint signer open with it.

    on_open: callbacks that run in one transaction each time the store opens, before anything else is written.
    """

    def __init__(self, settings: Settings):
        super().__init__(settings, DecisionTransaction(), self._open_companions)
        self.on_open: list[Callable[[sa.Connection], None]] = []
        self._start_alarm: str | None = None  # what was wrong with the log when the store was opened
        self._signing_alarm: str | None = None  # why no checkpoint can be signed now
        self._rolled_back = False  # since the last attempt to sign: nothing is recorded over such a log
        self._vault: Vault | None = None
        self._checkpoint_signer: CheckpointSigner | None = None

    def _open_companions(self, engine: sa.Engine) -> None:
        """Raises StoreUnavailableError where the vault's key or the log's key cannot be used with this store."""
        try:
            paths = self.settings.paths
            vault = open_vault(self.settings)
            attach(engine, load_authenticator(paths.entry_key, self.settings.log.origin))
            signer = CheckpointSigner(engine, paths.log_key, paths.checkpoints, self.settings.log.origin)
            rollback = signer.recover()
            self._start_alarm = None if rollback is None else rollback_message(rollback)
            if self._start_alarm is not None:
                log.error("%s", self._start_alarm)
                raise StoreUnavailableError("failed", self._start_alarm)
            with engine.begin() as connection:
                bind_store(connection, vault)
                record_new_keys(connection, key_fingerprints(self.settings, vault))
                for callback in self.on_open:
                    callback(connection)
        except (VaultKeyError, KeyFileError) as error:
            raise StoreUnavailableError("failed", str(error)) from error
        self._vault, self._checkpoint_signer = vault, signer

    @property
    def writer(self) -> GroupCommitWriter[Any, Any]:
        """Raises StoreUnavailableError, also while the log is not the one that was signed before."""
        if self._rolled_back:
            raise StoreUnavailableError("failed", rollback_message(self._signing_alarm or ""))
        return super().writer

    @property
    def log_alarm(self) -> str | None:
        """Why the log is not, or cannot be shown to be, the one that this service wrote; None where it is."""
        time_alarm = self._checkpoint_signer.time_alarm if self._checkpoint_signer else None
        return self._signing_alarm or self._start_alarm or time_alarm

    @property
    def vault(self) -> Vault:
        """Raises StoreUnavailableError where the store cannot be opened."""
        _ = self.engine
        assert self._vault is not None
        return self._vault

    @property
    def checkpoint_signer(self) -> CheckpointSigner:
        """Raises StoreUnavailableError where the store cannot be opened."""
        _ = self.engine
        assert self._checkpoint_signer is not None
        return self._checkpoint_signer

    async def sign_checkpoints(self) -> None:
        """Sign a checkpoint at each interval in which the log grew, until cancelled.

        Whatever goes wrong raises the alarm, and the next interval tries again; each reason is logged once.
        """
        while True:
            await asyncio.sleep(self.settings.log.checkpoint_interval_seconds)
            if self._checkpoint_signer is None:
                continue
            try:
                await asyncio.to_thread(self._checkpoint_signer.checkpoint)
                self._signing_alarm, self._rolled_back = None, False
            except Exception as error:
                self._rolled_back = isinstance(error, LogRolledBackError)
                alarm = f"no checkpoint can be signed: {error}"
                if alarm != self._signing_alarm:
                    log.error("%s", alarm, exc_info=not isinstance(error, StoreUnavailableError))
                self._signing_alarm = alarm


def key_fingerprints(settings: Settings, vault: Vault) -> dict[str, str]:
    """Name of a key -> what identifies it without revealing it. Raises KeyFileError."""
    paths = settings.paths
    authenticator = load_authenticator(paths.entry_key, settings.log.origin)
    _, log_public_key = keys.load_key_pair(paths.log_key)
    fingerprints = {
        "vault_key": vault.key_check,
        "entry_key": authenticator.fingerprint,
        "log_key": hashlib.sha256(log_public_key.read_bytes()).hexdigest()[:32],
    }
    public_files = {"tokens": keys.public_key_path(paths.tokens), "bundles": paths.public_key}
    for name, file in public_files.items():
        if file.exists():
            fingerprints[name] = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    return fingerprints


def record_new_keys(connection: sa.Connection, fingerprints: Mapping[str, str]) -> None:
    """Record each key that the service uses for the first time, or uses again after another one."""
    events = []
    for name, fingerprint in fingerprints.items():
        stmt = sa.select(EVENTS.c.about).where(EVENTS.c.kind == "key", EVENTS.c.what == name)
        latest = connection.execute(stmt.order_by(EVENTS.c.id.desc()).limit(1)).scalar()
        if latest != fingerprint:
            events.append(new_event("key", "", "service", fingerprint, name))
    record_events(connection, events)
