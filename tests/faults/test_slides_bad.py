"""Bad and good slides in one run of the real workflow: each ends in its own state with its reason, and none blocks
another. With a full disk the workflow waits, and then reads the slide as usual."""

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
from serving.core.db.engine import open_store
from serving.core.identifiers import new_id
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow.runner import TileRunner
from serving.pathology.workflow.workflow import SlideWorkflow
from tests import postgres
from tests.datasets.slides.slide_files import CMU, jpeg, one_image
from tests.datasets.slides.slide_files import painted as painted_field
from tests.datasets.slides.test_static_check import MRXS
from tests.paths import ROOT
from tests.serving.pathology.slide_bundles import POLICY, publish

DONE = ("ready", "abstained", "failed", "quality_failed")
SIZE = {"columns": 8, "rows": 6}


def store_upload(settings, engine, content, name="slide.tiff", companions=None, **columns):
    """Store a slide as after a complete upload and return its id. `companions`: other files in its quarantine."""
    slide = new_id()
    path = storage.quarantine_path(settings.paths.slides, slide, name)
    storage.create_empty(path)
    path.write_bytes(content)
    for companion, data in (companions or {}).items():
        (path.parent / companion).parent.mkdir(exist_ok=True)
        (path.parent / companion).write_bytes(data)
    fields = {"sha256": storage.sha256_of(path).hexdigest(), "accession": "A1", "request": {}, "name": name} | columns
    slide_store.create(engine, slide, "verifying", specimen="cervical_cytology", **fields)
    return slide


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return bundle.create_signing_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.tiff"
    return pyramid.write_tiff(path, simulate_slide(seed=5, label="HSIL", **SIZE)).read_bytes()


def settings_for(home, bundles, keys, **environ):
    environ |= {"YUHENG_HOME": str(home), "YUHENG_BUNDLES": str(bundles), "YUHENG_PUBLIC_KEY": str(keys[1])}
    environ |= postgres.store(home)
    return settings_module.load_settings(environ=environ)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, keys, sound):
    """Name -> the row of each slide after the run."""
    home = tmp_path_factory.mktemp("home")
    publish(home / "bundles", keys, simulated=250)
    settings = settings_for(home, home / "bundles", keys, YUHENG_READER_MAX_CONCURRENT_SLIDES="2")

    def faulty(fault):
        path = home / f"{fault}.tiff"
        return pyramid.write_tiff(path, simulate_slide(seed=6, label="NILM", **SIZE, defect=fault)).read_bytes()

    leads_out = MRXS.format(index="Index.dat", data="../../../secret.dat").encode()
    uploads = {
        "truncated": {"content": sound[:-100_000]},
        "a bomb": {"content": one_image(width=10**9, height=10**9)},
        "no slide": {"content": b"MZ\x90\0" + bytes(5_000), "name": "slide.svs"},
        "mrxs": {
            "content": jpeg(painted_field(32, 32)),
            "name": "slide.mrxs",
            "companions": {"slide/Slidedat.ini": leads_out, "slide/Index.dat": b"01.02"},
        },
        "another hash": {"content": sound, "sha256": "0" * 64},
        "no scale": {"content": faulty("no_scale")},
        "glass": {"content": faulty("all_background")},
        "blurred": {"content": faulty("out_of_focus")},
        "under pen": {"content": faulty("pen_marks")},
        "another stain": {"content": faulty("wrong_stain")},
        "another organ": {"content": CMU.read_bytes(), "name": "colon.svs"},
        "sound": {"content": sound},
        "the same again": {"content": sound},
        "named otherwise": {"content": sound, "name": "slide.svs"},
    }
    runner = TileRunner(settings)
    jobs = SlideWorkflow(settings, runner.infer)
    names = {store_upload(settings, jobs.engine, **columns): name for name, columns in uploads.items()}
    (settings.paths.slides / "secret.dat").write_bytes(b"secret")
    jobs.start()
    try:
        jobs.enqueue_new()
        for slide in names:
            jobs.wait_for_slide(slide, 240)
        yield {name: slide_store.get(jobs.engine, slide) for slide, name in names.items()}
    finally:
        jobs.stop()
        runner.close()


