"""The durable way of a slide: DBOS workflows whose steps are those of serving/pathology/workflow/steps.py.

jobs = Jobs(settings, read)      # read asks the runner
jobs.start(); jobs.look()        # slides that arrived are begun, those that were broken off go on by themselves
jobs.stop()

The workflow's id is the slide's, so no slide is read twice at once. What DBOS keeps of a step is a few numbers as JSON;
what a step made lies in the slide's folder. A worker killed at any place goes on after the last batch that was written:
in the next process here, or, where several share a PostgreSQL and the slides' folder, in another that found it dead.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import sqlalchemy as sa
from dbos import DBOS, Serializer, SetWorkflowID

from models.bundle import Bundle, BundleError, load_bundle
from models.pathology.card import SlideCard
from models.pathology.policy import ReadingPolicy
from serving.core.billing.prices import Prices
from serving.core.db.engine import open_store
from serving.core.db.errors import StoreUnavailableError
from serving.decisions.products.base import slide_model_loader
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import UNFINISHED, InvalidTransitionError, SlideNotFoundError, WorkerEvictedError
from serving.pathology.workflow import steps
from serving.pathology.workflow.heartbeat import Heartbeat
from serving.pathology.workflow.prefetch import Prefetcher
from serving.pathology.workflow.steps import InferTiles, StepContext
from serving.settings import Settings

logger = logging.getLogger("yuheng.jobs")

WORKFLOW_VERSION = (
    "slides-1"  # of the workflow: another number where its steps change, and what was begun is ended by its own
)
MAX_BACKOFF = 5.0  # seconds between two tries of what will not go
MAX_ATTEMPTS = 3  # of a step that fails for no reason that is known to pass
SHUTDOWN_GRACE = 10.0  # seconds that steps under way are given when the process stops
MAX_RECOVERIES = 100  # to read a slide whose reading is broken off again and again
PROCESSING_STATES = tuple(state for state in UNFINISHED if state != "uploading")
FAILED_WORKFLOW_STATES = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
T = TypeVar("T")

RETRY_REASONS = {  # code -> what a slide's history says while it waits
    "no_space": (
        "The disk takes no more; it is tried again by itself. Free the disk.",
        "磁盘空间不足；将自动重试。请清理磁盘。",
    ),
    "reader_away": (
        "The reader of slides does not answer; it is tried again by itself.",
        "阅片进程无响应；将自动重试。",
    ),
    "store_away": ("The store does not answer; it is tried again by itself.", "存储无响应；将自动重试。"),
    "no_model": (
        "No model that reads slides serves yet. Train or publish one.",
        "尚无可阅片的模型。请训练或发布模型。",
    ),
}
NO_MODEL_REASON = {
    "code": "no_model",
    "en": "No model here reads {specimen}; a pathologist reads this slide alone. Publish a model for it.",
    "zh": "此处没有可阅{specimen}的模型；该切片由病理医生阅片。请发布相应模型。",
}
INTERNAL_ERROR_REASON = {
    "code": "internal",
    "en": "Reading the slide failed ({found}). What it was stands in the worker's log under the slide's id.",
    "zh": "阅片出错（{found}）。详情见工作进程日志中的切片编号。",
}


class JsonSerializer(Serializer):
    """What DBOS stores: JSON, never pickle; an error is kept as its words."""

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
    raise TypeError(f"{type(value).__name__} is no JSON; a step returns numbers, words, lists and dicts")


class RetryLaterError(Exception):
    """What is needed is not there yet. `code` is a key of WAITING."""

    def __init__(self, code: str):
        self.code = code
        super().__init__(code)


class ShutdownRequestedError(BaseException):
    """The process stops. DBOS takes no note of what is no Exception, so the slide goes on in the next process."""


class SlideWorkflow:
    """One in a process: DBOS is one. Made, started and stopped on one thread.

    on_given_up: when another process took this one for dead, which then must end: all it began is the other's.
    """

    def __init__(self, settings: Settings, infer: InferTiles, on_evicted: Callable[[], None] | None = None):
        self.settings = settings
        config = settings.reader
        self.engine = open_store(settings.store_location, max(settings.store.lock_timeout_seconds, 10.0))
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
            self.heartbeat.worker_id,
            self.prefetcher.prefetch,
            prices,
        )
        self.models = slide_model_loader(settings)
        self._bundles: dict[str, Bundle[SlideCard]] = {}
        self._enqueued: set[str] = set()
        self._has_enqueued = False
        self._stop = threading.Event()
        self._running_steps = 0
        self._steps_done = threading.Condition()

    def start(self) -> None:
        """Opens the jobs' store; what was broken off goes on."""
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
            return self.run_step(name, slide_id, args)

        self._workflow, self._step = read_slide, run_step
        self.models.load_all()
        self.heartbeat.register()  # before any slide is taken: who takes one must be known to live
        DBOS.launch()
        concurrency = self.settings.reader.max_concurrent_slides
        self.queue = DBOS.register_queue("slides", worker_concurrency=concurrency, polling_interval_sec=0.5)
        self.heartbeat.start()

    def stop(self) -> None:
        """After the steps under way, for which it waits a little; the slides go on in the next process."""
        self._stop.set()
        with self._steps_done:
            self._steps_done.wait_for(lambda: not self._running_steps, SHUTDOWN_GRACE)
        DBOS.destroy()
        self.prefetcher.close()
        self.heartbeat.stop()
        self.engine.dispose()

    def enqueue_new(self) -> int:
        """Begin what arrived; the number of slides begun. The first look finds all that is unfinished: a slide whose
        workflow is known is not begun twice, and one whose workflow was lost is not left behind."""
        rows = slide_store.in_state(
            self.engine, *(("verifying",) if self._has_enqueued else PROCESSING_STATES), limit=1_000
        )
        self._has_enqueued = True
        slide_ids = [row["id"] for row in rows if row["id"] not in self._enqueued]
        for slide_id in slide_ids:
            with SetWorkflowID(slide_id):
                self.queue.enqueue(self._workflow, slide_id)
            self._enqueued.add(slide_id)
        return len(slide_ids)

    def _recover_slides(self, alive: set[str]) -> None:
        """Slides of processes that live no more go on; one that ended without a word is told as failed."""
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        dead_workers = {str(workflow.executor_id) for workflow in pending} - alive
        if dead_workers:
            DBOS._recover_pending_workflows(sorted(dead_workers))
        slide_ids = [row["id"] for row in slide_store.in_state(self.engine, *PROCESSING_STATES, limit=1_000)]
        failed = (
            DBOS.list_workflows(workflow_ids=slide_ids, status=list(FAILED_WORKFLOW_STATES), load_input=False)
            if slide_ids
            else []
        )
        for workflow in failed:
            self._fail_slide(
                workflow.workflow_id, "workflow", workflow.error or RuntimeError(f"DBOS says {workflow.status}")
            )

    def _handle_eviction(self) -> None:
        logger.critical("worker %s was taken for dead; it ends, and another has its slides", self.heartbeat.worker_id)
        self.on_evicted()

    def wait_for_slide(self, slide_id: str, seconds: float) -> None:
        """Until the slide's workflow has ended. Raises TimeoutError."""
        started = time.monotonic()
        while DBOS.retrieve_workflow(slide_id).get_status().status in ("PENDING", "ENQUEUED", "DELAYED"):
            if time.monotonic() - started > seconds:
                raise TimeoutError(f"slide {slide_id} is still under way after {seconds:g} s")
            time.sleep(0.1)

    # --- one slide

    def process_slide(self, slide_id: str) -> str:
        """The workflow. The state in which it leaves the slide, which then may be a person's."""
        for name in ("verify", "deidentify"):
            if not self._step(name, slide_id, []):
                return "ended"
        model_ref = self._step("choose", slide_id, [])
        if not model_ref or not self._step("quality", slide_id, model_ref):
            return "ended"
        ends = self._step("begin", slide_id, model_ref)
        if ends is None:
            return "ended"
        stage = read = 0
        for stage, end_ in enumerate(ends):
            for number in range(read, end_):
                if not self._step("infer", slide_id, [*model_ref, number]):
                    return "ended"
            read = end_
            if stage + 1 < len(ends) and self._step("settled", slide_id, [*model_ref, stage]):
                break
        return str(self._step("aggregate", slide_id, [*model_ref, stage]))

    def run_step(self, name: str, slide_id: str, args: list[Any]) -> Any:
        """One step, patiently: what a full disk or a reader that is away stops goes on once they are there again."""
        started, pause, noted_code, attempts = time.monotonic(), 0.5, "", 0
        while not self._stop.is_set():
            try:
                with self._track_step():
                    return self._dispatch(name, slide_id, args)
            except (InvalidTransitionError, SlideNotFoundError) as error:  # cancelled meanwhile, or taken out
                logger.info("slide %s: %s ends: %s", slide_id, name, error)
                return None
            except WorkerEvictedError as error:
                self._handle_eviction()
                raise ShutdownRequestedError from error
            except Exception as error:
                if self._stop.is_set():  # the runner and the store may have been stopped before us
                    break
                code, attempts = _retry_reason(error), attempts + 1
                expired = time.monotonic() - started > self.settings.reader.retry_window_seconds
                if expired or (code is None and attempts >= MAX_ATTEMPTS):
                    return self._fail_slide(slide_id, name, error)
                logger.warning("slide %s: %s is tried again (%s)", slide_id, name, code or "unforeseen", exc_info=error)
                if code is not None:
                    noted_code = self._add_wait_event(slide_id, code, noted_code)
            self._stop.wait(pause)
            pause = min(2 * pause, MAX_BACKOFF)
        raise ShutdownRequestedError

    @contextmanager
    def _track_step(self) -> Iterator[None]:
        with self._steps_done:
            self._running_steps += 1
        try:
            yield
        finally:
            with self._steps_done:
                self._running_steps -= 1
                self._steps_done.notify_all()

    def _dispatch(self, name: str, slide_id: str, args: list[Any]) -> Any:
        handlers: dict[str, Callable[[], Any]] = {
            "verify": lambda: steps.verify_file(self.context, slide_id),
            "deidentify": lambda: steps.deidentify_file(self.context, slide_id),
            "choose": lambda: self._select_model(slide_id),
            "quality": lambda: steps.check_quality(self.context, slide_id, self._load_bundle(args)),
            "begin": lambda: steps.begin_inference(self.context, slide_id, self._batch_size(args)),
            "infer": lambda: steps.infer_batch(
                self.context, slide_id, self._load_bundle(args), args[3], self._batch_size(args)
            ),
            "settled": lambda: steps.can_stop_early(
                self.context, slide_id, self._load_bundle(args), self._batch_size(args), args[3]
            ),
            "aggregate": lambda: steps.aggregate_slide(
                self.context, slide_id, self._load_bundle(args), self._batch_size(args), args[3]
            ),
        }
        return handlers[name]()

    def _select_model(self, slide_id: str) -> list[str] | None:
        """[model, version, digest] of what reads the slide from here to its end; None where none may."""
        row = slide_store.get(self.engine, slide_id)
        if row is None:
            raise SlideNotFoundError(slide_id)
        self.models.load_all()
        for bundle in self.models.deployed.values():
            if row["specimen"] in bundle.card.specimens:
                self._bundles[bundle.digest] = bundle
                return [bundle.card.model, bundle.card.version, bundle.digest]
        if not self.models.deployed:
            raise RetryLaterError("no_model")
        reason = {name: text.format(specimen=row["specimen"]) for name, text in NO_MODEL_REASON.items()}
        self.context.transition(slide_id, "failed", reasons=[reason])
        return None

    def _load_bundle(self, args: list[Any]) -> Bundle[SlideCard]:
        model, version, digest = args[:3]
        if digest not in self._bundles:
            bundle = load_bundle(
                self.settings.paths.bundles / model / version, self.settings.paths.public_key, SlideCard
            )
            if bundle.digest != digest:
                raise BundleError(f"{model} {version} is not the bundle that the slide was begun with. Put it back.")
            self._bundles[digest] = bundle
        return self._bundles[digest]

    def _batch_size(self, args: list[Any]) -> int:
        return ReadingPolicy.load(self._load_bundle(args).policy).reading.batch_size

    def _add_wait_event(self, slide_id: str, code: str, noted_code: str) -> str:
        """Once in the slide's history, however long it waits."""
        if code != noted_code:
            en, zh = RETRY_REASONS[code]
            try:
                slide_store.add_event(self.engine, slide_id, {"code": code, "en": en, "zh": zh})
            except StoreUnavailableError as error:
                logger.warning("slide %s: its history cannot be written either: %s", slide_id, error)
                return noted_code
        return code

    def _fail_slide(self, slide_id: str, step_name: str, error: BaseException) -> None:
        logger.error("slide %s: %s failed", slide_id, step_name, exc_info=error)
        actual = f"{step_name}: {type(error).__name__}"
        reason = {key: text.format(found=actual) for key, text in INTERNAL_ERROR_REASON.items()}
        self.context.transition(slide_id, "failed", reasons=[reason])


def exit_process() -> None:
    """The process, at once: nothing that it still holds may be written."""
    os._exit(70)


def _retry_reason(error: BaseException) -> str | None:
    """Why it may go better later; None where it will not."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RetryLaterError):
            return cause.code
        if isinstance(cause, StoreUnavailableError):
            return "no_space" if cause.reason == "full" else "store_away"
        if isinstance(cause, sa.exc.OperationalError):
            return "store_away"
        if isinstance(cause, httpx.TransportError):
            return "reader_away"
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return "no_space"
        cause = cause.__cause__
    return None
