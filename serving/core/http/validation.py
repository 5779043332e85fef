"""Checks of what a request holds: JSON, texts, digests; each fault in words that name field, actual and expected."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import chain
from typing import Any

import orjson

from datasets.errors import Fault
from serving.core.http.problems import Problem
from serving.core.http.request import JSON, Call, read_body
from serving.settings import Limits

SHA256 = re.compile(r"[0-9a-f]{64}")


DEEPEST = 100  # levels of objects and lists


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


async def json_object(call: Call, limits: Limits) -> tuple[dict[str, Any], str]:
    """(the JSON object that was sent, SHA-256 of its bytes). Raises Problem."""
    media_type = call.media_type()
    if media_type != JSON:
        raise Problem("unsupported_media_type", found=repr(media_type) if media_type else "not given", needed=JSON)
    body = await read_body(call, limits.body, limits.body_seconds)
    if not body.strip():
        raise Problem("empty_body", needed="a JSON object", needed_zh="JSON 对象")
    value = parse_json(body)
    if not isinstance(value, dict):
        raise Problem("malformed_json", found="Found no object", found_zh="不是 JSON 对象")
    return value, hashlib.sha256(body).hexdigest()


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


def text(found: Any, most: int) -> bool:
    """Printable, neither empty nor padded: no control characters and none that turn the direction of writing."""
    return isinstance(found, str) and 0 < len(found) <= most and found.isprintable() and found == found.strip()


def sha256(found: Any) -> list[Fault]:
    if isinstance(found, str) and SHA256.fullmatch(found):
        return []
    return [Fault("sha256", kind(found), "64 hex digits in small letters", "64 位小写十六进制数")]


def shown(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."


def kind(value: Any) -> str:
    """A value as a fault names it."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    word = kinds.get(type(value), "null")
    short = isinstance(value, str | bool | int | float | list) and len(repr(value)) <= 60
    return f"{word} ({value!r})" if short else word
