"""seccomp: the system calls that a decoder needs; all others fail, such as those for sockets, programs and signals.

Files are Landlock's matter. A call that Landlock does not know, as chmod is one, is not allowed here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from datasets.confinement.kernel import machine, prctl

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_AUDIT_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in what a filter sees
_NEWER_CALLS = 403  # those from this number on are unknown to older kernels: C libraries do without them
_CLONE_THREAD = 0x0001_0000

# name: number on x86_64, on aarch64; the most frequent first
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "pread64": (17, 67), "write": (1, 64), "futex": (202, 98), "lseek": (8, 62),
    "madvise": (28, 233), "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "brk": (12, 214),
    "close": (3, 57), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "preadv": (295, 69),
    "pwritev": (296, 70), "preadv2": (327, 286), "pwritev2": (328, 287),
    "open": (2, None), "openat": (257, 56), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78), "getdents64": (217, 61),
    "getcwd": (79, 17), "statfs": (137, 43), "fstatfs": (138, 44),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59),
    "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83), "fadvise64": (221, 223),
    "ftruncate": (77, 46), "fallocate": (285, 47), "copy_file_range": (326, 285), "sendfile": (40, 71),
    "mkdir": (83, None), "mkdirat": (258, 34), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "symlink": (88, None),
    "symlinkat": (266, 36), "umask": (95, 166),
    "mremap": (25, 216), "mincore": (27, 232), "msync": (26, 227), "mlock": (149, 228), "munlock": (150, 229),
    "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd2": (290, 19),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getcpu": (309, 168),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165),
    "getrlimit": (97, 163), "sysinfo": (99, 179), "uname": (63, 160), "getrandom": (318, 278),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "rseq": (334, 293), "set_tid_address": (218, 96),
    "arch_prctl": (158, None), "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

# name: numbers, the argument that decides, its values
ALLOWED_BY_ARGUMENT: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    # descriptors, status flags, locks; not whom a descriptor sends signals to
    "fcntl": (72, 25, 1, (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1_030, 1_034)),
    "ioctl": (16, 29, 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # whether it is a terminal, FIONREAD, ...
    "prctl": (157, 167, 0, (15, 16, 0x5356_4D41)),  # names of threads and of memory
}
_CLONE, _CLONE3, _PRLIMIT, _TGKILL = (56, 220), (435, 435), (302, 261), (234, 131)


def is_supported() -> bool:
    if machine() not in _AUDIT_ARCH:
        return False
    try:
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0)
    except OSError as error:
        return error.errno == errno.EFAULT  # filters are known, and this is none
    return False


def install() -> None:
    """Allow this thread, and those that it starts, the calls above alone. Needs no_new_privs. Raises OSError."""
    program = _build_program(machine())
    buffer = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer)))
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(header))


def _build_program(architecture: str) -> bytes:
    column = list(_AUDIT_ARCH).index(architecture)
    allow, deny = _operation(_RETURN, _ALLOW), _operation(_RETURN, _ERRNO | errno.EPERM)
    program = [
        _operation(_LOAD, _ARCH),
        _operation(_JUMP_EQUAL, _AUDIT_ARCH[architecture], 1, 0),
        _operation(_RETURN, _KILL_PROCESS),
        _operation(_LOAD, _NUMBER),
    ]
    for numbers in ALLOWED.values():
        if (number := numbers[column]) is not None:
            program += _when(number, [allow])
    for x86, arm, argument, values in ALLOWED_BY_ARGUMENT.values():
        checks = [step for value in values for step in (_operation(_JUMP_EQUAL, value, 0, 1), allow)]
        program += _when((x86, arm)[column], [_low_word(argument), *checks, deny])
    # a thread of this process, no other process
    program += _when(_CLONE[column], [_low_word(0), _operation(_JUMP_BITS, _CLONE_THREAD, 0, 1), allow, deny])
    program += _when(_CLONE3[column], [_operation(_RETURN, _ERRNO | errno.ENOSYS)])  # its flags cannot be seen here
    # a signal to itself, as abort() sends one
    program += _when(_TGKILL[column], [_low_word(0), _operation(_JUMP_EQUAL, os.getpid(), 0, 1), allow, deny])
    # limits are read, never set
    no_new_limit = [_low_word(2), _operation(_JUMP_EQUAL, 0, 0, 3), _high_word(2), _operation(_JUMP_EQUAL, 0, 0, 1)]
    program += _when(_PRLIMIT[column], [*no_new_limit, allow, deny])
    program += [_operation(_JUMP_AT_LEAST, _NEWER_CALLS, 0, 1), _operation(_RETURN, _ERRNO | errno.ENOSYS), deny]
    return b"".join(program)


def _operation(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _when(number: int, operations: list[bytes]) -> list[bytes]:
    """Operations for one system call, the last of which returns."""
    return [_operation(_JUMP_EQUAL, number, 0, len(operations)), *operations]


def _low_word(argument: int) -> bytes:
    return _operation(_LOAD, _ARGUMENTS + 8 * argument)


def _high_word(argument: int) -> bytes:
    return _operation(_LOAD, _ARGUMENTS + 8 * argument + 4)
