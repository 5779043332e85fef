"""The life of a slide: its states, what may follow each, and their names for people (domain.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """`next`: the states that may follow."""

    en: str
    zh: str
    next: tuple[str, ...] = ()


_STOP = ("failed", "cancelled")  # from any unfinished state

STATES: dict[str, State] = {
    "uploading": State("being uploaded", "上传中", ("verifying", *_STOP)),
    "verifying": State("being verified", "校验中", ("deidentified", *_STOP)),
    "deidentified": State("without label and names", "已去标识", ("quality_passed", "quality_failed", *_STOP)),
    "quality_passed": State("fit to be read", "质量合格", ("queued", *_STOP)),
    "quality_failed": State("not fit to be read: scan it again", "质量不合格，请重新扫描"),
    "queued": State("waiting for its reading", "等待阅片", ("inferring", *_STOP)),
    "inferring": State("being read", "阅片中", ("aggregating", *_STOP)),
    "aggregating": State("being summed up", "汇总中", ("ready", "abstained", *_STOP)),
    "ready": State("read; a pathologist is awaited", "已出结果，待病理医生审核", ("in_review",)),
    "abstained": State("not read by the machine; a pathologist is awaited", "机器弃权，待病理医生审核", ("in_review",)),
    "in_review": State("with a pathologist", "审核中", ("signed",)),
    "signed": State("signed", "已签发", ("amended",)),
    "amended": State("signed again with a correction", "已更正并重新签发", ("amended",)),
    "failed": State("failed", "失败"),
    "cancelled": State("cancelled", "已取消"),
}

UNFINISHED = tuple(name for name, state in STATES.items() if "failed" in state.next)  # may yet fail or be cancelled
TO_REVIEW = ("ready", "abstained", "in_review")
SIGNED = ("signed", "amended")
RESTING = ("ready", "abstained", "quality_failed", "signed", "amended", "failed", "cancelled")  # none moves by itself
BEFORE = {to: tuple(name for name, state in STATES.items() if to in state.next) for to in STATES}


class UnknownSlide(LookupError):
    """No slide has this id."""

    def __init__(self, slide: str):
        self.slide = slide
        super().__init__(f"no slide has the id {slide!r}")


class WrongMove(Exception):
    """The slide is in a state that `to` may not follow."""

    def __init__(self, slide: str, found: str, to: str):
        self.slide, self.found, self.to = slide, found, to
        before = ", ".join(BEFORE[to]) or "nothing"
        super().__init__(f"slide {slide} is {found}; {to} follows only {before}")


class GivenUp(Exception):
    """The worker was taken for dead and another has its slides: it moves none of them any more."""

    def __init__(self, worker: str):
        self.worker = worker
        super().__init__(f"worker {worker} was given up; another has its slides")
