"""Landlock: which files a process may open; TCP from ABI 4 on, signals and abstract sockets from ABI 6 on."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from datasets.confinement.kernel import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in (1, 2, 3, 4, 5))
MAKE_DIR, MAKE_REG, MAKE_SYM, REFER, TRUNCATE = (1 << bit for bit in (7, 8, 12, 13, 14))
_ALL_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}  # by ABI
_ALL_RIGHTS_FROM_ABI_5 = (1 << 16) - 1
_FILE_RIGHTS = WRITE_FILE | READ_FILE | TRUNCATE
_TCP = 3  # bind, connect
_SCOPES = 3  # abstract sockets, signals

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
SCRATCH = WRITE | MAKE_SYM  # a folder that nobody else reads


@cache
def abi() -> int:
    """The version of the kernel's Landlock; 0 where it has none or where it is switched off."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict(rights: Iterable[tuple[Path, int]]) -> None:
    """Deny this thread, and those that it starts, all files but these. Paths that do not exist are left out.

    Raises OSError.
    """
    version = abi()
    handled = _ALL_RIGHTS.get(version, _ALL_RIGHTS_FROM_ABI_5)
    attributes = struct.pack("<QQQ", handled, _TCP, _SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = syscall(_CREATE_RULESET, attributes[:size], size, 0)
    try:
        for path, allowed in rights:
            _add_path(ruleset, path, allowed & handled)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _add_path(ruleset: int, path: Path, allowed: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not os.path.isdir(path):
            allowed &= _FILE_RIGHTS
        syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", allowed, descriptor), 0)
    finally:
        os.close(descriptor)
