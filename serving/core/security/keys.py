"""Key files of the service: each is created once, atomically, and is readable only by its owner."""

from __future__ import annotations

import base64
import logging
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from serving.core.security.errors import KeyFileError

log = logging.getLogger("yuheng.keys")


def load_private_key(file: Path) -> Ed25519PrivateKey:
    """An Ed25519 key, created on first use. Raises KeyFileError."""
    if not file.exists():
        key = Ed25519PrivateKey.generate()
        create_once(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    try:
        loaded = load_pem_private_key(read_owner_only(file), None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{file} is not a private key in PEM: {error}") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise KeyFileError(f"{file} is {type(loaded).__name__}; expected an Ed25519 private key")
    return loaded


def load_secret(file: Path, label: str) -> bytes:
    """The 32 random bytes of a key file, created on first use. `label`: what its PEM lines call it. Raises
    KeyFileError."""
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    if not file.exists():
        create_once(file, f"{begin}\n{base64.b64encode(secrets.token_bytes(32)).decode()}\n{end}\n".encode(), 0o600)
    try:
        lines = read_owner_only(file).decode().split("\n")
        secret = base64.b64decode("".join(lines[1:-2]), validate=True)
    except ValueError as error:
        raise KeyFileError(f"{file} is not a {label.lower()}: {error}") from error
    if lines[0] != begin or lines[-2:] != [end, ""] or len(secret) != 32:
        raise KeyFileError(f"{file} is not a {label.lower()}: expected {begin}, 32 bytes in base64 and {end}")
    return secret


def load_key_pair(file: Path) -> tuple[Ed25519PrivateKey, Path]:
    """(private key, path of its public key, which is created beside it). Raises KeyFileError."""
    key, public_path = load_private_key(file), public_key_path(file)
    if not public_path.exists():
        create_once(public_path, encode_pem(key.public_key()), 0o644)
    if public_path.read_bytes() != encode_pem(key.public_key()):
        raise KeyFileError(
            f"{public_path} is not the public key of {file}. Restore the right one, or delete it to create it again."
        )
    return key, public_path


def public_key_path(file: Path) -> Path:
    """The path of the public key beside a private key."""
    return file.with_suffix(".pub.pem")


def encode_pem(key: Ed25519PublicKey) -> bytes:
    """A public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_owner_only(file: Path) -> bytes:
    """The content of a secret file. Raises KeyFileError where anyone but its owner may read it."""
    try:
        if (mode := file.stat().st_mode & 0o777) & 0o077:
            raise KeyFileError(
                f"{file} has mode {mode:04o}; expected 0600, so that only its owner can read it. Run chmod 600 {file}"
            )
        return file.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read: {error}") from error


def create_once(file: Path, content: bytes, mode: int) -> None:
    """Create a file atomically. If two processes create it at once, the first one wins. Raises KeyFileError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            os.link(temporary, file)
        except FileExistsError:
            log.info("another process created %s at the same time; its file is used", file)
        finally:
            temporary.unlink()
    except OSError as error:
        raise KeyFileError(f"{file} cannot be created: {error}. Configure another path for it.") from error
