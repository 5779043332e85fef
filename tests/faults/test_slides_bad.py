"""Bad slides among sound ones in one run of the real workflow: each ends in its state with its reason, and none delays
another. While the disk is full a slide waits, and afterwards its reading is the same."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from datasets.slides.simulate import pyramid
from datasets.slides.simulate.slides import simulate_slide
from models import bundle
from serving import settings as settings_module
from serving.core.audit.authenticator import open_log_store
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow.runner import TileRunner
from serving.pathology.workflow.workflow import SlideWorkflow
from tests import postgres
from tests.datasets.slides.slide_files import CMU, jpeg, one_image, painted
from tests.datasets.slides.test_static_check import MRXS
from tests.paths import ROOT
from tests.serving.pathology.arrived_slides import SLOW_WORKER, comparable_fields, create_arrived_slide
from tests.serving.pathology.slide_bundles import POLICY, publish

FINAL_STATES = ("ready", "abstained", "failed", "quality_failed")
SIZE = {"columns": 8, "rows": 6}


def create_slide(settings, engine, content, **columns):
    return create_arrived_slide(engine, settings.paths.slides, content, **columns)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return bundle.create_signing_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.tiff"
    return pyramid.write_tiff(path, simulate_slide(seed=5, label="HSIL", **SIZE)).read_bytes()


def load_test_settings(home, bundles, keys, **environ):
    environ |= {"YUHENG_HOME": str(home), "YUHENG_BUNDLES": str(bundles), "YUHENG_PUBLIC_KEY": str(keys[1])}
    environ |= postgres.store(home)
    return settings_module.load_settings(environ=environ)


@pytest.fixture(scope="module")
def final_rows(tmp_path_factory, keys, sound_file):
    """Name -> the slide's row after the run."""
    home = tmp_path_factory.mktemp("home")
    publish(home / "bundles", keys, simulated=250)
    settings = load_test_settings(home, home / "bundles", keys, YUHENG_READER_MAX_CONCURRENT_SLIDES="2")

    def write_defective(defect):
        path = home / f"{defect}.tiff"
        return pyramid.write_tiff(path, simulate_slide(seed=6, label="NILM", **SIZE, defect=defect)).read_bytes()

    escaping_index = MRXS.format(index="Index.dat", data="../../../secret.dat").encode()
    slides_by_name = {
        "truncated": {"content": sound_file[:-100_000]},
        "a bomb": {"content": one_image(width=10**9, height=10**9)},
        "no slide": {"content": b"MZ\x90\0" + bytes(5_000), "name": "slide.svs"},
        "mrxs": {
            "content": jpeg(painted(32, 32)),
            "name": "slide.mrxs",
            "extra_files": {"slide/Slidedat.ini": escaping_index, "slide/Index.dat": b"01.02"},
        },
        "another hash": {"content": sound_file, "sha256": "0" * 64},
        "no scale": {"content": write_defective("no_scale")},
        "glass": {"content": write_defective("all_background")},
        "blurred": {"content": write_defective("out_of_focus")},
        "under pen": {"content": write_defective("pen_marks")},
        "another stain": {"content": write_defective("wrong_stain")},
        "another organ": {"content": CMU.read_bytes(), "name": "colon.svs"},
        "sound": {"content": sound_file},
        "the same again": {"content": sound_file},
        "named otherwise": {"content": sound_file, "name": "slide.svs"},
    }
    runner = TileRunner(settings)
    workflow = SlideWorkflow(settings, runner.infer)
    names = {create_slide(settings, workflow.engine, **columns): name for name, columns in slides_by_name.items()}
    (settings.paths.slides / "secret.dat").write_bytes(b"secret")
    workflow.start()
    try:
        workflow.enqueue_new()
        for slide in names:
            workflow.wait_for_slide(slide, 240)
        yield {name: slide_store.get(workflow.engine, slide) for slide, name in names.items()}
    finally:
        workflow.stop()
        runner.close()


