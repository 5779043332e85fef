"""The parent of a confined process: deadlines, floods, and an end that leaves nothing behind."""

import time
from pathlib import Path

import pytest

from datasets.confinement.child import ChildEndedError, ChildTimeoutError, ConfinedChild


@pytest.fixture
def start(tmp_path):
    """Start a module of a few lines as a child, unconfined: here the parent is tested."""
    children = []

    def start(code):
        (tmp_path / "child_under_test.py").write_text(f"import os, sys, time\n{code}\n")
        children.append(ConfinedChild("child_under_test", cpu_seconds=1, root=tmp_path))
        return children[-1]

    yield start
    for child in children:
        child.close()


def soon():
    return time.monotonic() + 20


def test_a_line_and_bytes_are_exchanged(start):
    child = start("line = sys.stdin.readline()\nos.write(1, (line + 'rest').encode())")
    child.send(b"hello\n", soon())
    assert child.read_line(soon()) == b"hello\n"
    assert child.read_exactly(4, soon()) == b"rest"


def test_a_child_that_reads_nothing_is_ended_in_time(start):
    child = start("time.sleep(600)")
    with pytest.raises(ChildTimeoutError):
        child.send(bytes(1_000_000), time.monotonic() + 0.5)
    assert child.process.returncode == -9


def test_a_child_that_answers_nothing_is_ended_in_time(start):
    child = start("time.sleep(600)")
    with pytest.raises(ChildTimeoutError):
        child.read_line(time.monotonic() + 0.5)
    assert child.process.returncode == -9


def test_a_line_without_an_end_is_cut_off(start):
    child = start("while True: os.write(1, b'x' * 65536)")
    with pytest.raises(ChildEndedError):
        child.read_line(soon(), max_bytes=1_000_000)


def test_a_child_that_dies_says_how(start):
    child = start("os.abort()")
    with pytest.raises(ChildEndedError, match="SIGABRT"):
        child.read_line(soon())


def test_whatever_a_child_starts_ends_with_it(start):
    child = start(
        "for _ in range(5):\n    if os.fork() == 0: time.sleep(600); os._exit(0)\n"
        "sys.stdout.write('started\\n'); sys.stdout.flush()"
    )
    assert child.read_line(soon()) == b"started\n"
    child.process.wait(20)  # the leader is gone, its five children are not
    child.close()
    deadline = soon()
    while members(child.process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not members(child.process.pid)


def members(group):
    """Living processes of a group."""
    names = []
    for folder in Path("/proc").iterdir():
        try:
            state, _, process_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            names.append(folder.name)
    return names


def test_a_limit_on_cpu_time_is_extended_for_a_further_request(start, monkeypatch):
    monkeypatch.setattr("datasets.confinement.child.EXTEND_SECONDS", 0.0)
    child = start(
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (2, 60))\n"
        "for line in sys.stdin:\n"
        "    end = time.process_time() + 0.6\n"
        "    while time.process_time() < end: pass\n"
        "    os.write(1, b'done\\n')"
    )
    for _ in range(6):
        child.extend_cpu_limit()
        child.send(b"go\n", soon())
        assert child.read_line(soon()) == b"done\n"
