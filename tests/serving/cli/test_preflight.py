"""What is wrong with a machine is said before anything is downloaded, all of it together."""

import socket
import subprocess
import sys
import venv

import pytest

from serving.cli import preflight
from tests.paths import ROOT

LINUX = ("Linux", "x86_64", ("glibc", "2.36"))


def single_fault(faults):
    assert len(faults) == 1
    fault = faults[0]
    assert all(fault)
    assert any("一" <= character <= "鿿" for character in fault.zh), "in Chinese too"
    return fault


def test_a_usual_machine_has_no_fault():
    assert preflight.check_platform(*LINUX) == []
    for minor in (11, 12, 13):
        assert preflight.check_python((3, minor, 2), True) == []


@pytest.mark.parametrize(
    ("system", "machine", "libc", "expected"),
    [
        ("Darwin", "arm64", ("", ""), "Linux"),
        ("Windows", "AMD64", ("", ""), "Linux"),
        ("Linux", "riscv64", ("glibc", "2.36"), "x86_64"),
        ("Linux", "x86_64", ("", ""), "glibc 2.28"),
        ("Linux", "x86_64", ("glibc", "2.17"), "glibc 2.28"),
    ],
)
def test_a_platform_without_wheels_is_refused(system, machine, libc, expected):
    assert expected in single_fault(preflight.check_platform(system, machine, libc)).expected


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 10, 4), (3, 14, 0), (2, 7, 18)])
def test_an_unsupported_python_is_refused(version):
    fault = single_fault(preflight.check_python(version, True))
    assert "3.11, 3.12 or 3.13" in fault.expected
    assert "PYTHON=" in fault.action


def test_a_python_that_makes_no_environments_is_refused():
    assert "python3.12-venv" in single_fault(preflight.check_python((3, 12, 1), False)).action


def test_an_sqlite_that_the_queue_of_slides_cannot_use_is_refused():
    assert "SQLite 3.40.1" in single_fault(preflight.check_sqlite((3, 12, 1), "3.40.1")).actual
    assert single_fault(preflight.check_sqlite((3, 13, 0), ""))
    assert preflight.check_sqlite((3, 11, 7), "3.40.1") == []
    assert preflight.check_sqlite((3, 13, 0), "3.46.1") == []


def test_a_full_disk_is_refused():
    fault = single_fault(preflight.check_disk(1.26, 4, "/work"))
    assert "1.3 GB" in fault.actual
    assert preflight.check_disk(4.1, 4, "/work") == []


def test_a_taken_port_is_refused_and_so_is_that_of_the_reader():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in single_fault(preflight.check_port(str(port))).actual
        if port - preflight.READER_OFFSET >= preflight.LOWEST_PORT:
            assert str(port) in single_fault(preflight.check_port(str(port - preflight.READER_OFFSET))).actual


@pytest.mark.parametrize("port", ["80", "http", "", "65500", "3000.5", "-1"])
def test_a_port_that_is_none_is_refused(port):
    assert "1024 to 65435" in single_fault(preflight.check_port(port)).expected


def test_an_environment_that_was_begun_and_not_finished_is_refused(tmp_path):
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    assert "half made" in single_fault(preflight.check_environment(str(folder))).actual
    (folder / "bin" / "python").symlink_to("/nowhere/python3.11")
    assert "make clean-environment" in single_fault(preflight.check_environment(str(folder))).action


def test_an_environment_that_was_moved_is_refused(tmp_path):
    venv.create(tmp_path / "before", with_pip=False, symlinks=True)
    code = "import sys; sys.exit(0)"
    moved = tmp_path / ".venv"
    (tmp_path / "before").rename(moved)
    script = moved / "bin" / "python"
    script.unlink()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    subprocess.run([script, "-c", code], check=True)
    assert "was made at" in single_fault(preflight.check_environment(str(moved))).actual


def test_this_environment_is_none_of_these():
    assert preflight.check_environment(sys.prefix) == []


def test_all_faults_are_told_together_in_a_folder_where_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(preflight.platform, "system", lambda: "Plan9")
    monkeypatch.setattr(preflight, "DISK", {"demo": 1e9})
    monkeypatch.setattr(preflight.sys, "version_info", (3, 8, 0, "final", 0))
    assert preflight.main(["--target", "demo", "--port", "x", "--root", str(tmp_path)]) == 1
    output = capsys.readouterr().err
    for fragment in ("Plan9", "GB are free", "Python 3.8", "PORT is 'x'"):
        assert fragment in output
    assert list(tmp_path.iterdir()) == []


def test_it_names_no_host_and_imports_only_the_standard_library():
    source = (ROOT / "serving/cli/preflight.py").read_text(encoding="utf-8")
    assert "://" not in source
    command = [sys.executable, "-S", "-I", "serving/cli/preflight.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