@pytest.mark.parametrize(
    ("name", "state", "code"),
    [
        ("truncated", "failed", "truncated"),
        ("a bomb", "failed", "pixel_bomb"),
        ("no slide", "failed", "unknown_format"),
        ("mrxs", "failed", "outside"),
        ("another hash", "failed", "malformed"),
        ("no scale", "awaiting_scale", "no_scale"),
        ("glass", "quality_failed", "all_background"),
        ("blurred", "quality_failed", "out_of_focus"),
        ("under pen", "quality_failed", "pen_marks"),
        ("another stain", "abstained", "out_of_distribution"),
        ("another organ", "abstained", "out_of_distribution"),
    ],
)
def test_a_bad_slide_ends_in_its_state_with_a_reason_in_both_languages(final_rows, name, state, code):
    row = final_rows[name]
    assert (row["state"], row["code"]) == (state, code)
    assert all(reason["en"] and reason["zh"] for reason in row["reasons"])


def test_sound_slides_among_bad_ones_are_read(final_rows):
    row = final_rows["sound"]
    assert "out_of_distribution" not in [reason["code"] for reason in row["reasons"]]
    assert row["state"] in ("ready", "abstained")
    assert row["reading"]["tiles"]["read"] > 50


def test_the_same_file_has_the_same_reading_and_a_wrong_extension_is_noted(final_rows):
    first, again, misnamed = (final_rows[name]["reading"] for name in ("sound", "the same again", "named otherwise"))
    assert comparable_fields(first) == comparable_fields(again)
    assert comparable_fields(first, "slide") == comparable_fields(misnamed, "slide")
    assert "named_otherwise" in misnamed["slide"]["notes"]


# --- a full disk


@pytest.fixture
def small_disk(tmp_path, keys):
    """(settings, environment, a command prefix under which the slides' folder is a disk of 8 MB)."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here, because user namespaces are disabled")
    publish(tmp_path / "bundles", keys, policy=POLICY.read_text().replace("batch_size = 256", "batch_size = 16"))
    environ = {  # always SQLite: a PostgreSQL socket cannot be reached from inside the namespace
        "YUHENG_HOME": str(tmp_path),
        "YUHENG_BUNDLES": str(tmp_path / "bundles"),
        "YUHENG_PUBLIC_KEY": str(keys[1]),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    settings = settings_module.load_settings(environ=environ)
    settings.paths.slides.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size=8m tmpfs {settings.paths.slides} && exec "$@"'
    return settings, os.environ | environ, ["unshare", "-Urm", "sh", "-c", mount, "sh"]


def fill_disk(path):
    """Fill the disk up."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass


def test_a_slide_waits_while_the_disk_is_full_and_loses_nothing(small_disk, sound_file, tmp_path):
    settings, environ, prefix = small_disk
    engine = open_log_store(settings, 10.0)
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen([*prefix, sys.executable, "-c", SLOW_WORKER], cwd=ROOT, env=environ, stderr=log)
    mounted_dir = Path(f"/proc/{worker.pid}/root{settings.paths.slides}")  # the small disk as seen from this process

    def wait_for(condition, seconds=60):
        started = time.monotonic()
        while not (result := condition()):
            assert worker.poll() is None, (tmp_path / "log").read_text()[-2000:]
            assert time.monotonic() - started < seconds, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.02)
        return result

    def row(slide):
        return slide_store.get(engine, slide)

    try:
        wait_for(lambda: os.path.ismount(mounted_dir) or settings.paths.jobs.exists())
        mounted_settings = settings.model_copy(
            update={"paths": settings.paths.model_copy(update={"slides": mounted_dir})}
        )
        slide = create_slide(mounted_settings, engine, sound_file)
        wait_for(lambda: row(slide)["done"] >= 16)
        fill_disk(mounted_dir / "filler")
        wait_for(lambda: [e for e in slide_store.events_after(engine, slide) if e["detail"].get("code") == "no_space"])
        assert row(slide)["state"] in ("inferring", "aggregating")
        (mounted_dir / "filler").unlink()
        wait_for(lambda: row(slide)["state"] in FINAL_STATES)
        again = create_slide(mounted_settings, engine, sound_file)
        wait_for(lambda: row(again)["state"] in FINAL_STATES)
        assert comparable_fields(row(slide)["reading"]) == comparable_fields(row(again)["reading"])
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        engine.dispose()
