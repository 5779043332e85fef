"""Take slides through their steps durably, as DBOS workflows.

workflow = SlideWorkflow(settings, infer)           # `infer` calls the tile runner
workflow.start(); workflow.enqueue_new()            # begins new slides; interrupted ones resume by themselves
workflow.stop()

A workflow has its slide's id, so no slide is read twice at once; a slide whose scale a person had to confirm has a
second one, after the first has ended. DBOS stores a few numbers of each step as JSON; the
step's results are in the slide's folder. After a crash at any point a slide resumes after the last batch written: in
the next process on this machine, or, if several share a PostgreSQL and the slides' folder, in another one that has
found this one dead.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from dbos import DBOS, Serializer, SetWorkflowID

from serving.core.audit.authenticator import open_log_store
from serving.core.billing.prices import Prices
from serving.pathology.slides import scale
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import UNFINISHED
from serving.pathology.workflow.executor import StepExecutor
from serving.pathology.workflow.heartbeat import Heartbeat
from serving.pathology.workflow.prefetch import Prefetcher
from serving.pathology.workflow.step_context import InferTiles, StepContext
from serving.privacy.subjects.vault import open_vault
from serving.settings import Settings

logger = logging.getLogger("yuheng.jobs")

# Raised when the steps change: a slide under way is finished by the version that began it.
WORKFLOW_VERSION = "slides-2"
MAX_RECOVERIES = 100  # of a slide whose reading is interrupted again and again
PROCESSING_STATES = tuple(state for state in UNFINISHED if state not in ("uploading", scale.WAITING_STATE))
CONFIRMED_SUFFIX = ".confirmed"  # of the workflow that begins when a person has confirmed the slide's scale
FAILED_WORKFLOW_STATES = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


class JsonSerializer(Serializer):
    """Makes DBOS store JSON instead of pickles; of an error the type and message are stored."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=_encode_error)

    def deserialize(self, serialized_data: str) -> Any:
        value = json.loads(serialized_data)
        return RuntimeError(value["error"]) if isinstance(value, dict) and set(value) == {"error"} else value

    def name(self) -> str:
        return "json"


