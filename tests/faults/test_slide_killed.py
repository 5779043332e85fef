"""After a process is killed during a reading, the slide resumes and its reading equals that of an unbroken run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from datasets.slides.simulate import pyramid
from datasets.slides.simulate.slides import simulate_slide
from models import bundle
from serving import settings as settings_module
from serving.core.db.engine import open_store
from serving.core.identifiers import new_id
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from tests import postgres
from tests.paths import ROOT
from tests.serving.pathology.slide_bundles import POLICY, publish

DONE = ("ready", "abstained", "failed", "quality_failed")
BATCH = 8  # tiles; small, so that even a small slide has many batches
VICTIMS = {  # process to kill -> text in its command line
    "jobs": "--service-name SlideJobs",
    "runner": "--service-name SlideRunner",
    "sandbox": "datasets.slides.sandbox",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with keys, a signed model with small batches, and a slide."""
    home = tmp_path_factory.mktemp("home")
    keys = bundle.create_signing_keys(home / "var/keys")
    publish(home / "var/bundles", keys, policy=POLICY.read_text().replace("batch_size = 256", f"batch_size = {BATCH}"))
    pyramid.write_tiff(home / "slide.tiff", simulate_slide(seed=5, label="HSIL", columns=8, rows=6))
    return home


class Clinic:
    """The process that reads slides, and its store."""

    def __init__(self, home: Path):
        self.environ = {"YUHENG_HOME": str(home), **postgres.store(home)}
        self.settings = settings_module.load_settings(environ=self.environ)
        self.engine = open_store(self.settings.store_location, 5.0)
        self.home, self.process = home, None

    def start(self):
        with open(self.home / "slides.log", "a") as log:
            environment = os.environ | self.environ
            command = [sys.executable, "-m", "serving", "serve-slides", "--port", "0"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def stop(self, how=signal.SIGTERM):
        if self.process is not None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(how)
            self.process.wait(30)
            psutil.wait_procs(children, timeout=10)

    def send(self):
        slide = new_id()
        path = storage.quarantine_path(self.settings.paths.slides, slide, "slide.tiff")
        storage.create_empty(path)
        shutil.copyfile(self.home / "slide.tiff", path)
        fields = {"name": "slide.tiff", "sha256": storage.sha256_of(path).hexdigest(), "accession": slide}
        slide_store.create(self.engine, slide, "verifying", **fields, specimen="cervical_cytology", request={})
        return slide

    def until(self, slide, test, seconds=90):
        began = time.monotonic()
        while not test(row := slide_store.get(self.engine, slide)):
            log = (self.home / "slides.log").read_text()[-3000:]
            assert time.monotonic() - began < seconds, f"{row['state']} {row['done']}/{row['total']}\n{log}"
            time.sleep(0.02)
        return row

    def end(self, slide, seconds=90):
        row = self.until(slide, lambda row: row["state"] in DONE, seconds)
        return {
            name: value for name, value in row["reading"].items() if name not in ("slide_id", "accession", "created")
        }

    def kill(self, victim):
        victims = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if VICTIMS[victim] in " ".join(child.cmdline())
        ]
        assert victims, f"no process of {victim}"
        for process in victims:
            process.kill()

    def batches(self, slide):
        """Name -> modification time of each batch that was written."""
        folder = self.settings.paths.slides / slide / "batches"
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("0*.npz")} if folder.exists() else {}


@pytest.fixture
def clinic(home):
    clinic = Clinic(home)
    yield clinic
    clinic.stop()
    clinic.engine.dispose()


@pytest.fixture(scope="module")
def unbroken(home):
    clinic = Clinic(home)
    clinic.start()
    try:
        return clinic.end(clinic.send())
    finally:
        clinic.stop()
        clinic.engine.dispose()


def test_a_killed_worker_resumes_without_repeating_a_written_batch(clinic, unbroken):
    clinic.start()
    slide = clinic.send()
    clinic.until(slide, lambda row: row["done"] >= 3 * BATCH)
    clinic.kill("jobs")
    written = clinic.batches(slide)
    assert clinic.end(slide) == unbroken
    assert len(written) >= 3
    events = slide_store.events_after(clinic.engine, slide)
    done = [event["detail"]["done"] for event in events if event["kind"] == "progress"]
    assert done == sorted(set(done))  # each batch is reported once


@pytest.mark.slow
@pytest.mark.parametrize("victim", [*VICTIMS])
@pytest.mark.parametrize("seed", range(3))
def test_the_reading_is_the_same_whatever_is_killed_and_when(clinic, unbroken, victim, seed):
    share = random.Random(f"{victim}{seed}").random()
    clinic.start()
    slide = clinic.send()
    clinic.until(slide, lambda row: row["total"] and row["done"] >= share * row["total"] * 0.8)
    clinic.kill(victim)
    assert clinic.end(slide) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("state", ["verifying", "deidentified", "queued", "inferring", "aggregating"])
def test_after_killing_all_processes_in_any_state_the_reading_is_the_same(clinic, unbroken, state):
    clinic.start()
    slide = clinic.send()
    order = ["verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating", *DONE]
    clinic.until(slide, lambda row: order.index(row["state"]) >= order.index(state))
    children = psutil.Process(clinic.process.pid).children(recursive=True)
    for process in (psutil.Process(clinic.process.pid), *children):
        process.kill()
    clinic.process.wait(10)
    clinic.start()
    began = time.monotonic()
    assert clinic.end(slide) == unbroken
    assert time.monotonic() - began < 60
