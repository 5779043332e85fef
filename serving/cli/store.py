"""Open the settings, the store and the vault for a command, and turn errors into a sentence and exit status 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from serving.privacy.subjects.vault import Vault
    from serving.settings import Settings


def fail(message: object) -> NoReturn:
    """Print what is wrong and what to do, and exit with status 1."""
    typer.echo(str(message), err=True)
    raise typer.Exit(1)


@contextmanager
def reported_errors(*more: type[Exception]) -> Iterator[None]:
    """Fail with the message of an error that the user can put right: of settings, data, store and keys, and `more`."""
    from datasets.errors import DataError
    from serving.core.db.errors import StoreUnavailableError
    from serving.core.security.errors import KeyFileError
    from serving.privacy.subjects.errors import VaultKeyError
    from serving.settings import SettingsError

    expected: tuple[type[Exception], ...] = (
        *(DataError, SettingsError, StoreUnavailableError, VaultKeyError, KeyFileError),
        *more,
    )
    try:
        yield
    except expected as error:
        fail(error)
    except ModuleNotFoundError as error:  # a library of training, which the service answers without
        fail(f"{error.name} is not installed; this needs it: pip install -r configs/locks/training.txt")


@contextmanager
def configured_store(*more: type[Exception]) -> Iterator[tuple[sa.Engine, Settings]]:
    """The store that the settings name. Fails as `reported_errors` does."""
    from serving.core.audit.authenticator import open_log_store
    from serving.core.audit.epochs import check_log
    from serving.settings import load_settings

    with reported_errors(*more):
        settings = load_settings()
        engine = open_log_store(settings)
        try:
            check_log(engine, settings)
            yield engine, settings
        finally:
            engine.dispose()


def account() -> str:
    """Who runs a command, for the audit log: the account of the operating system."""
    import getpass

    return f"command line, {getpass.getuser()}"[:128]


def record_event(engine: sa.Engine, kind: str, tenant: str, about: str | None, what: str) -> None:
    """Record in the audit log what a command did. Raises StoreUnavailableError."""
    from serving.core.audit.events import new_event, record_events
    from serving.core.db.engine import write_transaction

    with write_transaction(engine) as connection:
        record_events(connection, [new_event(kind, tenant, account(), about, what)])


def configured_vault() -> tuple[Settings, Vault]:
    """The settings and their vault. Raises SettingsError and VaultKeyError."""
    from serving.privacy.subjects.vault import open_vault
    from serving.settings import load_settings

    settings = load_settings()
    return settings, open_vault(settings)
