"""Calls of the kernel that Python has no function for."""

from __future__ import annotations

import ctypes
import os
import struct

_PR_SET_NO_NEW_PRIVS = 38
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x2008_0522
_libc = ctypes.CDLL(None, use_errno=True)


def machine() -> str:
    return os.uname().machine


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """The result of a system call. Raises OSError."""
    result = int(_libc.syscall(ctypes.c_long(number), *(_c_value(each) for each in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option: int, *arguments: int) -> int:
    """Raises OSError."""
    result = int(_libc.prctl(option, *(ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4])))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _c_value(value: int | bytes | None) -> ctypes.c_long | ctypes.c_char_p:
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value)


def drop_privileges() -> None:
    """No capability, also of root, and none from a program with set-user-ID."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if number := _CAPSET.get(machine()):
        syscall(number, struct.pack("<Ii", _CAPABILITY_VERSION_3, 0), bytes(24))
