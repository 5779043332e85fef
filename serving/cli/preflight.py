"""Check the machine before anything is downloaded: python3 -I serving/cli/preflight.py --target demo --port 3000

Runs on any Python from 3.9 with the standard library alone, so that an unsuitable Python is told in a sentence. All
faults are printed together, each with what was found, what is needed and what to do. Exit status 1 with a fault.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

OLDEST, NEWEST = (3, 11), (3, 13)
MACHINES = ("x86_64", "aarch64")
GLIBC = (2, 28)  # of the wheels that are locked
SQLITE = (3, 42)
GIGABYTE = 1_000_000_000
DISK = {"demo": 4, "train": 14, "test": 14}  # target -> GB: the environment, the download cache, what is recorded
STAMPS = {"demo": (".demo", ".dev"), "train": (".dev",), "test": (".dev",)}  # in .venv, once it is complete
READER_OFFSET = 100  # the service that reads slides listens on the port so much higher
LOWEST_PORT, HIGHEST_PORT = 1_024, 65_535 - READER_OFFSET


class Fault(NamedTuple):
    actual: str
    expected: str
    action: str
    zh: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make preflight", description="Check the machine before the set-up.")
    parser.add_argument("--target", choices=sorted(DISK), default="demo")
    parser.add_argument("--port", default="3000", help="on which the demo serves")
    parser.add_argument("--root", default=os.getcwd(), help="the project's folder")
    options = parser.parse_args(arguments)
    faults = find_faults(options.target, options.port, options.root)
    if not faults:
        print(f"Preflight: this machine is ready for `make {options.target}`. 环境检查通过。")
        if missing := find_missing_confinement():
            print(
                f"  note    the kernel has no {missing}: the demo decodes files of others less confined, and a service"
            )
            print("          refuses them unless [confinement] required = false. Linux 5.13 or later has both")
            print(f"  注意    内核缺少 {missing}：演示以较弱的隔离解码外来文件；正式服务默认拒绝解码。")
        return 0
    print(f"Preflight: `make {options.target}` cannot start yet. 环境检查未通过：\n", file=sys.stderr)
    for fault in faults:
        print(f"  found   {fault.actual}\n  needed  {fault.expected}\n  do      {fault.action}", file=sys.stderr)
        print(f"  {fault.zh}\n", file=sys.stderr)
    return 1


def find_faults(target: str, port: str, root: str) -> list[Fault]:
    environment = os.path.join(root, ".venv")
    complete = any(os.path.exists(os.path.join(environment, stamp)) for stamp in STAMPS[target])
    faults = check_platform(platform.system(), platform.machine(), platform.libc_ver())
    faults += check_folder(root)
    if os.path.lexists(environment):
        faults += check_environment(environment)
    else:
        faults += check_python(sys.version_info[:3], has_modules("venv", "ensurepip"))
        if OLDEST <= sys.version_info[:2] <= NEWEST:
            faults += check_sqlite(sys.version_info[:3], sqlite_version())
    if not complete and os.path.isdir(root):
        faults += check_disk(shutil.disk_usage(root).free / GIGABYTE, DISK[target], root)
    if target == "demo":
        faults += check_port(port)
    return faults


def check_platform(system: str, machine: str, libc: tuple[str, str]) -> list[Fault]:
    if system != "Linux":
        fault = Fault(
            f"the operating system is {system or 'unknown'}",
            "Linux: slides are decoded in a sandbox of its kernel",
            "use a Linux machine or container; on Windows, WSL 2",
            f"当前系统为 {system or '未知'}；需要 Linux（Windows 请使用 WSL 2）。",
        )
        return [fault]
    faults = []
    if machine not in MACHINES:
        fault = Fault(
            f"the processor is {machine or 'unknown'}",
            f"{' or '.join(MACHINES)}, for which the locked packages have wheels",
            "use a machine with one of these",
            f"当前处理器架构为 {machine or '未知'}；需要 {' 或 '.join(MACHINES)}。",
        )
        faults.append(fault)
    name, version = libc
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if name != "glibc" or numbers < GLIBC:
        minimum = ".".join(map(str, GLIBC))
        fault = Fault(
            f"the C library is {' '.join(libc).strip() or 'not glibc (that of Alpine is musl)'}",
            f"glibc {minimum} or later, for which the locked packages have wheels",
            "use Debian 10, Ubuntu 20.04, RHEL 8 or later, or a container of one of them",
            f"C 运行库为 {' '.join(libc).strip() or '非 glibc'}；需要 glibc {minimum} 或更高版本。",
        )
        faults.append(fault)
    return faults


def find_missing_confinement() -> str:
    """What the kernel lacks of Landlock and seccomp, in which files of others are decoded; "" for nothing."""
    missing = []
    try:
        if ctypes.CDLL(None).syscall(444, None, 0, 1) < 1:  # landlock_create_ruleset: its version
            missing.append("Landlock")
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            if "\nSeccomp:" not in status.read():
                missing.append("seccomp")
    except (OSError, AttributeError):
        return "Landlock and seccomp"
    return " and ".join(missing)


def check_python(version: tuple[int, ...], can_make_environments: bool) -> list[Fault]:
    number, name = ".".join(map(str, version[:3])), f"python{version[0]}.{version[1]}"
    if not OLDEST <= version[:2] <= NEWEST:
        fault = Fault(
            f"{sys.executable or 'python3'} is Python {number}",
            "Python 3.11, 3.12 or 3.13",
            "install one and name it: make demo PYTHON=/path/to/python3.12 (uv brings one: uv python install 3.12)",
            f"当前 Python 为 {number}；需要 3.11、3.12 或 3.13，可用 make demo PYTHON=/path/to/python3.12 指定。",
        )
        return [fault]
    if not can_make_environments:
        fault = Fault(
            f"Python {number} has no venv or no ensurepip",
            "both, to make the environment .venv",
            f"install them; on Debian and Ubuntu: apt install {name}-venv",
            f"Python {number} 缺少 venv 或 ensurepip；Debian/Ubuntu 请运行 apt install {name}-venv。",
        )
        return [fault]
    return []


def check_sqlite(version: tuple[int, ...], sqlite: str) -> list[Fault]:
    """The queue of slides counts in parts of a second where Python is 3.12 or later, which SQLite does from 3.42."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", sqlite)[:2])
    if version[:2] < (3, 12) or numbers >= SQLITE:
        return []
    number, minimum = ".".join(map(str, version[:2])), ".".join(map(str, SQLITE))
    fault = Fault(
        f"Python {number} with SQLite {sqlite or 'missing'}",
        f"SQLite {minimum} or later, or Python 3.11",
        "name another Python: make clean-environment, then make demo PYTHON=/path/to/python3.11 "
        "(those that uv brings have a newer SQLite: uv python install 3.12)",
        f"Python {number} 的 SQLite 版本为 {sqlite or '无'}；需要 {minimum} 或更高版本，或改用 Python 3.11。",
    )
    return [fault]


