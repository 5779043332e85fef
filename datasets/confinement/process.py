"""Confine this process for the rest of its life, before it opens a file of others.

confine(ProcessLimits(memory_bytes=2 * 2**30, cpu_seconds=60), read=[slide])       # ConfinementError where it cannot be

YUHENG_CONFINEMENT_REQUIRED=false accepts a kernel without Landlock or seccomp, and uses what it has.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.confinement import landlock, seccomp
from datasets.confinement.kernel import drop_privileges

REQUIRED_VARIABLE = "YUHENG_CONFINEMENT_REQUIRED"
ROOT = Path(__file__).parents[2]
# What Python and its libraries read. Nothing below ROOT but code: var/ holds keys.
LIBRARIES = (
    *("/usr", "/lib", "/lib64", "/nix/store", "/opt/conda", sys.prefix, sys.base_prefix),
    *(str(ROOT / package) for package in ("datasets", "models", "serving")),
    *("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/zero", "/dev/null"),
)
MAX_CPU_SECONDS = 6 * 3_600  # of a process altogether, which it cannot lift


class ConfinementError(RuntimeError):
    """This kernel cannot confine a process, and the settings require it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """memory_bytes: of address space, of which libraries reserve about 300 MB without using it, and to which files that
    are mapped count. data_bytes: of what the process may write to; None: no limit of its own.

    cpu_seconds: of the first request; the parent extends it for each further one, up to MAX_CPU_SECONDS altogether.
    file_bytes: of one file that it writes.
    """

    memory_bytes: int
    cpu_seconds: int
    data_bytes: int | None = None
    file_bytes: int = 0
    max_open_files: int = 2_048


@dataclass(frozen=True, slots=True)
class KernelSupport:
    """landlock_abi: 0 for none."""

    landlock_abi: int
    seccomp: bool

    @property
    def is_complete(self) -> bool:
        return self.landlock_abi > 0 and self.seccomp

    def __str__(self) -> str:
        landlock_text = f"Landlock ABI {self.landlock_abi}" if self.landlock_abi else "no Landlock"
        return f"{landlock_text}, {'seccomp' if self.seccomp else 'no seccomp'}"


def kernel_support() -> KernelSupport:
    return KernelSupport(landlock.abi(), seccomp.is_supported())


def is_required() -> bool:
    return os.environ.get(REQUIRED_VARIABLE, "true").strip().lower() not in ("false", "0", "no", "off")


def set_required(required: bool) -> None:
    """Say for this process, and those that it starts, whether a kernel without Landlock or seccomp is refused."""
    os.environ[REQUIRED_VARIABLE] = str(required).lower()


def child_environment(temporary_folder: str) -> dict[str, str]:
    """The environment of a process that will be confined: nothing of the parent's but what it needs."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "TMPDIR": temporary_folder,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # the limit on file size would truncate a .pyc that others read
        "PYTHONUTF8": "1",
        "POLARS_MAX_THREADS": "1",
        REQUIRED_VARIABLE: str(is_required()).lower(),
    }


def confine(
    limits: ProcessLimits, read: Sequence[Path], write: Sequence[Path] = (), list_names: Sequence[Path] = ()
) -> KernelSupport:
    """Deny this process all but its libraries, its temporary folder, reading `read`, and writing below `write`.

    list_names: folders in which it may list names, without reading the files.

    It must have one thread, as Landlock binds a thread and those that it starts. Raises ConfinementError.
    """
    support = kernel_support()
    if is_required() and not support.is_complete:
        raise ConfinementError(f"this kernel has {support}")
    if len(os.listdir("/proc/self/task")) > 1:
        raise ConfinementError("the process has threads already, which would stay free")
    _apply_limits(limits)
    try:
        drop_privileges()
        if support.landlock_abi:
            readable = [(path, landlock.READ) for path in (*map(Path, LIBRARIES), *read)]
            writable = [(path, landlock.WRITE) for path in (*write, Path("/dev/null"))]
            listed = [(path, landlock.READ_DIR) for path in list_names]
            temporary = (Path(os.environ["TMPDIR"]), landlock.SCRATCH)
            landlock.restrict([*readable, *writable, *listed, temporary])
        if support.seccomp:
            seccomp.install()
    except OSError as error:
        if is_required():
            raise ConfinementError(f"this kernel has {support}, which failed: {error.strerror}") from error
    return support


def _apply_limits(limits: ProcessLimits) -> None:
    """Soft limits and hard ones: the process cannot lift them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = int(usage.ru_utime + usage.ru_stime) + 1 + limits.cpu_seconds
    data_bytes = limits.memory_bytes if limits.data_bytes is None else limits.data_bytes
    for kind, soft, hard in (
        (resource.RLIMIT_DATA, data_bytes, data_bytes),
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.max_open_files, limits.max_open_files),
        (resource.RLIMIT_CPU, cpu_seconds, MAX_CPU_SECONDS),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        inherited = resource.getrlimit(kind)[1]
        hard = hard if inherited == resource.RLIM_INFINITY else min(hard, inherited)
        resource.setrlimit(kind, (min(soft, hard), hard))
