"""Processes are killed while a slide is read: it resumes by itself, with the reading of an uninterrupted run."""

import os
import random
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
from serving.core.audit.authenticator import open_log_store
from serving.pathology.slides import store as slide_store
from tests import postgres
from tests.paths import ROOT
from tests.serving.pathology.arrived_slides import comparable_fields, create_arrived_slide
from tests.serving.pathology.slide_bundles import POLICY, publish

FINAL_STATES = ("ready", "abstained", "failed", "quality_failed")
BATCH = 8  # tiles: many checkpoints on a small slide
VICTIMS = {  # process to kill -> a part of its command line
    "jobs": "--service-name SlideJobs",
    "runner": "--service-name SlideRunner",
    "sandbox": "datasets.slides.sandbox",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Keys, a signed model with small batches, a slide."""
    home = tmp_path_factory.mktemp("home")
    keys = bundle.create_signing_keys(home / "var/keys")
    publish(home / "var/bundles", keys, policy=POLICY.read_text().replace("batch_size = 256", f"batch_size = {BATCH}"))
    pyramid.write_tiff(home / "slide.tiff", simulate_slide(seed=5, label="HSIL", columns=8, rows=6))
    return home


class Clinic:
    """Starts, stops and kills the slide service, and looks into its store."""

    def __init__(self, home: Path):
        self.environ = {"YUHENG_HOME": str(home), **postgres.store(home)}
        self.settings = settings_module.load_settings(environ=self.environ)
        self.engine = open_log_store(self.settings, 5.0)
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
        content = (self.home / "slide.tiff").read_bytes()
        return create_arrived_slide(self.engine, self.settings.paths.slides, content)

    def until(self, slide, condition, seconds=90):
        started = time.monotonic()
        while not condition(row := slide_store.get(self.engine, slide)):
            log = (self.home / "slides.log").read_text()[-3000:]
            assert time.monotonic() - started < seconds, f"{row['state']} {row['done']}/{row['total']}\n{log}"
            time.sleep(0.02)
        return row

    def end(self, slide, seconds=90):
        row = self.until(slide, lambda row: row["state"] in FINAL_STATES, seconds)
        return comparable_fields(row["reading"])

    def kill(self, victim):
        processes = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if VICTIMS[victim] in " ".join(child.cmdline())
        ]
        assert processes, f"no process matches {victim}"
        for process in processes:
            process.kill()

    def batches(self, slide):
        """Batch file -> when it was written."""
        folder = self.settings.paths.slides / slide / "batches"
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("0*.npz")} if folder.exists() else {}


@pytest.fixture
def clinic(home):
    clinic_process = Clinic(home)
    yield clinic_process
    clinic_process.stop()
    clinic_process.engine.dispose()


@pytest.fixture(scope="module")
def uninterrupted(home):
    clinic_process = Clinic(home)
    clinic_process.start()
    try:
        return clinic_process.end(clinic_process.send())
    finally:
        clinic_process.stop()
        clinic_process.engine.dispose()


def test_a_killed_worker_resumes_without_repeating_batches(clinic, uninterrupted):
    clinic.start()
    slide = clinic.send()
    clinic.until(slide, lambda row: row["done"] >= 3 * BATCH)
    clinic.kill("jobs")
    written = clinic.batches(slide)
    assert clinic.end(slide) == uninterrupted
    assert len(written) >= 3
    events = slide_store.events_after(clinic.engine, slide)
    done = [event["detail"]["done"] for event in events if event["kind"] == "progress"]
    assert done == sorted(set(done))  # each batch is recorded once


@pytest.mark.slow
@pytest.mark.parametrize("victim", [*VICTIMS])
@pytest.mark.parametrize("seed", range(3))
def test_the_reading_is_the_same_whichever_process_is_killed_and_when(clinic, uninterrupted, victim, seed):
    fraction = random.Random(f"{victim}{seed}").random()
    clinic.start()
    slide = clinic.send()
    clinic.until(slide, lambda row: row["total"] and row["done"] >= fraction * row["total"] * 0.8)
    clinic.kill(victim)
    assert clinic.end(slide) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("state", ["verifying", "deidentified", "queued", "inferring", "aggregating"])
def test_the_reading_is_the_same_after_all_processes_were_killed_in_any_state(clinic, uninterrupted, state):
    clinic.start()
    slide = clinic.send()
    order = ["verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating", *FINAL_STATES]
    clinic.until(slide, lambda row: order.index(row["state"]) >= order.index(state))
    children = psutil.Process(clinic.process.pid).children(recursive=True)
    for process in (psutil.Process(clinic.process.pid), *children):
        process.kill()
    clinic.process.wait(10)
    clinic.start()
    started = time.monotonic()
    assert clinic.end(slide) == uninterrupted
    assert time.monotonic() - started < 60
