"""What code that a hostile file runs inside a decoder may do: read that file, and nothing else."""

import resource
import socket
import subprocess
import sys

import pytest

from datasets.confinement import process
from datasets.confinement.process import child_environment, kernel_support
from tests.datasets.confinement.support import needs_confinement, run_confined
from tests.paths import ROOT


@pytest.fixture
def home(tmp_path):
    """A folder with a key, a slide beside it, and the pointer that names the model that answers."""
    for name in ("tokens.pem", "vault.key", "slide.svs", "champion"):
        (tmp_path / name).write_text(f"{name}: secret")
    (tmp_path / "temporary").mkdir()
    return tmp_path


@needs_confinement
def test_code_in_a_decoder_reads_its_own_file_and_no_key(home):
    results = run_confined(
        f"""
        home = Path({str(home)!r})
        attempt("slide", lambda: (home / "slide.svs").read_text())
        attempt("key beside it", lambda: (home / "vault.key").read_text())
        attempt("names beside it", lambda: os.listdir(home))
        attempt("by a link", lambda: (os.symlink(home / "tokens.pem", os.environ["TMPDIR"] + "/a"),
                                      Path(os.environ["TMPDIR"], "a").read_text()))
        attempt("environment of the parent", lambda: Path(f"/proc/{{os.getppid()}}/environ").read_bytes())
        attempt("memory of the parent", lambda: open(f"/proc/{{os.getppid()}}/mem", "rb"))
        attempt("passwords", lambda: Path("/etc/shadow").read_text())
        attempt("names of the project", lambda: os.listdir({str(ROOT)!r}))
        attempt("settings of the project", lambda: Path({str(ROOT / "configs/serving.toml")!r}).read_text())
        """,
        home / "temporary",
        read=[home / "slide.svs"],
    )
    assert results.pop("slide") == "done: slide.svs: secret"
    assert set(results.values()) == {"PermissionError"}, results


@needs_confinement
def test_code_in_a_decoder_writes_nothing_outside_its_folders(home):
    (home / "out").mkdir()
    results = run_confined(
        f"""
        home = Path({str(home)!r})
        def pointer():
            with open(home / "champion", "r+") as file:
                file.write("unfair")
        attempt("overwrite a pointer", pointer)
        attempt("overwrite its own file", lambda: open(home / "slide.svs", "r+"))
        attempt("make a file", lambda: (home / "new").write_text(""))
        attempt("remove a file", lambda: os.unlink(home / "champion"))
        attempt("rename a file", lambda: os.rename(home / "champion", os.environ["TMPDIR"] + "/champion"))
        attempt("change modes", lambda: os.chmod(home / "vault.key", 0o644))
        attempt("truncate by path", lambda: os.truncate(home / "champion", 0))
        attempt("a hard link", lambda: os.link(home / "vault.key", os.environ["TMPDIR"] + "/key"))
        attempt("a link where others read", lambda: os.symlink("/etc/shadow", home / "out" / "link"))
        attempt("change times", lambda: os.utime(home / "champion"))
        attempt("its output", lambda: open(home / "out" / "empty", "w").close())
        """,
        home / "temporary",
        read=[home / "slide.svs"],
        write=[home / "out"],
    )
    assert results.pop("its output") == "done: None"
    assert set(results.values()) == {"PermissionError"}, results
    assert (home / "champion").read_text() == "champion: secret"
    assert (home / "vault.key").stat().st_mode & 0o077 == (home / "slide.svs").stat().st_mode & 0o077


@needs_confinement
def test_code_in_a_decoder_reaches_no_network_and_no_other_process(home):
    with socket.create_server(("127.0.0.1", 0)) as server:
        results = run_confined(
            f"""
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            def call(function, *arguments):
                if function(*arguments) < 0:
                    raise OSError(ctypes.get_errno(), "")
            attempt("TCP", lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]})))
            attempt("UDP", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            attempt("Unix", lambda: socket.socket(socket.AF_UNIX))
            attempt("a pair", socket.socketpair)
            attempt("fork", os.fork)
            attempt("a program", lambda: os.execv("/bin/true", ["true"]))
            attempt("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {{}}))
            attempt("signal the parent", lambda: os.kill(os.getppid(), 0))
            attempt("signal all", lambda: os.kill(-1, 0))
            attempt("signal by a descriptor", lambda: os.pidfd_open(os.getppid()))
            attempt("trace the parent", lambda: call(libc.ptrace, 16, os.getppid(), 0, 0))
            attempt("read the parent's memory", lambda: call(libc.process_vm_readv, os.getppid(), None, 0, None, 0, 0))
            attempt("a new user namespace", lambda: call(libc.unshare, 0x10000000))
            attempt("ask the kernel for keys", lambda: call(libc.syscall, 250, 0, -3, 0))
            import fcntl
            attempt("have a descriptor signal the parent", lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()))
            """,
            home / "temporary",
        )
    assert results.pop("signal by a descriptor") == "OSError"  # as of a kernel that has no such call
    assert set(results.values()) == {"PermissionError"}, results


