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

from models.bundle import Bundle, BundleRefused, load
from models.pathology.card import SlideCard
from models.pathology.policy import ReadingPolicy
from serving.core.billing.prices import Prices
from serving.core.db.engine import StoreUnavailable, open_store
from serving.decisions.products.base import hold_slides, of_slides
from serving.pathology.slides import store as slides
from serving.pathology.slides.states import UNFINISHED, GivenUp, UnknownSlide, WrongMove
from serving.pathology.workflow import steps
from serving.pathology.workflow.heartbeat import Heart
from serving.pathology.workflow.prefetch import Ahead
from serving.pathology.workflow.steps import Desk, Read
from serving.registry.loader import Champions
from serving.settings import Settings

log = logging.getLogger("yuheng.jobs")

VERSION = "slides-1"  # of the workflow: another number where its steps change, and what was begun is ended by its own
LONGEST = 5.0  # seconds between two tries of what will not go
TRIES = 3  # of a step that fails for no reason that is known to pass
LEAVE = 10.0  # seconds that steps under way are given when the process stops
ATTEMPTS = 100  # to read a slide whose reading is broken off again and again
BEGUN = tuple(state for state in UNFINISHED if state != "uploading")
ENDED = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
T = TypeVar("T")

WAITING = {  # code -> what a slide's history says while it waits
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
NO_MODEL = {
    "code": "no_model",
    "en": "No model here reads {specimen}; a pathologist reads this slide alone. Publish a model for it.",
    "zh": "此处没有可阅{specimen}的模型；该切片由病理医生阅片。请发布相应模型。",
}
BROKEN = {
    "code": "internal",
    "en": "Reading the slide failed ({found}). What it was stands in the worker's log under the slide's id.",
    "zh": "阅片出错（{found}）。详情见工作进程日志中的切片编号。",
}


class Json(Serializer):
    """What DBOS stores: JSON, never pickle; an error is kept as its words."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data, default=_worded)

    def deserialize(self, serialized_data: str) -> Any:
        found = json.loads(serialized_data)
        return RuntimeError(found["error"]) if isinstance(found, dict) and set(found) == {"error"} else found

    def name(self) -> str:
        return "json"


def _worded(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {"error": f"{type(value).__name__}: {value}"}
    raise TypeError(f"{type(value).__name__} is no JSON; a step returns numbers, words, lists and dicts")


class Waits(Exception):
    """What is needed is not there yet. `code` is a key of WAITING."""

    def __init__(self, code: str):
        self.code = code
        super().__init__(code)


class Leaves(BaseException):
    """The process stops. DBOS takes no note of what is no Exception, so the slide goes on in the next process."""


class Jobs:
    """One in a process: DBOS is one. Made, started and stopped on one thread.

    on_given_up: when another process took this one for dead, which then must end: all it began is the other's.
    """

    def __init__(self, settings: Settings, read: Read, on_given_up: Callable[[], None] | None = None):
        self.settings = settings
        told = settings.reader
        self.engine = open_store(settings.store_place, max(settings.store.patience_seconds, 10.0))
        self.heart = Heart(self.engine, told.beat_seconds, told.dead_seconds, self._recover, self._given_up)
        self.on_given_up = on_given_up or end
        self.read = Ahead(read, told.at_once)
        prices = Prices.load(settings.paths.prices)
        self.desk = Desk(self.engine, settings.paths.slides, self.read, self.heart.worker, self.read.begin, prices)
        champion = settings.champion
        self.readers: Champions[Bundle[SlideCard]] = Champions(
            settings.paths.bundles,
            settings.paths.public_key,
            champion.poll_seconds,
            champion.retry_seconds,
            hold_slides,
            of_slides,
        )
        self._held: dict[str, Bundle[SlideCard]] = {}
        self._begun: set[str] = set()
        self._looked = False
        self._stop = threading.Event()
        self._working = 0
        self._rests = threading.Condition()

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
                "application_version": VERSION,
                "executor_id": self.heart.worker,
                "serializer": Json(),
                "enable_otlp": False,
                "log_level": "WARNING",
            }
        )

        @DBOS.workflow(name="read_slide", max_recovery_attempts=ATTEMPTS)
        def read_slide(slide: str) -> str:
            return self.read_slide(slide)

        @DBOS.step(name="step")
        def step(name: str, slide: str, told: list[Any]) -> Any:
            return self.step(name, slide, told)

        self._workflow, self._step = read_slide, step
        self.readers.load_all()
        self.heart.enter()  # before any slide is taken: who takes one must be known to live
        DBOS.launch()
        at_once = self.settings.reader.at_once
        self.queue = DBOS.register_queue("slides", worker_concurrency=at_once, polling_interval_sec=0.5)
        self.heart.start()

    def stop(self) -> None:
        """After the steps under way, for which it waits a little; the slides go on in the next process."""
        self._stop.set()
        with self._rests:
            self._rests.wait_for(lambda: not self._working, LEAVE)
        DBOS.destroy()
        self.read.close()
        self.heart.stop()
        self.engine.dispose()

    def look(self) -> int:
        """Begin what arrived; the number of slides begun. The first look finds all that is unfinished: a slide whose
        workflow is known is not begun twice, and one whose workflow was lost is not left behind."""
        rows = slides.in_state(self.engine, *(("verifying",) if self._looked else BEGUN), most=1_000)
        self._looked = True
        found = [row["id"] for row in rows if row["id"] not in self._begun]
        for slide in found:
            with SetWorkflowID(slide):
                self.queue.enqueue(self._workflow, slide)
            self._begun.add(slide)
        return len(found)

    def _recover(self, alive: set[str]) -> None:
        """Slides of processes that live no more go on; one that ended without a word is told as failed."""
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        dead = {str(one.executor_id) for one in pending} - alive
        if dead:
            DBOS._recover_pending_workflows(sorted(dead))
        rows = [row["id"] for row in slides.in_state(self.engine, *BEGUN, most=1_000)]
        ended = DBOS.list_workflows(workflow_ids=rows, status=list(ENDED), load_input=False) if rows else []
        for one in ended:
            self._give_up(one.workflow_id, "workflow", one.error or RuntimeError(f"DBOS says {one.status}"))

    def _given_up(self) -> None:
        log.critical("worker %s was taken for dead; it ends, and another has its slides", self.heart.worker)
        self.on_given_up()

    def wait(self, slide: str, seconds: float) -> None:
        """Until the slide's workflow has ended. Raises TimeoutError."""
        began = time.monotonic()
        while DBOS.retrieve_workflow(slide).get_status().status in ("PENDING", "ENQUEUED", "DELAYED"):
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"slide {slide} is still under way after {seconds:g} s")
            time.sleep(0.1)

    # --- one slide

    def read_slide(self, slide: str) -> str:
        """The workflow. The state in which it leaves the slide, which then may be a person's."""
        for name in ("verify", "deidentify"):
            if not self._step(name, slide, []):
                return "ended"
        chosen = self._step("choose", slide, [])
        if not chosen or not self._step("quality", slide, chosen):
            return "ended"
        ends = self._step("begin", slide, chosen)
        if ends is None:
            return "ended"
        stage = read = 0
        for stage, end_ in enumerate(ends):
            for number in range(read, end_):
                if not self._step("infer", slide, [*chosen, number]):
                    return "ended"
            read = end_
            if stage + 1 < len(ends) and self._step("settled", slide, [*chosen, stage]):
                break
        return str(self._step("aggregate", slide, [*chosen, stage]))

    def step(self, name: str, slide: str, told: list[Any]) -> Any:
        """One step, patiently: what a full disk or a reader that is away stops goes on once they are there again."""
        began, pause, noted, tries = time.monotonic(), 0.5, "", 0
        while not self._stop.is_set():
            try:
                with self._under_way():
                    return self._do(name, slide, told)
            except (WrongMove, UnknownSlide) as error:  # cancelled meanwhile, or taken out
                log.info("slide %s: %s ends: %s", slide, name, error)
                return None
            except GivenUp as error:
                self._given_up()
                raise Leaves from error
            except Exception as error:
                if self._stop.is_set():  # the runner and the store may have been stopped before us
                    break
                code, tries = _waits_for(error), tries + 1
                late = time.monotonic() - began > self.settings.reader.patience_seconds
                if late or (code is None and tries >= TRIES):
                    return self._give_up(slide, name, error)
                log.warning("slide %s: %s is tried again (%s)", slide, name, code or "unforeseen", exc_info=error)
                if code is not None:
                    noted = self._note(slide, code, noted)
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST)
        raise Leaves

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._rests:
            self._working += 1
        try:
            yield
        finally:
            with self._rests:
                self._working -= 1
                self._rests.notify_all()

    def _do(self, name: str, slide: str, told: list[Any]) -> Any:
        do: dict[str, Callable[[], Any]] = {
            "verify": lambda: steps.verify(self.desk, slide),
            "deidentify": lambda: steps.deidentify(self.desk, slide),
            "choose": lambda: self._choose(slide),
            "quality": lambda: steps.quality(self.desk, slide, self._bundle(told)),
            "begin": lambda: steps.begin(self.desk, slide, self._batch(told)),
            "infer": lambda: steps.infer(self.desk, slide, self._bundle(told), told[3], self._batch(told)),
            "settled": lambda: steps.settled(self.desk, slide, self._bundle(told), self._batch(told), told[3]),
            "aggregate": lambda: steps.aggregate(self.desk, slide, self._bundle(told), self._batch(told), told[3]),
        }
        return do[name]()

    def _choose(self, slide: str) -> list[str] | None:
        """[model, version, digest] of what reads the slide from here to its end; None where none may."""
        row = slides.get(self.engine, slide)
        if row is None:
            raise UnknownSlide(slide)
        self.readers.load_all()
        for held in self.readers.serving.values():
            if row["specimen"] in held.card.specimens:
                self._held[held.digest] = held
                return [held.card.model, held.card.version, held.digest]
        if not self.readers.serving:
            raise Waits("no_model")
        words = {name: text.format(specimen=row["specimen"]) for name, text in NO_MODEL.items()}
        self.desk.move(slide, "failed", reasons=[words])
        return None

    def _bundle(self, told: list[Any]) -> Bundle[SlideCard]:
        model, version, digest = told[:3]
        if digest not in self._held:
            found = load(self.settings.paths.bundles / model / version, self.settings.paths.public_key, SlideCard)
            if found.digest != digest:
                raise BundleRefused(f"{model} {version} is not the bundle that the slide was begun with. Put it back.")
            self._held[digest] = found
        return self._held[digest]

    def _batch(self, told: list[Any]) -> int:
        return ReadingPolicy.load(self._bundle(told).policy).reading.batch

    def _note(self, slide: str, code: str, noted: str) -> str:
        """Once in the slide's history, however long it waits."""
        if code != noted:
            en, zh = WAITING[code]
            try:
                slides.note(self.engine, slide, {"code": code, "en": en, "zh": zh})
            except StoreUnavailable as error:
                log.warning("slide %s: its history cannot be written either: %s", slide, error)
                return noted
        return code

    def _give_up(self, slide: str, name: str, error: BaseException) -> None:
        log.error("slide %s: %s failed", slide, name, exc_info=error)
        found = f"{name}: {type(error).__name__}"
        words = {key: text.format(found=found) for key, text in BROKEN.items()}
        self.desk.move(slide, "failed", reasons=[words])


def end() -> None:
    """The process, at once: nothing that it still holds may be written."""
    os._exit(70)


def _waits_for(error: BaseException) -> str | None:
    """Why it may go better later; None where it will not."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Waits):
            return seen.code
        if isinstance(seen, StoreUnavailable):
            return "no_space" if seen.why == "full" else "store_away"
        if isinstance(seen, sa.exc.OperationalError):
            return "store_away"
        if isinstance(seen, httpx.TransportError):
            return "reader_away"
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return "no_space"
        seen = seen.__cause__
    return None
