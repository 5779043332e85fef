"""Where trace and erasure meet what keeps the subjects and what keeps the log."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from serving.call import now
from serving.settings import Settings
from serving.store.tables import GRANTS
from serving.trust import log, notary, vault


def pseudonym(settings: Settings, product: str, subject: str) -> str:
    """What the store calls a subject. Raises VaultLocked."""
    return _vault(settings).pseudonym(product, subject)


def shred(connection: sa.Connection, settings: Settings, product: str, subject: str) -> bool:
    """Make what is stored of a subject unreadable; False where there was nothing. Raises VaultLocked."""
    return vault.shred(connection, _vault(settings), product, subject)


def _vault(settings: Settings) -> vault.Vault:
    return vault.unlock(settings.paths.vault_key, settings.vault.profile)


def grants(connection: sa.Connection, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Authorisations by id, of those that the store holds."""
    found = connection.execute(sa.select(GRANTS).where(GRANTS.c.id.in_(ids)))
    # `groups` is a word of SQL: its name comes as a kind of text that orjson takes for no key
    return {row.id: {str(name): value for name, value in row._mapping.items()} for row in found}


def grants_of(connection: sa.Connection, pseudonym: str) -> int:
    """How many authorisations name the subject."""
    chosen = sa.select(sa.func.count()).select_from(GRANTS).where(GRANTS.c.subject == pseudonym)
    return connection.execute(chosen).scalar() or 0


def append(connection: sa.Connection, kind: str, tenant: str, ref: str, body: dict[str, Any]) -> int | None:
    """Put a leaf into the log, in the caller's transaction; its index."""
    return log.append(connection, [log.entry(kind, now(), tenant, ref, **body)])


def sign(settings: Settings, content: bytes) -> tuple[bytes, bytes]:
    """(Ed25519 signature, public key as PEM) by the log's key, made on first use."""
    key = notary.read_private(notary.make_keys(settings.paths.log_key)[0])
    return key.sign(content), key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