@needs_confinement
def test_code_in_a_decoder_cannot_lift_its_limits(home):
    results = run_confined(
        """
        for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE"):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            attempt(name, lambda kind=kind: resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
            attempt(name + " of the parent", lambda kind=kind: resource.prlimit(os.getppid(), kind, (1, 1)))
            results[name + " is bounded"] = str(hard != resource.RLIM_INFINITY)
        large = os.environ["TMPDIR"] + "/large"
        attempt("a file", lambda: open(large, "wb", buffering=0).write(bytes(4_097)))
        attempt("memory", lambda: bytearray(2**31))
        """,
        home / "temporary",
    )
    bounded = {name: results.pop(name) for name in list(results) if name.endswith("is bounded")}
    assert set(bounded.values()) == {"True"}, bounded
    assert results.pop("memory") == "MemoryError"
    assert set(results.values()) <= {"PermissionError", "ValueError", "OSError"}, results


@needs_confinement
def test_a_confined_process_has_threads_and_no_privileges(home):
    results = run_confined(
        """
        def threads():
            done = []
            started = [threading.Thread(target=lambda: done.append(1)) for _ in range(4)]
            for thread in started: thread.start()
            for thread in started: thread.join()
            return len(done)
        attempt("threads", threads)
        attempt("a signal to itself", lambda: signal.pthread_kill(threading.get_ident(), signal.SIGCONT))
        """,
        home / "temporary",
    )
    assert results == {"threads": "done: 4", "a signal to itself": "done: None"}


def test_threads_that_run_already_would_stay_free_so_they_are_refused(home):
    code = (
        "import threading, time; from datasets.confinement.process import *\n"
        "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
        "try:\n    confine(ProcessLimits(memory_bytes=2**31, cpu_seconds=60), [])\n"
        "except ConfinementError as error:\n    print(error)"
    )
    environment = child_environment(str(home / "temporary"))
    command = [sys.executable, "-B", "-c", code]
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60).stdout
    assert "threads" in output or not kernel_support().is_complete, output


@pytest.mark.parametrize(("setting", "refused"), [("true", True), ("false", False)])
def test_a_kernel_without_landlock_is_refused_unless_a_setting_accepts_it(home, setting, refused):
    code = (
        "from datasets.confinement import landlock, process\nlandlock.abi = lambda: 0\n"
        "try:\n    print(process.confine(process.ProcessLimits(memory_bytes=2**31, cpu_seconds=60), []))\n"
        "except process.ConfinementError as error:\n    print('refused:', error)"
    )
    environment = child_environment(str(home / "temporary")) | {process.REQUIRED_VARIABLE: setting}
    command = [sys.executable, "-B", "-c", code]
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60).stdout
    assert output.startswith("refused: this kernel has no Landlock") == refused, output
    assert "no Landlock" in output


def test_confinement_is_required_unless_it_is_switched_off(monkeypatch):
    monkeypatch.delenv(process.REQUIRED_VARIABLE, raising=False)
    assert process.is_required()
    monkeypatch.setenv(process.REQUIRED_VARIABLE, "tru")  # a slip of the pen does not switch it off
    assert process.is_required()
    monkeypatch.setenv(process.REQUIRED_VARIABLE, "false")
    assert not process.is_required()


def test_the_environment_of_a_child_has_nothing_of_the_parents(monkeypatch, tmp_path):
    monkeypatch.setenv("YUHENG_STORE_URL", "postgresql://user:password@host/yuheng")
    assert "password" not in str(child_environment(str(tmp_path)))


def test_limits_do_not_reach_the_parent():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