@pytest.mark.parametrize(
    ("name", "state", "code"),
    [
        ("truncated", "failed", "truncated"),
        ("a bomb", "failed", "pixel_bomb"),
        ("no slide", "failed", "unknown_format"),
        ("mrxs", "failed", "outside"),
        ("another hash", "failed", "malformed"),
        ("no scale", "failed", "no_scale"),
        ("glass", "quality_failed", "all_background"),
        ("blurred", "quality_failed", "out_of_focus"),
        ("under pen", "quality_failed", "pen_marks"),
        ("another stain", "abstained", "out_of_distribution"),
        ("another organ", "abstained", "out_of_distribution"),
    ],
)
def test_a_bad_slide_ends_in_its_state_with_a_reason_in_both_languages(finished, name, state, code):
    row = finished[name]
    assert (row["state"], row["code"]) == (state, code)
    assert all(reason["en"] and reason["zh"] for reason in row["reasons"])


def test_the_good_slides_are_read(finished):
    row = finished["sound"]
    assert "out_of_distribution" not in [reason["code"] for reason in row["reasons"]]
    assert row["state"] in ("ready", "abstained")
    assert row["reading"]["tiles"]["read"] > 50


def without(reading, *names):
    return {name: value for name, value in reading.items() if name not in ("slide_id", "created", *names)}


def test_the_same_slide_has_the_same_reading_and_a_wrong_name_is_noted(finished):
    first, again, misnamed = (finished[name]["reading"] for name in ("sound", "the same again", "named otherwise"))
    assert without(first) == without(again)
    assert without(first, "slide") == without(misnamed, "slide")
    assert "named_otherwise" in misnamed["slide"]["notes"]


# --- a full disk

WORKER = """
import time
from serving import settings
from serving.pathology.workflow.workflow import SlideWorkflow
from serving.pathology.workflow.runner import TileRunner
runner = TileRunner(settings.load_settings())
def infer(batch):
    time.sleep(0.1)  # slow enough for the disk to fill up during the reading
    return runner.infer(batch)
jobs = SlideWorkflow(settings.load_settings(), infer)
jobs.start()
while True:
    jobs.enqueue_new()
    time.sleep(0.1)
"""


@pytest.fixture
def small_disk(tmp_path, keys):
    """(settings, environment, a command prefix under which the slides' folder is a disk of 8 MB)."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: user namespaces are disabled")
    publish(tmp_path / "bundles", keys, policy=POLICY.read_text().replace("batch_size = 256", "batch_size = 16"))
    environ = {  # always SQLite: the socket of PostgreSQL is not reachable from the namespace
        "YUHENG_HOME": str(tmp_path),
        "YUHENG_BUNDLES": str(tmp_path / "bundles"),
        "YUHENG_PUBLIC_KEY": str(keys[1]),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    settings = settings_module.load_settings(environ=environ)
    settings.paths.slides.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size=8m tmpfs {settings.paths.slides} && exec "$@"'
    return settings, os.environ | environ, ["unshare", "-Urm", "sh", "-c", mount, "sh"]


def fill(path):
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass


def test_a_full_disk_pauses_a_reading_and_nothing_is_lost(small_disk, sound, tmp_path):
    settings, environ, prefix = small_disk
    engine = open_store(settings.store_location, 10.0)
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen([*prefix, sys.executable, "-c", WORKER], cwd=ROOT, env=environ, stderr=log)
    inside = Path(f"/proc/{worker.pid}/root{settings.paths.slides}")  # the small disk in its namespace

    def until(test, seconds=60):
        began = time.monotonic()
        while not (result := test()):
            assert worker.poll() is None, (tmp_path / "log").read_text()[-2000:]
            assert time.monotonic() - began < seconds, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.02)
        return result

    def row(slide):
        return slide_store.get(engine, slide)

    try:
        until(lambda: os.path.ismount(inside) or settings.paths.jobs.exists())
        there = settings.model_copy(update={"paths": settings.paths.model_copy(update={"slides": inside})})
        slide = store_upload(there, engine, sound)
        until(lambda: row(slide)["done"] >= 16)
        fill(inside / "filler")
        until(lambda: [e for e in slide_store.events_after(engine, slide) if e["detail"].get("code") == "no_space"])
        assert row(slide)["state"] in ("inferring", "aggregating")
        (inside / "filler").unlink()
        until(lambda: row(slide)["state"] in DONE)
        again = store_upload(there, engine, sound)
        until(lambda: row(again)["state"] in DONE)
        assert without(row(slide)["reading"]) == without(row(again)["reading"])
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        engine.dispose()
