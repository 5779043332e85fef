"""Whatever decoding does, the parent only ever sees pixels or a refusal."""

import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.confinement.process import REQUIRED_VARIABLE
from datasets.slides import reader, sandbox
from datasets.slides.errors import SlideError
from datasets.slides.sandbox import SANDBOX_LIMITS
from tests.datasets.confinement.support import needs_confinement
from tests.datasets.slides.slide_files import CMU
from tests.paths import ROOT


def process(slide):
    return slide._read.__self__._child.process


def test_the_sandbox_answers_what_the_reader_answers():
    with sandbox.open_slide(CMU) as boxed, reader.open_slide(CMU) as plain:
        assert boxed.metadata == plain.metadata
        for x, y in ((0, 0), (700, 900), (2_100, 2_900), (-20, 5)):
            np.testing.assert_array_equal(boxed.read(x, y, (256, 200)), plain.read(x, y, (256, 200)))


def test_a_refusal_inside_is_the_same_refusal_outside(tmp_path):
    (tmp_path / "cut.svs").write_bytes(CMU.read_bytes()[:900_000])
    with pytest.raises(SlideError) as boxed:
        sandbox.open_slide(tmp_path / "cut.svs")
    with pytest.raises(SlideError) as plain:
        reader.open_slide(tmp_path / "cut.svs")
    assert boxed.value.issues == plain.value.issues


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_broken_process_is_a_refusal_and_closes_cleanly(how):
    with sandbox.open_slide(CMU) as slide:
        os.kill(process(slide).pid, how)
        with pytest.raises(SlideError) as refused:
            slide.read(0, 0, (64, 64))
        assert refused.value.codes == ("sandbox_crash",)
        assert how.name in str(refused.value)
        with pytest.raises(SlideError):
            slide.read(0, 0, (64, 64))
    assert process(slide).poll() is not None


def test_a_hanging_process_is_a_refusal_in_time():
    with sandbox.open_slide(CMU, sandbox_limits=replace(SANDBOX_LIMITS, wall_seconds=5.0)) as slide:
        os.kill(process(slide).pid, signal.SIGSTOP)
        before = time.monotonic()
        with pytest.raises(SlideError) as refused:
            slide.read(0, 0, (64, 64))
        assert refused.value.codes == ("sandbox_time",)
        assert time.monotonic() - before < 15


def test_a_slide_that_needs_too_much_memory_is_refused(tmp_path):
    Image.new("RGB", (8_000, 8_000), (200, 100, 150)).save(tmp_path / "large.png")
    with pytest.raises(SlideError) as refused:
        sandbox.open_slide(tmp_path / "large.png", sandbox_limits=replace(SANDBOX_LIMITS, memory_bytes=350 * 2**20))
    assert set(refused.value.codes) <= {"sandbox_memory", "sandbox_crash"}


def test_the_process_ends_with_the_slide():
    slide = sandbox.open_slide(CMU)
    slide.close()
    assert process(slide).poll() is not None


@settings(max_examples=15, deadline=60_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=200))
def test_flipped_bytes_never_break_the_parent(tmp_path, flips):
    data = bytearray(CMU.read_bytes())
    for position, by in flips:
        data[int(position * len(data))] ^= by
    (tmp_path / "flipped.svs").write_bytes(data)
    bounds = replace(SANDBOX_LIMITS, wall_seconds=20.0, cpu_seconds=10)
    with suppress(SlideError), sandbox.open_slide(tmp_path / "flipped.svs", sandbox_limits=bounds) as slide:
        for x in range(0, 2_220, 500):
            assert slide.read(x, 1_000, (240, 240)).shape == (240, 240, 3)


def test_what_a_killed_process_did_not_answer_is_asked_again_and_a_slide_that_breaks_it_stays_refused():
    tried = []

    def look(dies):
        tried.append(1)
        with sandbox.open_slide(CMU) as slide:
            if len(tried) <= dies:
                os.kill(process(slide).pid, signal.SIGKILL)
            return slide.read(0, 0, (8, 8)).shape

    assert sandbox.retry_in_new_sandbox(lambda: look(1)) == (8, 8, 3)
    assert len(tried) == 2
    tried.clear()
    with pytest.raises(SlideError, match="SIGKILL"):
        sandbox.retry_in_new_sandbox(lambda: look(9))
    assert len(tried) == sandbox.MAX_ATTEMPTS


def test_the_sandboxed_process_leaves_no_bytecode_that_its_limit_on_files_cut_short(tmp_path, monkeypatch):
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "datasets", copy / "datasets", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sandbox, "ROOT", copy)
    with sandbox.open_slide(CMU) as slide:
        assert slide.metadata.size[0]
    assert not list(copy.rglob("*.pyc"))


@needs_confinement
def test_the_process_that_decodes_has_no_privileges_and_a_session_of_its_own():
    with sandbox.open_slide(CMU) as slide:
        child = process(slide)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_the_memory_for_pixels_cannot_be_shrunk_under_the_reader():
    with sandbox.open_slide(CMU) as slide:
        child = process(slide)
        descriptors = [path for path in Path(f"/proc/{child.pid}/fd").iterdir() if "memfd:pixels" in os.readlink(path)]
        with open(descriptors[0], "r+b") as shared, pytest.raises(PermissionError):
            os.ftruncate(shared.fileno(), 0)
        assert slide.read(0, 0, (64, 64)).shape == (64, 64, 3)


def test_only_the_files_of_a_slide_may_be_read(tmp_path):
    for name in ("a.svs", "vault.key", "b.dcm", "c.dcm", "d.mrxs"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" if name.endswith("dcm") else b"x")
    (tmp_path / "d").mkdir()
    (tmp_path / "link.dcm").symlink_to(tmp_path / "c.dcm")
    assert sandbox.slide_paths(tmp_path / "a.svs") == [tmp_path / "a.svs"]
    assert set(sandbox.slide_paths(tmp_path / "b.dcm")) == {tmp_path / "b.dcm", tmp_path / "c.dcm"}
    assert sandbox.slide_paths(tmp_path / "d.mrxs") == [tmp_path / "d.mrxs", tmp_path / "d"]


def test_a_decoder_that_lies_is_a_refusal(monkeypatch):
    with sandbox.open_slide(CMU) as slide:
        child = slide._read.__self__._child
        monkeypatch.setattr(child, "read_line", lambda deadline: b'{"refused": 7, "answer": null}\n')
        with pytest.raises(SlideError) as refused:
            slide.read(0, 0, (64, 64))
        assert refused.value.codes == ("sandbox_crash",)
        assert child.process.poll() is not None


def test_a_machine_that_cannot_confine_refuses_to_decode(tmp_path, monkeypatch):
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "datasets", copy / "datasets", ignore=shutil.ignore_patterns("__pycache__"))
    landlock = copy / "datasets/confinement/landlock.py"
    landlock.write_text(
        landlock.read_text().replace("return syscall(_CREATE_RULESET, None", "return 0 and syscall(0, None")
    )
    monkeypatch.setattr(sandbox, "ROOT", copy)
    monkeypatch.setenv(REQUIRED_VARIABLE, "true")
    with pytest.raises(SlideError) as refused:
        sandbox.open_slide(CMU)
    assert refused.value.codes == ("sandbox_unconfined",)
    monkeypatch.setenv(REQUIRED_VARIABLE, "false")
    with sandbox.open_slide(CMU) as slide:
        assert slide.read(0, 0, (64, 64)).shape == (64, 64, 3)
