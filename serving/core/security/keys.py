"""Keys of the service's own: each made once, whole, and readable by its owner alone."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

log = logging.getLogger("yuheng.keys")


class KeyFileError(Exception):
    """A key file cannot be made, or not be used as it stands."""


def load_private_key(file: Path) -> Ed25519PrivateKey:
    """Made on first use. Raises KeyUnusable."""
    if not file.exists():
        key = Ed25519PrivateKey.generate()
        create_once(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    try:
        loaded = load_pem_private_key(read_owner_only(file), None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{file} cannot be read as a private key: {error}") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise KeyFileError(f"{file} holds {type(loaded).__name__}; an Ed25519 key is needed")
    return loaded


def load_key_pair(file: Path) -> tuple[Ed25519PrivateKey, Path]:
    """(the private key, the file of its public half beside it). Raises KeyUnusable."""
    key, public_path = load_private_key(file), public_key_path(file)
    if not public_path.exists():
        create_once(public_path, encode_pem(key.public_key()), 0o644)
    if public_path.read_bytes() != encode_pem(key.public_key()):
        raise KeyFileError(
            f"{public_path} is not the public half of {file}. Put the one back that is, or take it away."
        )
    return key, public_path


def public_key_path(file: Path) -> Path:
    return file.with_suffix(".pub.pem")


def encode_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_owner_only(file: Path) -> bytes:
    """What a secret file holds. Raises KeyUnusable where others than its owner may read it."""
    try:
        if (mode := file.stat().st_mode & 0o777) & 0o077:
            raise KeyFileError(
                f"{file} has mode {mode:04o}; 0600 is needed, so that only its owner reads it: chmod 600"
            )
        return file.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read: {error}") from error


def create_once(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all; of two that make it together the first one's counts. Raises KeyUnusable."""
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
            log.info("%s was made by another process meanwhile, and that one counts", file)
        finally:
            temporary.unlink()
    except OSError as error:
        raise KeyFileError(f"{file} cannot be made: {error}. Name another place for it.") from error
