"""The states of a slide, their permitted transitions, and their display names (domain.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlideState:
    """en, zh: display names. next: the states that may follow."""

    en: str
    zh: str
    next: tuple[str, ...] = ()


_ABORTED = ("failed", "cancelled")  # may follow any unfinished state

STATES: dict[str, SlideState] = {
    "uploading": SlideState("being uploaded", "上传中", ("verifying", *_ABORTED)),
    "verifying": SlideState("being verified", "校验中", ("awaiting_scale", "deidentified", *_ABORTED)),
    "awaiting_scale": SlideState("waiting for its scale to be confirmed", "待确认比例", ("verifying", *_ABORTED)),
    "deidentified": SlideState("de-identified", "已去标识", ("quality_passed", "quality_failed", *_ABORTED)),
    "quality_passed": SlideState("quality check passed", "质量合格", ("queued", *_ABORTED)),
    "quality_failed": SlideState("quality check failed: scan the slide again", "质量不合格，请重新扫描"),
    "queued": SlideState("waiting to be read", "等待阅片", ("inferring", *_ABORTED)),
    "inferring": SlideState("being read", "阅片中", ("aggregating", *_ABORTED)),
    "aggregating": SlideState("being aggregated", "汇总中", ("ready", "abstained", *_ABORTED)),
    "ready": SlideState("read; awaiting a pathologist", "已出结果，待病理医师审核", ("in_review",)),
    "abstained": SlideState("no AI result; awaiting a pathologist", "AI 不作判断，待病理医师审核", ("in_review",)),
    "in_review": SlideState("under review by a pathologist", "审核中", ("signed",)),
    "signed": SlideState("signed", "已签发", ("amended",)),
    "amended": SlideState("amended and signed again", "已更正并重新签发", ("amended",)),
    "failed": SlideState("failed", "失败"),
    "cancelled": SlideState("cancelled", "已取消"),
}

UNFINISHED = tuple(name for name, state in STATES.items() if "failed" in state.next)  # may still fail or be cancelled
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
)  # no process changes them
PREDECESSORS = {target: tuple(name for name, state in STATES.items() if target in state.next) for target in STATES}


class SlideNotFoundError(LookupError):
    """No slide has this id."""

    def __init__(self, slide_id: str):
        self.slide_id = slide_id
        super().__init__(f"no slide has the id {slide_id!r}")


class InvalidTransitionError(Exception):
    """The slide is in a state that the target state may not follow."""

    def __init__(self, slide_id: str, current: str, target: str):
        self.slide_id, self.current, self.target = slide_id, current, target
        predecessors = ", ".join(PREDECESSORS[target]) or "nothing"
        super().__init__(f"slide {slide_id} is {current}; {target} may only follow {predecessors}")


class WorkerEvictedError(Exception):
    """The worker was taken for dead and another one has its slides; it may not change them any more."""

    def __init__(self, worker_id: str):
        self.worker_id = worker_id
        super().__init__(f"worker {worker_id} was evicted; another one has its slides")
