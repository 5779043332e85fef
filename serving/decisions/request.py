"""One applicant's request, read: what is asked of which model about whom, and what the applicant wishes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from datasets.errors import Fault
from datasets.schema import unknown_names
from serving.core.http.problems import Problem


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


DEEPEST = 100  # levels of objects and lists
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


def parse_json(body: bytes) -> Any:
    """Raises Problem; NaN and infinity are no JSON and are named where they stand. A name that stands twice leaves open
    which value was meant, and no verifier would read it."""
    if not body.strip():
        needed = ("a JSON object with indicators or a subject_id", "含 indicators 或 subject_id 的 JSON 对象")
        raise Problem("empty_body", needed=needed[0], needed_zh=needed[1])
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            body.decode()
        except UnicodeDecodeError as wrong:
            byte = f"{wrong.start} (0x{body[wrong.start]:02x})"
            found_zh = f"第 {byte} 字节不是 UTF-8"
            raise Problem("not_utf8", found=f"Byte {byte} is not UTF-8", found_zh=found_zh) from error
        word, at = _literal(body, error.pos)
        told = f"Found {word}" if word else f"{error.msg[:1].upper()}{error.msg[1:]}"
        told_zh = f"发现 {word}" if word else f"无法解析（{error.msg}）"
        place, place_zh = f" at character {at}", f"，位于第 {at} 个字符"
        raise Problem("malformed_json", found=told + place, found_zh=told_zh + place_zh) from error
    if doubt := unclear(body, found):
        raise Problem("malformed_json", found=doubt[0], found_zh=doubt[1])
    return found


def unclear(text: bytes, found: Any) -> tuple[str, str] | None:
    """Why `found`, which was read from the JSON `text`, may not be what was meant, in English and Chinese.

    As many colons as names: none stands twice, and most texts are told by that. A colon in a value needs the slower
    reading, which nests by calls: hence DEEPEST, which the verifiers of receipts have too.
    """
    names, depth, level = 0, 0, [found]
    while level:
        if (depth := depth + 1) > DEEPEST:
            return f"Nested deeper than {DEEPEST} levels", f"嵌套超过 {DEEPEST} 层"
        objects = [value for value in level if type(value) is dict]
        names += sum(map(len, objects))
        inside = chain(*(value.values() for value in objects), *(value for value in level if type(value) is list))
        level = [value for value in inside if type(value) in (dict, list)]
    if text.count(b":") == names:
        return None
    try:
        json.loads(text, object_pairs_hook=_once)
    except _Twice as twice:
        name = repr(str(twice)[:60])
        return f"{name} stands twice in one object", f"同一对象中 {name} 出现两次"
    return None


class _Twice(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise _Twice(name)
        seen.add(name)


def _literal(body: bytes, at: int) -> tuple[str, int]:
    """(word, where) where the parser stopped at one of the words that Python and R write for what is no number."""
    text = body.decode()
    for word in ("NaN", "nan", "Infinity", "-Infinity", "Inf", "inf", "-inf", "None"):
        for start in range(max(0, at - 1), at + 1):
            if text.startswith(word, start):
                return word, start
    return "", at


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
