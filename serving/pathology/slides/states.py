"""The life of a slide: its states, what may follow each, and their names for people (domain.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlideState:
    """`next`: the states that may follow."""

    en: str
    zh: str
    next: tuple[str, ...] = ()


_ABORTED = ("failed", "cancelled")  # from any unfinished state

STATES: dict[str, SlideState] = {
    "uploading": SlideState("being uploaded", "上传中", ("verifying", *_ABORTED)),
    "verifying": SlideState("being verified", "校验中", ("deidentified", *_ABORTED)),
    "deidentified": SlideState("without label and names", "已去标识", ("quality_passed", "quality_failed", *_ABORTED)),
    "quality_passed": SlideState("fit to be read", "质量合格", ("queued", *_ABORTED)),
    "quality_failed": SlideState("not fit to be read: scan it again", "质量不合格，请重新扫描"),
    "queued": SlideState("waiting for its reading", "等待阅片", ("inferring", *_ABORTED)),
    "inferring": SlideState("being read", "阅片中", ("aggregating", *_ABORTED)),
    "aggregating": SlideState("being summed up", "汇总中", ("ready", "abstained", *_ABORTED)),
    "ready": SlideState("read; a pathologist is awaited", "已出结果，待病理医生审核", ("in_review",)),
    "abstained": SlideState(
        "not read by the machine; a pathologist is awaited", "机器弃权，待病理医生审核", ("in_review",)
    ),
    "in_review": SlideState("with a pathologist", "审核中", ("signed",)),
    "signed": SlideState("signed", "已签发", ("amended",)),
    "amended": SlideState("signed again with a correction", "已更正并重新签发", ("amended",)),
    "failed": SlideState("failed", "失败"),
    "cancelled": SlideState("cancelled", "已取消"),
}

UNFINISHED = tuple(name for name, state in STATES.items() if "failed" in state.next)  # may yet fail or be cancelled
TO_REVIEW = ("ready", "abstained", "in_review")
SIGNED = ("signed", "amended")
TERMINAL_STATES = (
    "ready",
    "abstained",
    "quality_failed",
    "signed",
    "amended",
    "failed",
    "cancelled",
)  # none moves by itself
PREDECESSORS = {to: tuple(name for name, state in STATES.items() if to in state.next) for to in STATES}


class SlideNotFoundError(LookupError):
    """No slide has this id."""

    def __init__(self, slide_id: str):
        self.slide_id = slide_id
        super().__init__(f"no slide has the id {slide_id!r}")


class InvalidTransitionError(Exception):
    """The slide is in a state that `to` may not follow."""

    def __init__(self, slide_id: str, current: str, target: str):
        self.slide_id, self.current, self.target = slide_id, current, target
        predecessors = ", ".join(PREDECESSORS[target]) or "nothing"
        super().__init__(f"slide {slide_id} is {current}; {target} follows only {predecessors}")


class WorkerEvictedError(Exception):
    """The worker was taken for dead and another has its slides: it moves none of them any more."""

    def __init__(self, worker_id: str):
        self.worker_id = worker_id
        super().__init__(f"worker {worker_id} was given up; another has its slides")
