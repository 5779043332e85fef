"""Run one step of a slide's workflow, and retry it while the store, the disk or the tile runner is unavailable."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import sqlalchemy as sa

from models.bundle import Bundle, BundleError, load_bundle
from models.pathology.card import SlideCard
from models.pathology.policy import ReadingPolicy
from serving.core.db.errors import StoreUnavailableError
from serving.decisions.products.base import slide_model_loader
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import InvalidTransitionError, SlideNotFoundError, WorkerEvictedError
from serving.pathology.workflow import aggregation, steps
from serving.pathology.workflow.step_context import StepContext
from serving.registry.deployment import DeploymentGuard
from serving.settings import Settings

logger = logging.getLogger("yuheng.jobs")

MAX_BACKOFF = 5.0  # seconds between two attempts
MAX_ATTEMPTS = 3  # of a step that fails for an unforeseen reason
SHUTDOWN_GRACE = 10.0  # seconds that running steps have to end when the process stops

RETRY_REASONS = {  # code -> the note in the slide's history while it waits
    "no_space": (
        "The disk is full; the step is retried automatically. Free disk space.",
        "磁盘空间不足；将自动重试。请清理磁盘。",
    ),
    "reader_away": (
        "The slide reader does not respond; the step is retried automatically.",
        "阅片进程无响应；将自动重试。",
    ),
    "store_away": ("The database does not respond; the step is retried automatically.", "数据库无响应；将自动重试。"),
    "no_model": (
        "No model for reading slides is deployed yet. Train or publish one.",
        "尚未部署可阅片的模型。请训练或发布模型。",
    ),
}
NO_MODEL_REASON = {
    "code": "no_model",
    "en": "No deployed model reads {specimen}; a pathologist must read this slide unaided. Publish a model for it.",
    "zh": "没有已部署的模型可阅{specimen}；该切片须由病理医师独立判读。请发布相应模型。",
}
INTERNAL_ERROR_REASON = {
    "code": "internal",
    "en": "Reading the slide failed ({found}). See the worker's log under the slide's id.",
    "zh": "阅片出错（{found}）。详情请按切片编号查阅工作进程日志。",
}


class RetryLaterError(Exception):
    """Something that the step needs is not there yet. `code` is a key of RETRY_REASONS."""

    def __init__(self, code: str):
        self.code = code
        super().__init__(code)


class ShutdownRequestedError(BaseException):
    """The process is stopping. DBOS records only an Exception, so the slide continues in the next process."""


class StepExecutor:
    """on_evicted: called when a step finds that another process has evicted this worker."""

    def __init__(self, settings: Settings, context: StepContext, on_evicted: Callable[[], None]):
        self.settings, self.context, self.on_evicted = settings, context, on_evicted
        self.models = slide_model_loader(settings)
        self.models.authorise = DeploymentGuard(lambda: context.engine, settings.champion).authorise
        self._bundles: dict[str, Bundle[SlideCard]] = {}  # by digest
        self._stop = threading.Event()
        self._running_steps = 0
        self._steps_done = threading.Condition()

    def stop(self) -> None:
        """Start no further step and no further attempt; wait SHUTDOWN_GRACE seconds for the running ones."""
        self._stop.set()
        with self._steps_done:
            self._steps_done.wait_for(lambda: not self._running_steps, SHUTDOWN_GRACE)

    def run(self, name: str, slide_id: str, args: list[Any]) -> Any:
        """Run the step `name`; None if the slide was cancelled or the step has failed for good, which fails the slide.

        A step that a full disk or an unavailable service interrupts is retried for `retry_window_seconds`. Raises
        ShutdownRequestedError when the process is stopping or this worker was evicted.
        """
        started, backoff, noted_code, attempts = time.monotonic(), 0.5, "", 0
        while not self._stop.is_set():
            try:
                with self._track_step():
                    return self._dispatch(name, slide_id, args)
            except (InvalidTransitionError, SlideNotFoundError) as error:  # cancelled or removed meanwhile
                logger.info("slide %s: %s ends early: %s", slide_id, name, error)
                return None
            except WorkerEvictedError as error:
                self.on_evicted()
                raise ShutdownRequestedError from error
            except Exception as error:
                if self._stop.is_set():  # the runner and the store may have stopped before this process
                    break
                code, attempts = _retry_reason(error), attempts + 1
                expired = time.monotonic() - started > self.settings.reader.retry_window_seconds
                if expired or (code is None and attempts >= MAX_ATTEMPTS):
                    return self.fail_slide(slide_id, name, error)
                logger.warning("slide %s: retrying %s (%s)", slide_id, name, code or "unforeseen", exc_info=error)
                if code is not None:
                    noted_code = self._add_wait_event(slide_id, code, noted_code)
            self._stop.wait(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF)
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
        context = self.context
        handlers: dict[str, Callable[[], Any]] = {
            "verify": lambda: steps.verify_file(context, slide_id),
            "deidentify": lambda: steps.deidentify_file(context, slide_id),
            "choose": lambda: self._select_model(slide_id),
            "quality": lambda: steps.check_quality(context, slide_id, self._load_bundle(args)),
            "begin": lambda: steps.begin_inference(context, slide_id, self._batch_size(args)),
            "infer": lambda: steps.infer_batch(
                context, slide_id, self._load_bundle(args), args[3], self._batch_size(args)
            ),
            "aggregate": lambda: aggregation.aggregate_slide(
                context, slide_id, self._load_bundle(args), self._batch_size(args)
            ),
        }
        return handlers[name]()

    def _select_model(self, slide_id: str) -> list[str] | None:
        """[model, version, digest] of the bundle that reads this slide to its end.

        None, and the slide fails, if no deployed model reads its specimen. Raises RetryLaterError while no slide model
        is deployed at all.
        """
        row = slide_store.get(self.context.engine, slide_id)
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
                raise BundleError(
                    f"{model} {version} is not the bundle that the slide was begun with. Restore that bundle."
                )
            self._bundles[digest] = bundle
        return self._bundles[digest]

    def _batch_size(self, args: list[Any]) -> int:
        return ReadingPolicy.load(self._load_bundle(args).policy).reading.batch_size

    def _add_wait_event(self, slide_id: str, code: str, noted_code: str) -> str:
        """Note once in the slide's history what it waits for; returns the code that is noted."""
        if code != noted_code:
            en, zh = RETRY_REASONS[code]
            try:
                slide_store.add_event(self.context.engine, slide_id, {"code": code, "en": en, "zh": zh})
            except StoreUnavailableError as error:
                logger.warning("slide %s: cannot write its history either: %s", slide_id, error)
                return noted_code
        return code

    def fail_slide(self, slide_id: str, step_name: str, error: BaseException) -> None:
        """Log the error and end the slide as failed."""
        logger.error("slide %s: %s failed", slide_id, step_name, exc_info=error)
        actual = f"{step_name}: {type(error).__name__}"
        reason = {key: text.format(found=actual) for key, text in INTERNAL_ERROR_REASON.items()}
        self.context.transition(slide_id, "failed", reasons=[reason])


def _retry_reason(error: BaseException) -> str | None:
    """The code of a cause that passes by itself; None if there is no such cause."""
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
