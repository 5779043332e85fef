"""What the store may hold of a person or company: a pseudonym for the id, and values that one key file opens.

A subject's values are encrypted with a random key of its own, which the store holds wrapped by the key file's. Delete
that row, and nothing opens them again.
"""

from __future__ import annotations

import base64
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
from cryptography.hazmat.primitives import hmac as hmac_of
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from serving.core.db.engine import parted
from serving.core.db.schema import COMPANIES, INDICATORS, SUBJECT_KEYS, VAULT
from serving.core.identifiers import now
from serving.core.security.keys import KeyUnusable, once, owners

if TYPE_CHECKING:
    from serving.settings import Settings

Profile = Literal["aes", "sm"]
BEGIN, END = "-----BEGIN YUHENG VAULT KEY-----", "-----END YUHENG VAULT KEY-----"
NONCE, TAG = 12, 16  # bytes


class VaultLocked(Exception):
    """The key file is missing, unusable, or not the one with which the store was filled."""


class Tampered(Exception):
    """What the store holds is not what was put there: it is not read."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of a profile. `key`: bytes of one."""

    key: int
    mac: Callable[[bytes, bytes], bytes]
    encrypt: Callable[[bytes, bytes, bytes, bytes], bytes]  # key, nonce, text, associated data -> text and tag
    decrypt: Callable[[bytes, bytes, bytes, bytes], bytes]  # raises InvalidTag


def _sm3(key: bytes, text: bytes) -> bytes:
    mac = hmac_of.HMAC(key, hashes.SM3())
    mac.update(text)
    return mac.finalize()


def _sm4_encrypt(key: bytes, nonce: bytes, text: bytes, beside: bytes) -> bytes:
    made = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    made.authenticate_additional_data(beside)
    return made.update(text) + made.finalize() + made.tag


def _sm4_decrypt(key: bytes, nonce: bytes, sealed: bytes, beside: bytes) -> bytes:
    made = Cipher(algorithms.SM4(key), modes.GCM(nonce, sealed[-TAG:])).decryptor()
    made.authenticate_additional_data(beside)
    return made.update(sealed[:-TAG]) + made.finalize()


SUITES: dict[str, Suite] = {
    "aes": Suite(
        32,
        lambda key, text: hmac.digest(key, text, hashlib.sha256),
        lambda key, nonce, text, beside: AESGCM(key).encrypt(nonce, text, beside),
        lambda key, nonce, sealed, beside: AESGCM(key).decrypt(nonce, sealed, beside),
    ),
    "sm": Suite(16, _sm3, _sm4_encrypt, _sm4_decrypt),  # GB/T 32905, GB/T 32907
}


class Vault:
    """`secret`: the key file's 32 bytes, from which each purpose has a key of its own."""

    def __init__(self, secret: bytes, profile: Profile = "aes"):
        self.profile, self._suite = profile, SUITES[profile]
        self._naming, self._wrapping, checking, self._digesting = (
            self._suite.mac(secret, f"yuheng {use}".encode()) for use in ("pseudonym", "wrap", "check", "digest")
        )
        self._wrapping = self._wrapping[: self._suite.key]
        self.check = checking.hex()[:32]  # tells one key file from another, and nothing of what is in it

    def pseudonym(self, product: str, subject: str) -> str:
        """64 hex digits, the same each time; who has not the key file cannot try ids out."""
        return self._suite.mac(self._naming, f"{product}\0{subject}".encode()).hex()

    def digest(self, content: bytes) -> str:
        """64 hex digits: content as guessable as an id in a request cannot be tried out on it either."""
        return self._suite.mac(self._digesting, content).hex()

    def new_key(self, pseudonym: str) -> tuple[bytes, bytes]:
        """(a subject's key, the same wrapped)."""
        key = secrets.token_bytes(self._suite.key)
        return key, self.seal(self._wrapping, key, pseudonym)

    def unwrap(self, wrapped: bytes, pseudonym: str) -> bytes:
        return self.open(self._wrapping, wrapped, pseudonym)

    def imprint(self, key: bytes, content: bytes) -> str:
        """64 hex digits by a subject's own key: once that is shredded, they tell nothing of what was read."""
        return self._suite.mac(self._suite.mac(key, b"yuheng imprint"), content).hex()

    def seal(self, key: bytes, text: bytes, identity: str) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._suite.encrypt(key, nonce, text, identity.encode())

    def open(self, key: bytes, sealed: bytes, identity: str) -> bytes:
        """Raises Tampered where `sealed` was changed, or stood under another identity."""
        try:
            return self._suite.decrypt(key, sealed[:NONCE], sealed[NONCE:], identity.encode())
        except (InvalidTag, ValueError) as error:
            raise Tampered(
                f"The values sealed for {identity[:16]}... do not open: they were changed or moved. Load them again, "
                "and find out who wrote to the store."
            ) from error


