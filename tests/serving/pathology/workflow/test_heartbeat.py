"""Several processes that read slides: dead ones are evicted, their slides resume, and they can change nothing more."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from datasets.slides.simulate import pyramid
from datasets.slides.simulate.slides import simulate_slide
from serving import settings as settings_module
from serving.core.audit.authenticator import EntryAuthenticator, attach
from serving.core.db.engine import open_store
from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from serving.pathology.slides import workers
from serving.pathology.slides.states import WorkerEvictedError
from serving.pathology.workflow.heartbeat import Heartbeat, host_id, process_start_time
from serving.pathology.workflow.runner import TileRunner
from serving.pathology.workflow.workflow import SlideWorkflow
from tests import postgres as test_postgres
from tests.paths import ROOT
from tests.serving.pathology.arrived_slides import SLOW_WORKER, comparable_fields, create_arrived_slide
from tests.serving.pathology.slide_bundles import POLICY, publish


@pytest.fixture
def postgres():
    """URLs of two empty databases, for the store and for DBOS."""
    return [test_postgres.database(f"{name}_{new_id()}") for name in ("store", "jobs")]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    url = request.getfixturevalue("postgres")[0] if request.param == "postgresql" else tmp_path / "store.db"
    engine = open_store(url, 5.0)
    attach(engine, EntryAuthenticator(b"k" * 32, "test"))
    yield engine
    engine.dispose()


def test_an_evicted_worker_can_change_neither_state_nor_progress(store):
    worker, slide = new_id(), new_id()
    workers.register(store, worker, "here", 1, 1)
    slide_store.create(store, slide, "verifying")
    assert slide_store.transition(store, slide, "deidentified", worker_id=worker)
    assert workers.evict(store, worker)
    for attempt in (
        lambda: slide_store.transition(store, slide, "quality_passed", worker_id=worker),
        lambda: slide_store.record_progress(store, slide, 1, 2, worker_id=worker),
        lambda: workers.heartbeat(store, worker),
    ):
        with pytest.raises(WorkerEvictedError):
            attempt()
    assert slide_store.get(store, slide)["state"] == "deidentified"


def test_only_a_worker_without_heartbeats_is_evicted(store):
    observer = Heartbeat(store, interval=60, timeout=0.3, on_beat=lambda alive: None, on_evicted=lambda: None)
    observer.register()
    for worker in ("beats", "stands"):
        workers.register(store, worker, "another machine", 1, 1)
    assert observer.evict_dead() == {observer.worker_id, "beats", "stands"}
    time.sleep(0.4)
    workers.heartbeat(store, "beats")
    assert observer.evict_dead() == {observer.worker_id, "beats"}
    with pytest.raises(WorkerEvictedError):
        workers.heartbeat(store, "stands")


def test_a_process_of_this_machine_that_has_ended_is_evicted_at_once(store):
    observer = Heartbeat(store, interval=60, timeout=60, on_beat=lambda alive: None, on_evicted=lambda: None)
    observer.register()
    process = subprocess.Popen([sys.executable, "-c", ""])
    start_time = process_start_time(process.pid)
    process.wait()
    workers.register(store, "gone", host_id(), process.pid, start_time)
    workers.register(store, "another with its number", host_id(), os.getpid(), process_start_time(os.getpid()) + 1)
    workers.register(store, "there", host_id(), os.getppid(), process_start_time(os.getppid()))
    assert observer.evict_dead() == {observer.worker_id, "there"}


def test_a_worker_learns_of_its_eviction_at_its_next_beat(store):
    evicted = threading.Event()
    heartbeat = Heartbeat(store, interval=0.05, timeout=60, on_beat=lambda alive: None, on_evicted=evicted.set)
    heartbeat.register()
    heartbeat.start()
    workers.evict(store, heartbeat.worker_id)
    assert evicted.wait(10)
    heartbeat.stop()


# --- complete workflows


@pytest.fixture(scope="module")
def home(tmp_path_factory, keys):
    """A bundle with small batches, and a slide."""
    home = tmp_path_factory.mktemp("home")
    publish(home / "bundles", keys, policy=POLICY.read_text().replace("batch_size = 256", "batch_size = 8"))
    pyramid.write_tiff(home / "slide.tiff", simulate_slide(seed=5, label="HSIL", columns=8, rows=6))
    return home


@pytest.fixture
def shared(home, keys, tmp_path, postgres, monkeypatch):
    """The environment that all workers share."""
    environ = {
        "YUHENG_HOME": str(tmp_path),
        "YUHENG_BUNDLES": str(home / "bundles"),
        "YUHENG_PUBLIC_KEY": str(keys[1]),
        "YUHENG_STORE_URL": postgres[0],
        "YUHENG_JOBS_URL": postgres[1],
        "YUHENG_READER_HEARTBEAT_INTERVAL_SECONDS": "0.2",
        "YUHENG_READER_HEARTBEAT_TIMEOUT_SECONDS": "3",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return environ


@pytest.fixture
def workflow(shared):
    """The workflow of this process, not started yet."""
    settings = settings_module.load_settings()
    runner = TileRunner(settings)
    workflow = SlideWorkflow(settings, runner.infer, on_evicted=lambda: None)
    yield workflow
    workflow.stop()
    runner.close()


def create_slide(workflow, home):
    content = (home / "slide.tiff").read_bytes()
    return create_arrived_slide(workflow.engine, workflow.settings.paths.slides, content)


def wait_for_row(workflow, slide_id, condition, seconds=60):
    started = time.monotonic()
    while not condition(row := slide_store.get(workflow.engine, slide_id)):
        assert time.monotonic() - started < seconds, row
        time.sleep(0.02)
    return row


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_another_worker_resumes_the_slide_of_a_dead_or_suspended_one(workflow, home, shared, signal_number):
    slide = create_slide(workflow, home)
    with open(home / "worker.log", "ab") as log:
        other = subprocess.Popen([sys.executable, "-c", SLOW_WORKER], cwd=ROOT, env=os.environ | shared, stderr=log)
    try:
        wait_for_row(workflow, slide, lambda row: row["done"] >= 16)
        other.send_signal(signal_number)
        if signal_number == signal.SIGKILL:
            other.wait()
        workflow.start()
        row = wait_for_row(workflow, slide, lambda row: row["state"] in ("ready", "abstained", "failed"))
        events = slide_store.events_after(workflow.engine, slide)
        done = [event["detail"]["done"] for event in events if event["kind"] == "progress"]
        assert done == sorted(set(done))
        if signal_number == signal.SIGSTOP:
            other.send_signal(signal.SIGCONT)
            assert other.wait(30) == 70, (home / "worker.log").read_text()[-2000:]
            assert slide_store.get(workflow.engine, slide) == row
    finally:
        other.kill()
        other.wait()
    again = create_slide(workflow, home)
    workflow.enqueue_new()
    unbroken = wait_for_row(workflow, again, lambda row: row["state"] in ("ready", "abstained"))
    assert comparable_fields(unbroken["reading"]) == comparable_fields(row["reading"])


def test_a_stopped_worker_leaves_its_slide_to_the_next(home, shared):
    settings, started = settings_module.load_settings(), threading.Event()

    def fail_to_infer(request):
        started.set()
        time.sleep(0.05)
        raise OSError(28, "No space left on device")

    stopped = SlideWorkflow(settings, fail_to_infer)
    slide = create_slide(stopped, home)
    stopped.start()
    stopped.enqueue_new()
    assert started.wait(30)
    stopped.stop()
    runner = TileRunner(settings)
    following = SlideWorkflow(settings, runner.infer)
    assert slide_store.get(following.engine, slide)["state"] == "inferring"
    following.start()
    try:
        wait_for_row(following, slide, lambda row: row["state"] in ("ready", "abstained"))
    finally:
        following.stop()
        runner.close()
