"""Where trace and erasure meet what keeps the subjects and what keeps the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serving.settings import Settings
from serving.store.tables import COMPANIES, METADATA, SUBJECTS

KEY = "log.pem"  # beside the key of the bundles


def pseudonym(settings: Settings, product: str, subject: str) -> str:
    """What the store calls a subject."""
    return subject


def shred(connection: sa.Connection, settings: Settings, product: str, subject: str) -> bool:
    """Make what is stored of a subject unreadable; False where there was nothing."""
    there = sa.delete(SUBJECTS).where(SUBJECTS.c.product == product, SUBJECTS.c.id == subject)
    shredded = bool(connection.execute(there).rowcount)
    if product == "scitech_risk":
        shredded |= bool(connection.execute(sa.delete(COMPANIES).where(COMPANIES.c.id == subject)).rowcount)
    return shredded


def grants(connection: sa.Connection, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Authorisations by id, of those that the store holds."""
    table = METADATA.tables.get("grants")
    if table is None or not ids:
        return {}
    found = connection.execute(sa.select(table).where(table.c.id.in_(ids)))
    return {row.id: dict(row._mapping) for row in found}


def grants_of(connection: sa.Connection, pseudonym: str) -> int:
    """How many authorisations name the subject."""
    table = METADATA.tables.get("grants")
    if table is None:
        return 0
    chosen = sa.select(sa.func.count()).select_from(table).where(table.c.subject == pseudonym)
    return connection.execute(chosen).scalar() or 0


def append(connection: sa.Connection, kind: str, tenant: str, ref: str, body: dict[str, Any]) -> int | None:
    """Put a leaf into the log, in the caller's transaction; its index, or None where no log is kept."""
    return None


def sign(settings: Settings, content: bytes) -> tuple[bytes, bytes]:
    """(Ed25519 signature, public key as PEM) by the log's key, made on first use."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = serialization.load_pem_private_key(_key(settings.paths.public_key.parent / KEY), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{KEY} is no Ed25519 key; one is needed. Put the log's key back.")
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.sign(content), public


def _key(file: Path) -> bytes:
    import os

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not file.exists():
        made = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(made)
    return file.read_bytes()
