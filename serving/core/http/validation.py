"""Checks of what a request holds: JSON, texts, digests; each fault in words that name field, actual and expected."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import chain
from typing import Any

import orjson

from datasets.errors import FieldError
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSON_MEDIA_TYPE, Request, read_body
from serving.settings import LimitSettings

SHA256 = re.compile(r"[0-9a-f]{64}")
ID_PATTERN = re.compile(r"[0-9a-f]{32}")  # of everything that core/identifiers.py names
BATCH_ID_PATTERN = ID_PATTERN
DECISION_ID_PATTERN = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,9})?")  # a decision, or a row of a batch


DEEPEST = 100  # levels of objects and lists


def parse_json(body: bytes) -> Any:
    """Raises Problem; NaN and infinity are no JSON and are named where they stand. A name that stands twice leaves open
    which value was meant, and no verifier would read it."""
    if not body.strip():
        expected = ("a JSON object with indicators or a subject_id", "含 indicators 或 subject_id 的 JSON 对象")
        raise ProblemError("empty_body", expected=expected[0], expected_zh=expected[1])
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            body.decode()
        except UnicodeDecodeError as decode_error:
            offset = f"{decode_error.start} (0x{body[decode_error.start]:02x})"
            actual_zh = f"第 {offset} 字节不是 UTF-8"
            raise ProblemError("not_utf8", actual=f"Byte {offset} is not UTF-8", actual_zh=actual_zh) from error
        literal, position = _non_json_literal(body, error.pos)
        message = f"Found {literal}" if literal else f"{error.msg[:1].upper()}{error.msg[1:]}"
        message_zh = f"发现 {literal}" if literal else f"无法解析（{error.msg}）"
        location, location_zh = f" at character {position}", f"，位于第 {position} 个字符"
        raise ProblemError("malformed_json", actual=message + location, actual_zh=message_zh + location_zh) from error
    if ambiguity := find_json_ambiguity(body, value):
        raise ProblemError("malformed_json", actual=ambiguity[0], actual_zh=ambiguity[1])
    return value


async def json_object(call: Request, limits: LimitSettings) -> tuple[dict[str, Any], str]:
    """(the JSON object that was sent, SHA-256 of its bytes). Raises Problem."""
    media_type = call.media_type()
    if media_type != JSON_MEDIA_TYPE:
        raise ProblemError(
            "unsupported_media_type", actual=repr(media_type) if media_type else "not given", expected=JSON_MEDIA_TYPE
        )
    body = await read_body(call, limits.max_body_bytes, limits.body_timeout_seconds)
    if not body.strip():
        raise ProblemError("empty_body", expected="a JSON object", expected_zh="JSON 对象")
    value = parse_json(body)
    if not isinstance(value, dict):
        raise ProblemError("malformed_json", actual="Found no object", actual_zh="不是 JSON 对象")
    return value, hashlib.sha256(body).hexdigest()


def find_json_ambiguity(text: bytes, document: Any) -> tuple[str, str] | None:
    """Why `found`, which was read from the JSON `text`, may not be what was meant, in English and Chinese.

    As many colons as names: none stands twice, and most texts are told by that. A colon in a value needs the slower
    reading, which nests by calls: hence DEEPEST, which the verifiers of receipts have too.
    """
    name_count, depth, level = 0, 0, [document]
    while level:
        if (depth := depth + 1) > DEEPEST:
            return f"Nested deeper than {DEEPEST} levels", f"嵌套超过 {DEEPEST} 层"
        objects = [value for value in level if type(value) is dict]
        name_count += sum(map(len, objects))
        children = chain(*(value.values() for value in objects), *(value for value in level if type(value) is list))
        level = [value for value in children if type(value) in (dict, list)]
    if text.count(b":") == name_count:
        return None
    try:
        json.loads(text, object_pairs_hook=_reject_duplicates)
    except _DuplicateKeyError as error:
        name = repr(str(error)[:60])
        return f"{name} stands twice in one object", f"同一对象中 {name} 出现两次"
    return None


class _DuplicateKeyError(Exception):
    pass


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise _DuplicateKeyError(name)
        names.add(name)


def _non_json_literal(body: bytes, position: int) -> tuple[str, int]:
    """(word, where) where the parser stopped at one of the words that Python and R write for what is no number."""
    text = body.decode()
    for literal in ("NaN", "nan", "Infinity", "-Infinity", "Inf", "inf", "-inf", "None"):
        for start in range(max(0, position - 1), position + 1):
            if text.startswith(literal, start):
                return literal, start
    return "", position


def is_clean_text(found: Any, most: int) -> bool:
    """Printable, neither empty nor padded: no control characters and none that turn the direction of writing."""
    return isinstance(found, str) and 0 < len(found) <= most and found.isprintable() and found == found.strip()


def sha256(value: Any) -> list[FieldError]:
    if isinstance(value, str) and SHA256.fullmatch(value):
        return []
    return [FieldError("sha256", describe_value(value), "64 hex digits in small letters", "64 位小写十六进制数")]


def shown(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."


def describe_value(value: Any) -> str:
    """A value as a fault names it."""
    type_names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    type_name = type_names.get(type(value), "null")
    short = isinstance(value, str | bool | int | float | list) and len(repr(value)) <= 60
    return f"{type_name} ({value!r})" if short else type_name