def unlock(path: Path, profile: Profile = "aes") -> Vault:
    """By the key file, made where there is none. Raises VaultLocked."""
    try:
        if not path.exists():
            text = f"{BEGIN}\n{base64.b64encode(secrets.token_bytes(32)).decode()}\n{END}\n"
            once(path, text.encode(), 0o600)
        lines = owners(path).decode().split()
        secret = base64.b64decode("".join(lines[4:-4]), validate=True)
    except (KeyUnusable, ValueError) as error:
        raise VaultLocked(f"{path}: {error}. Put the vault's key file back.") from error
    if " ".join(lines[:4]) != BEGIN or " ".join(lines[-4:]) != END or len(secret) != 32:
        raise VaultLocked(f"{path}: is no vault key file ({BEGIN} and 32 bytes). Put the right one back.")
    return Vault(secret, profile)


def of(settings: Settings) -> Vault:
    """Raises VaultLocked."""
    return unlock(settings.paths.vault_key, settings.vault.profile)


def claim(connection: sa.Connection, vault: Vault) -> None:
    """The store is filled by one key file and profile. Raises VaultLocked for another."""
    found = connection.execute(sa.select(VAULT.c.profile, VAULT.c.key_check)).first()
    if found is None:
        connection.execute(sa.insert(VAULT).values(id=1, profile=vault.profile, key_check=vault.check, at=now()))
    elif (found[0], found[1]) != (vault.profile, vault.check):
        same = found[0] == vault.profile
        theirs = "the key file with which it was filled" if same else f"[vault] profile = {found[0]!r}"
        raise VaultLocked(
            f"The store was filled with the vault key {found[1][:8]} in the profile {found[0]!r}; the settings name "
            f"{vault.check[:8]} in {vault.profile!r}. Give it {theirs}; without it no indicator can be read."
        )


def keys(connection: sa.Connection, vault: Vault, pseudonyms: Iterable[str]) -> dict[str, bytes]:
    """Each subject's key, made where there is none."""
    wanted = list(pseudonyms)
    found = held_keys(connection, vault, wanted)
    made = {pseudonym: vault.new_key(pseudonym) for pseudonym in wanted if pseudonym not in found}
    if made:
        rows = [{"pseudonym": name, "wrapped": wrapped, "created": now()} for name, (_, wrapped) in made.items()]
        connection.execute(sa.insert(SUBJECT_KEYS), rows)
    return found | {name: key for name, (key, _) in made.items()}


def held_keys(connection: sa.Connection, vault: Vault, pseudonyms: list[str]) -> dict[str, bytes]:
    """Of those that have one."""
    found: dict[str, bytes] = {}
    for name, wrapped in wrapped_keys(connection, pseudonyms):
        found[name] = vault.unwrap(wrapped, name)
    return found


def wrapped_keys(connection: sa.Connection, pseudonyms: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """(pseudonym, key as the store holds it) of those that have one."""
    for part in parted(pseudonyms):
        chosen = sa.select(SUBJECT_KEYS.c.pseudonym, SUBJECT_KEYS.c.wrapped)
        found = connection.execute(chosen.where(SUBJECT_KEYS.c.pseudonym.in_(part)))
        yield from ((row.pseudonym, row.wrapped) for row in found)


def shred(connection: sa.Connection, vault: Vault, product: str, subject: str) -> bool:
    """The subject's key and all that it opened; False where there was none."""
    pseudonym = vault.pseudonym(product, subject)
    gone = connection.execute(sa.delete(SUBJECT_KEYS).where(SUBJECT_KEYS.c.pseudonym == pseudonym)).rowcount
    for table in (INDICATORS, COMPANIES):
        connection.execute(sa.delete(table).where(table.c.pseudonym == pseudonym))
    return bool(gone)