def sqlite_version() -> str:
    try:
        import sqlite3
    except ImportError:
        return ""
    return sqlite3.sqlite_version


def check_environment(folder: str) -> list[Fault]:
    """Whether .venv was made here, whole, and by a Python that is supported."""
    action, zh = "remove it and start again: make clean-environment", "请删除后重试：make clean-environment"
    code = "import sys, sqlite3; v = sys.version_info; print(v[0], v[1], sqlite3.sqlite_version, sys.prefix)"
    try:
        command = [os.path.join(folder, "bin", "python"), "-I", "-c", code]
        output = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.decode("utf-8", "replace")
        major, minor, sqlite, prefix = output.strip().split(" ", 3)
        version = int(major), int(minor)
        if shutil.which("uv") is None:
            subprocess.run([*command[:2], "-m", "pip", "--version"], capture_output=True, check=True, timeout=60)
    except (OSError, ValueError, subprocess.SubprocessError):
        fault = Fault(
            f"the environment {folder} is half made: its Python or its pip does not run",
            "a complete environment, or none",
            action,
            f"环境 {folder} 不完整，其中的 Python 或 pip 无法运行；{zh}",
        )
        return [fault]
    if not OLDEST <= version <= NEWEST:
        number = f"{version[0]}.{version[1]}"
        fault = Fault(
            f"the environment {folder} is of Python {number}",
            "one of Python 3.11, 3.12 or 3.13",
            f"{action} PYTHON=/path/to/python3.12",
            f"环境 {folder} 的 Python 为 {number}；需要 3.11 至 3.13；{zh}",
        )
        return [fault]
    if os.path.realpath(prefix) != os.path.realpath(folder):
        fault = Fault(
            f"the environment {folder} was made at {prefix}",
            "one made where it lies, as its commands hold that path",
            action,
            f"环境 {folder} 是在 {prefix} 创建的，移动后不可用；{zh}",
        )
        return [fault]
    return check_sqlite(version, sqlite)


def check_folder(root: str) -> list[Fault]:
    if os.access(root, os.W_OK | os.X_OK):
        return []
    fault = Fault(
        f"{root} cannot be written to",
        "a folder of your own: .venv and var are made in it",
        "copy the project to a folder of yours, or change its owner",
        f"目录 {root} 不可写；请将项目复制到有写权限的目录。",
    )
    return [fault]


def check_disk(free: float, required: float, root: str) -> list[Fault]:
    """free, required: GB."""
    if free >= required:
        return []
    fault = Fault(
        f"{free:.1f} GB are free where {root} lies",
        f"{required:g} GB",
        "free some space, or move the project to another disk",
        f"可用磁盘空间 {free:.1f} GB；需要 {required:g} GB。",
    )
    return [fault]


def check_port(port: str) -> list[Fault]:
    """The service's port, and the one beside it on which the service that reads slides listens."""
    if not re.fullmatch(r"[0-9]{1,5}", port) or not LOWEST_PORT <= int(port) <= HIGHEST_PORT:
        fault = Fault(
            f"PORT is {port!r}",
            f"a whole number from {LOWEST_PORT} to {HIGHEST_PORT}",
            "choose another: make demo PORT=3001",
            f"端口 {port!r} 无效；请指定 {LOWEST_PORT} 至 {HIGHEST_PORT} 之间的整数，例如 make demo PORT=3001。",
        )
        return [fault]
    faults = []
    for number in (int(port), int(port) + READER_OFFSET):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the service does: a closed one may linger
            try:
                probe.bind(("127.0.0.1", number))
            except OSError as error:
                fault = Fault(
                    f"port {number} of 127.0.0.1 cannot be used: {error.strerror or error}",
                    f"ports {port} and {int(port) + READER_OFFSET} free",
                    "stop what listens there (an earlier demo?), or choose another: make demo PORT=4000",
                    f"端口 {number} 不可用；请停止占用它的程序，或换用其他端口，例如 make demo PORT=4000。",
                )
                faults.append(fault)
    return faults


def has_modules(*names: str) -> bool:
    try:
        for name in names:
            __import__(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    sys.exit(main())