def _encode_error(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {"error": f"{type(value).__name__}: {value}"}
    raise TypeError(
        f"{type(value).__name__} cannot be stored as JSON; a step must return numbers, strings, lists or dicts"
    )


class SlideWorkflow:
    """One per process, as DBOS is; made, started and stopped on the same thread.

    on_evicted: called when another process has evicted this one. The process must then end, because its slides belong
    to the other; by default it exits.
    """

    def __init__(self, settings: Settings, infer: InferTiles, on_evicted: Callable[[], None] | None = None):
        self.settings = settings
        config = settings.reader
        self.engine = open_log_store(settings, max(settings.store.lock_timeout_seconds, 10.0))
        self.heartbeat = Heartbeat(
            self.engine,
            config.heartbeat_interval_seconds,
            config.heartbeat_timeout_seconds,
            self._recover_slides,
            self._handle_eviction,
        )
        self.on_evicted = on_evicted or exit_process
        self.prefetcher = Prefetcher(infer, config.max_concurrent_slides)
        prices = Prices.load(settings.paths.prices)
        self.context = StepContext(
            self.engine,
            settings.paths.slides,
            self.prefetcher,
            open_vault(settings).slide_key,
            self.heartbeat.worker_id,
            self.prefetcher.prefetch,
            prices,
        )
        self.executor = StepExecutor(settings, self.context, self._handle_eviction)
        self._enqueued: set[str] = set()
        self._has_enqueued = False

    def start(self) -> None:
        """Launch DBOS on its own database; interrupted slides resume."""
        url = os.environ.get("YUHENG_JOBS_URL") or f"sqlite:///{self.settings.paths.jobs}"
        if url.startswith("sqlite"):
            self.settings.paths.jobs.parent.mkdir(parents=True, exist_ok=True)
        for name in ("dbos", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        DBOS(
            config={
                "name": "yuheng",
                "system_database_url": url,
                "application_version": WORKFLOW_VERSION,
                "executor_id": self.heartbeat.worker_id,
                "serializer": JsonSerializer(),
                "enable_otlp": False,
                "log_level": "WARNING",
            }
        )

        @DBOS.workflow(name="read_slide", max_recovery_attempts=MAX_RECOVERIES)
        def read_slide(slide_id: str) -> str:
            return self.process_slide(slide_id)

        @DBOS.step(name="step")
        def run_step(name: str, slide_id: str, args: list[Any]) -> Any:
            return self.executor.run(name, slide_id, args)

        self._workflow, self._step = read_slide, run_step
        self.executor.models.load_all()
        self.heartbeat.register()  # before any slide is taken, so that others know this worker is alive
        DBOS.launch()
        concurrency = self.settings.reader.max_concurrent_slides
        self.queue = DBOS.register_queue("slides", worker_concurrency=concurrency, polling_interval_sec=0.5)
        self.heartbeat.start()

    def stop(self) -> None:
        """Stop after the running steps, or SHUTDOWN_GRACE seconds; the slides resume in the next process."""
        self.executor.stop()
        DBOS.destroy()
        self.prefetcher.close()
        self.heartbeat.stop()
        self.engine.dispose()

    def enqueue_new(self) -> int:
        """Begin new slides; returns how many.

        The first call takes every unfinished slide, so that one whose workflow was lost is not left behind; DBOS does
        not begin a known workflow a second time.
        """
        rows = slide_store.in_state(
            self.engine, *(("verifying",) if self._has_enqueued else PROCESSING_STATES), limit=1_000
        )
        self._has_enqueued = True
        slide_ids = {workflow_id(row): row["id"] for row in rows if workflow_id(row) not in self._enqueued}
        for identifier, slide_id in slide_ids.items():
            with SetWorkflowID(identifier):
                self.queue.enqueue(self._workflow, slide_id)
            self._enqueued.add(identifier)
        return len(slide_ids)

    def _recover_slides(self, alive: set[str]) -> None:
        """Resume the slides of dead workers, and fail those whose workflow DBOS has given up."""
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        dead_workers = {str(workflow.executor_id) for workflow in pending} - alive
        if dead_workers:
            DBOS._recover_pending_workflows(sorted(dead_workers))
        workflow_ids = [workflow_id(row) for row in slide_store.in_state(self.engine, *PROCESSING_STATES, limit=1_000)]
        failed = (
            DBOS.list_workflows(workflow_ids=workflow_ids, status=list(FAILED_WORKFLOW_STATES), load_input=False)
            if workflow_ids
            else []
        )
        for workflow in failed:
            self.executor.fail_slide(
                workflow.workflow_id.removesuffix(CONFIRMED_SUFFIX),
                "workflow",
                workflow.error or RuntimeError(f"DBOS says {workflow.status}"),
            )

    def _handle_eviction(self) -> None:
        logger.critical("worker %s was evicted as dead; it ends, and another has its slides", self.heartbeat.worker_id)
        self.on_evicted()

    def wait_for_slide(self, slide_id: str, seconds: float) -> None:
        """Block until the slide's workflow has ended. Raises TimeoutError."""
        started = time.monotonic()
        row = slide_store.get(self.engine, slide_id)
        identifier = slide_id if row is None else workflow_id(row)
        while DBOS.retrieve_workflow(identifier).get_status().status in ("PENDING", "ENQUEUED", "DELAYED"):
            if time.monotonic() - started > seconds:
                raise TimeoutError(f"slide {slide_id} has not ended after {seconds:g} s")
            time.sleep(0.1)

    def process_slide(self, slide_id: str) -> str:
        """Run all steps; returns the state in which they leave the slide, or "ended" if one of them ended it early."""
        for name in ("verify", "deidentify"):
            if not self._step(name, slide_id, []):
                return "ended"
        model_ref = self._step("choose", slide_id, [])
        if not model_ref or not self._step("quality", slide_id, model_ref):
            return "ended"
        batch_count = self._step("begin", slide_id, model_ref)
        if batch_count is None:
            return "ended"
        for batch_number in range(batch_count):
            if not self._step("infer", slide_id, [*model_ref, batch_number]):
                return "ended"
        return str(self._step("aggregate", slide_id, model_ref))


def workflow_id(row: slide_store.Row) -> str:
    return str(row["id"]) + (CONFIRMED_SUFFIX if scale.is_confirmed(row) else "")


def exit_process() -> None:
    """End the process at once, so that it writes nothing more."""
    os._exit(70)
