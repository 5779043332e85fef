"""Pathologists: who may open, sign and amend. A file of names, licences and digests of tokens; no token is kept.

python -m serving add-pathologist "Chen Lan" --licence 110330100001234      # prints the token, once
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

LICENCE = re.compile(r"[A-Za-z0-9-]{4,64}")
HEAD = "# Who may sign. Written by python -m serving add-pathologist; a token is shown once and kept nowhere.\n"


class PeopleUnusable(Exception):
    """The file of pathologists cannot be used as it stands: nobody can sign until it is put right."""


@dataclass(frozen=True, slots=True)
class Pathologist:
    name: str
    licence: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    licence: str
    token_sha256: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pathologist: list[_Entry] = []


class People:
    """The file, read anew whenever it changed."""

    def __init__(self, file: Path):
        self.file = file
        self._stamp: tuple[int, int, int] | None = None
        self._known: list[_Entry] = []

    def of(self, token: str) -> Pathologist | None:
        """Whose token this is. Every entry is compared, each in the same time. Raises PeopleUnusable."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for entry in self._entries():
            if hmac.compare_digest(entry.token_sha256.encode(), digest.encode()):
                found = Pathologist(entry.name, entry.licence)
        return found

    def _entries(self) -> list[_Entry]:
        try:
            told = self.file.stat()
        except FileNotFoundError:
            return []
        stamp = told.st_ctime_ns, told.st_size, told.st_ino  # which also tells of another mode
        if stamp != self._stamp:
            self._known, self._stamp = _read(self.file), stamp
        return self._known


def add(file: Path, name: str, licence: str, replace: bool = False) -> str:
    """The new pathologist's token. Raises ValueError, with all that is wrong, and PeopleUnusable."""
    entries = _read(file) if file.exists() else []
    wrong = []
    if not name.isprintable() or name != name.strip() or not 1 <= len(name) <= 128:
        wrong.append(f"the name is {name[:140]!r}; 1 to 128 printable characters are needed")
    if not LICENCE.fullmatch(licence):
        wrong.append(f"the licence is {licence[:80]!r}; 4 to 64 letters, digits and hyphens are needed")
    if any(entry.licence == licence for entry in entries) and not replace:
        wrong.append(f"the licence {licence} is there already; --replace gives it a new token")
    if wrong:
        raise ValueError("; ".join(wrong))
    token = secrets.token_urlsafe(32)
    entries = [entry for entry in entries if entry.licence != licence]
    entries.append(
        _Entry(name=name, licence=licence, token_sha256=hashlib.sha256(token.encode()).hexdigest()),
    )
    _write(file, entries)
    return token


def _read(file: Path) -> list[_Entry]:
    if (mode := file.stat().st_mode & 0o777) & 0o077:
        raise PeopleUnusable(f"{file} has mode {mode:04o}; 0600 is needed, so that only its owner reads it: chmod 600")
    try:
        return _File.model_validate(tomllib.loads(file.read_text())).pathologist
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise PeopleUnusable(f"{file} cannot be read: {error}") from error


def _write(file: Path, entries: list[_Entry]) -> None:
    """Whole or not at all, readable by its owner alone from the first byte on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = [HEAD]
    for entry in entries:
        told = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in entry]
        parts.append("\n".join(["\n[[pathologist]]", *told, ""]))
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write("".join(parts))
        out.flush()
        os.fsync(out.fileno())
    scratch.rename(file)
