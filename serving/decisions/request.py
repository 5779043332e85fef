"""One applicant's request, read: what is asked of which model about whom, and what the applicant wishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets.errors import Fault
from datasets.schema import unknown_names
from serving.core.http.problems import Problem
from serving.core.http.validation import parse_json


@dataclass(frozen=True, slots=True)
class Question:
    """Either the indicators or the subject whose indicators the store holds. `wishes`: each of the product's, told or
    by default."""

    indicators: dict[str, Any] | None
    subject: str | None
    model: str | None
    wishes: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request may say beside its indicators: true or false."""

    name: str
    default: bool
    description: str


Check = tuple[Callable[[Any], bool], str, str]  # whether a value fits, and what is needed

COMMON: dict[str, Check] = {
    "indicators": (lambda found: isinstance(found, dict), "an object of indicator: value", "指标对象"),
    "subject_id": (
        lambda found: isinstance(found, str) and 0 < len(found) <= 255,
        "text of 1 to 255 characters",
        "1 至 255 个字符的文本",
    ),
    "model": (lambda found: isinstance(found, str), "the name of a model", "模型名称"),
}
WISHED: Check = (lambda found: isinstance(found, bool), "true or false", "true 或 false")


class Form:
    """What a request to one product may hold, made ready once."""

    def __init__(self, wishes: Sequence[Wish]):
        self.checks = COMMON | {wish.name: WISHED for wish in wishes}
        self.wishes = tuple((wish.name, wish.default) for wish in wishes)


def parse_question(body: bytes, form: Form) -> Question:
    found = parse_json(body)
    if not isinstance(found, dict):
        raise Problem("invalid_request", errors=[_fault("(body)", _kind(found), "a JSON object", "JSON 对象")])
    checks, known = form.checks, ", ".join(form.checks)
    faults = unknown_names(found, checks, f"one of {known}", f"{known} 之一")
    faults += [_fault(name, _kind(found[name]), *needed) for name, (fits, *needed) in checks.items()
               if name in found and not fits(found[name])]  # fmt: skip
    if ("indicators" in found) == ("subject_id" in found):
        both = "both" if "indicators" in found else "neither"
        faults.append(_fault("indicators, subject_id", both, "exactly one of the two", "二者之一，且仅一个"))
    if faults:
        raise Problem("invalid_request", errors=faults)
    wishes = {name: found.get(name, default) for name, default in form.wishes}
    return Question(found.get("indicators"), found.get("subject_id"), found.get("model"), wishes)


def _fault(name: str, found: str, needed: str, needed_zh: str) -> Fault:
    return Fault(name if len(name) <= 60 else name[:57] + "...", found, needed, needed_zh)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    kind = kinds.get(type(value), "null")
    return f"{kind} ({value!r})" if isinstance(value, str | bool | int | float) and len(str(value)) <= 40 else kind
