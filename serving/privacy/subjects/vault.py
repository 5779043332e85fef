"""Pseudonyms and encryption of stored subjects with one key file.

Each subject's values are encrypted with a random key of its own, which the store holds encrypted with a key derived
from the key file. Once that row is deleted, the values can never be decrypted again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import hmac as crypto_hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from serving.core.db.engine import chunked
from serving.core.db.schema import COMPANIES, INDICATORS, SUBJECT_KEYS, VAULT
from serving.core.identifiers import utc_now
from serving.core.security.errors import KeyFileError
from serving.core.security.keys import load_secret
from serving.privacy.subjects.erasure_list import apply_erasure_list, erased_among
from serving.privacy.subjects.errors import TamperedError, VaultKeyError

if TYPE_CHECKING:
    from serving.settings import Settings

Profile = Literal["aes", "sm"]
KEY_LABEL = "YUHENG VAULT KEY"
ERASURE_LIST_SUFFIX = ".erased"  # of the erasure list, beside the key file
NONCE_BYTES, TAG_BYTES = 12, 16  # of AES-GCM and SM4-GCM


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """The algorithms of a profile."""

    key_bytes: int
    mac: Callable[[bytes, bytes], bytes]
    encrypt: Callable[[bytes, bytes, bytes, bytes], bytes]  # key, nonce, plaintext, associated data -> ciphertext, tag
    decrypt: Callable[[bytes, bytes, bytes, bytes], bytes]  # raises InvalidTag


def _sm3(key: bytes, text: bytes) -> bytes:
    mac = crypto_hmac.HMAC(key, hashes.SM3())
    mac.update(text)
    return mac.finalize()


def _sm4_encrypt(key: bytes, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    encryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(associated_data)
    return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag


def _sm4_decrypt(key: bytes, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
    decryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce, ciphertext[-TAG_BYTES:])).decryptor()
    decryptor.authenticate_additional_data(associated_data)
    return decryptor.update(ciphertext[:-TAG_BYTES]) + decryptor.finalize()


CIPHER_SUITES: dict[str, CipherSuite] = {
    "aes": CipherSuite(
        32,
        lambda key, text: hmac.digest(key, text, hashlib.sha256),
        lambda key, nonce, text, associated_data: AESGCM(key).encrypt(nonce, text, associated_data),
        lambda key, nonce, ciphertext, associated_data: AESGCM(key).decrypt(nonce, ciphertext, associated_data),
    ),
    "sm": CipherSuite(16, _sm3, _sm4_encrypt, _sm4_decrypt),  # GB/T 32905, GB/T 32907
}


class Vault:
    """Pseudonyms, digests and encryption. `secret`: the 32 bytes of the key file, from which a key is derived for each
    purpose. `erasure_list`: the file of erased subjects; None for a vault without one."""

    def __init__(self, secret: bytes, profile: Profile = "aes", erasure_list: Path | None = None):
        self.erasure_list = erasure_list
        self.profile, self._suite = profile, CIPHER_SUITES[profile]
        self._pseudonym_key, self._wrapping_key, check_key, self._digest_key, self._slide_key, self._reference_key = (
            self._suite.mac(secret, f"yuheng {purpose}".encode())
            for purpose in ("pseudonym", "wrap", "check", "digest", "slides", "reference")
        )
        self._wrapping_key = self._wrapping_key[: self._suite.key_bytes]
        self.key_check = check_key.hex()[:32]  # identifies the key file without revealing it

    def pseudonym(self, product: str, subject: str) -> str:
        """64 hex digits, always the same for a subject. Without the key file nobody can test ids against it."""
        return self._suite.mac(self._pseudonym_key, f"{product}\0{subject}".encode()).hex()

    def reference(self, tenant: str, product: str, reference: str) -> str:
        """64 hex digits: a tenant's own id of somebody whose indicators it states. Another tenant may use the same id
        for somebody else."""
        return self._suite.mac(self._reference_key, f"{tenant}\0{product}\0{reference}".encode()).hex()

    def digest(self, content: bytes) -> str:
        """64 hex digits, keyed so that guessable content, such as an id in a request, cannot be tested against it."""
        return self._suite.mac(self._digest_key, content).hex()

    def slide_key(self, tenant: str) -> bytes:
        """32 bytes: the key of the pseudonyms in a tenant's slides (datasets/slides/deidentification/pseudonyms.py)."""
        return self._suite.mac(self._slide_key, tenant.encode())

    def new_key(self, pseudonym: str) -> tuple[bytes, bytes]:
        """(a new subject key, the same encrypted)."""
        key = secrets.token_bytes(self._suite.key_bytes)
        return key, self.seal(self._wrapping_key, key, pseudonym)

    def unwrap(self, wrapped: bytes, pseudonym: str) -> bytes:
        """Decrypt a subject's key. Raises TamperedError."""
        return self.open(self._wrapping_key, wrapped, pseudonym)

    def keyed_digest(self, key: bytes, content: bytes) -> str:
        """64 hex digits, keyed with a subject's own key, so that they reveal nothing once the key is shredded."""
        return self._suite.mac(self._suite.mac(key, b"yuheng imprint"), content).hex()

    def seal(self, key: bytes, plaintext: bytes, associated_data: str) -> bytes:
        """Encrypt, with a random nonce in front. `associated_data`: the identity of the row."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._suite.encrypt(key, nonce, plaintext, associated_data.encode())

    def open(self, key: bytes, ciphertext: bytes, associated_data: str) -> bytes:
        """Decrypt. Raises TamperedError where the ciphertext was changed, or belongs to another row."""
        try:
            return self._suite.decrypt(
                key, ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], associated_data.encode()
            )
        except (InvalidTag, ValueError) as error:
            raise TamperedError(
                f"The encrypted values of {associated_data[:16]}... cannot be decrypted: they were changed or moved. "
                "Import them again, and find out who wrote to the store."
            ) from error


def load_vault(path: Path, profile: Profile = "aes") -> Vault:
    """The vault of a key file, which is created where there is none. Raises VaultKeyError."""
    try:
        return Vault(load_secret(path, KEY_LABEL), profile, path.with_suffix(ERASURE_LIST_SUFFIX))
    except KeyFileError as error:
        raise VaultKeyError(f"{error}. Restore the vault's key file.") from error


def open_vault(settings: Settings) -> Vault:
    """The vault of the settings. Raises VaultKeyError."""
    return load_vault(settings.paths.vault_key, settings.vault.profile)


def bind_store(connection: sa.Connection, vault: Vault) -> None:
    """Tie an empty store to this key file and profile; later, check them and apply the erasure list.

    Raises VaultKeyError for any other key file, where the erasure list cannot be read, and where all keys are gone.
    """
    row = connection.execute(sa.select(VAULT.c.profile, VAULT.c.key_check)).first()
    if row is None:
        connection.execute(
            sa.insert(VAULT).values(id=1, profile=vault.profile, key_check=vault.key_check, at=utc_now())
        )
    elif (row[0], row[1]) != (vault.profile, vault.key_check):
        same_profile = row[0] == vault.profile
        remedy = "the key file that encrypts the store" if same_profile else f"[vault] profile = {row[0]!r}"
        raise VaultKeyError(
            f"The store is encrypted with the vault key {row[1][:8]} and the profile {row[0]!r}; the settings name "
            f"{vault.key_check[:8]} and {vault.profile!r}. Configure {remedy}; without it no indicator can be read."
        )
    if vault.erasure_list is not None:
        try:
            apply_erasure_list(connection, vault.erasure_list)
        except KeyFileError as error:
            raise VaultKeyError(str(error)) from error
    has_rows, has_keys = (sa.select(sa.exists(sa.select(table.c.pseudonym))) for table in (INDICATORS, SUBJECT_KEYS))
    if connection.execute(has_rows).scalar() and not connection.execute(has_keys).scalar():
        raise VaultKeyError(
            "The store holds indicators, and no key of a subject. Restore the key store (subject_keys/keys.db beside a "
            "SQLite store, the table subject_keys on PostgreSQL); without it no indicator can be read."
        )


def ensure_keys(connection: sa.Connection, vault: Vault, pseudonyms: Iterable[str]) -> dict[str, bytes]:
    """Pseudonym -> key, created where there is none. An erased subject has none, and gets none again. Raises
    TamperedError."""
    requested = list(pseudonyms)
    erased = erased_among(connection, vault.erasure_list, requested)
    requested = [pseudonym for pseudonym in requested if pseudonym not in erased]
    existing = existing_keys(connection, vault, requested)
    created = {pseudonym: vault.new_key(pseudonym) for pseudonym in requested if pseudonym not in existing}
    if created:
        rows = [
            {"pseudonym": pseudonym, "wrapped": wrapped, "created": utc_now()}
            for pseudonym, (_, wrapped) in created.items()
        ]
        connection.execute(sa.insert(SUBJECT_KEYS), rows)
    return existing | {name: key for name, (key, _) in created.items()}


def existing_keys(connection: sa.Connection, vault: Vault, pseudonyms: list[str]) -> dict[str, bytes]:
    """Pseudonym -> key of the subjects that have one. Raises TamperedError."""
    subject_keys: dict[str, bytes] = {}
    for pseudonym, wrapped in wrapped_keys(connection, pseudonyms):
        subject_keys[pseudonym] = vault.unwrap(wrapped, pseudonym)
    return subject_keys


def wrapped_keys(connection: sa.Connection, pseudonyms: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """(pseudonym, encrypted key) of the subjects that have one."""
    for chunk in chunked(pseudonyms):
        statement = sa.select(SUBJECT_KEYS.c.pseudonym, SUBJECT_KEYS.c.wrapped)
        rows = connection.execute(statement.where(SUBJECT_KEYS.c.pseudonym.in_(chunk)))
        yield from ((row.pseudonym, row.wrapped) for row in rows)


def shred(connection: sa.Connection, vault: Vault, product: str, subject: str) -> bool:
    """Delete the subject's key and everything that it encrypts; False where there was no key."""
    pseudonym = vault.pseudonym(product, subject)
    deleted = connection.execute(sa.delete(SUBJECT_KEYS).where(SUBJECT_KEYS.c.pseudonym == pseudonym)).rowcount
    for table in (INDICATORS, COMPANIES):
        connection.execute(sa.delete(table).where(table.c.pseudonym == pseudonym))
    return bool(deleted)
