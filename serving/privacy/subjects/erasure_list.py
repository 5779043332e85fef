"""The erasure list: the pseudonyms of erased subjects, in a file beside the vault's key file.

A database that is restored from a backup knows nothing of later erasures. The list is kept apart from it, and applied
each time a store is opened or loaded: what came back is deleted again, and no key is created for a listed subject.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa

from serving.core.db.engine import chunked
from serving.core.db.schema import COMPANIES, ERASURES, INDICATORS, SUBJECT_KEYS
from serving.core.security.errors import KeyFileError

log = logging.getLogger("yuheng.vault")

PSEUDONYM_PATTERN = re.compile(r"[0-9a-f]{64}")


def read_erasure_list(file: Path) -> set[str]:
    """The listed pseudonyms. Raises KeyFileError where the file cannot be read or holds anything else."""
    try:
        lines = file.read_text(encoding="ascii").split("\n") if file.exists() else []
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{file} cannot be read: {error}. Restore the erasure list.") from error
    pseudonyms = {line for line in lines if line}
    if invalid := [name for name in pseudonyms if not PSEUDONYM_PATTERN.fullmatch(name)]:
        raise KeyFileError(
            f"{file}: {invalid[0][:80]!r} is not a pseudonym of 64 hex digits. Restore the erasure list."
        )
    return pseudonyms


def add_to_erasure_list(file: Path, pseudonyms: Iterable[str]) -> None:
    """Append those that are not listed yet. Raises KeyFileError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            new = sorted(set(pseudonyms) - read_erasure_list(file))
            out.write("".join(f"{name}\n" for name in new))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise KeyFileError(f"{file} cannot be written: {error}. Nothing is erased without the erasure list.") from error


def erased_among(connection: sa.Connection, file: Path | None, pseudonyms: Iterable[str]) -> set[str]:
    """Those of these pseudonyms that the list or the store says are erased."""
    requested = list(pseudonyms)
    erased = set(requested) & read_erasure_list(file) if file is not None else set()
    for chunk in chunked(requested):
        stmt = sa.select(ERASURES.c.pseudonym).where(ERASURES.c.pseudonym.in_(chunk))
        erased |= set(connection.execute(stmt).scalars())
    return erased


def apply_erasure_list(connection: sa.Connection, file: Path) -> int:
    """Delete whatever the store holds of listed subjects; the number of subjects that had come back."""
    count = 0
    for chunk in chunked(sorted(read_erasure_list(file))):
        returned: set[str] = set()
        for table in (SUBJECT_KEYS, INDICATORS, COMPANIES):
            is_listed = table.c.pseudonym.in_(chunk)
            returned |= set(connection.execute(sa.select(table.c.pseudonym).where(is_listed)).scalars())
            connection.execute(sa.delete(table).where(is_listed))
        count += len(returned)
    if count:
        log.warning("%d erased subjects had come back with a restored store and are deleted again", count)
    return count
