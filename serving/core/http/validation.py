"""Validate requests: JSON bodies and queries against pydantic models, each error with what was found and expected.

A model is the one source of a validator and of its part of the OpenAPI document (schema.py):

    class BatchQuery(RequestModel):
        before: Annotated[str, BATCH_ID, Field(description="Only older ones.")] = ""
        limit: Annotated[int, whole_number(1, 200), Field(description="Of a page.")] = 50

    query = parse_query(request, BatchQuery)
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar, get_args
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSON_MEDIA_TYPE, Request, read_body
from serving.core.identifiers import DECISION_ID_PATTERN, ID_PATTERN
from serving.settings import LimitSettings

DAY_PATTERN = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)

MAX_DEPTH = 100  # levels of objects and lists
UTF8_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")  # ASCII is a part of UTF-8


def parse_json(body: bytes) -> Any:
    """Parse a JSON body. Raises ProblemError, which says where a NaN or an infinity stands, as JSON has none, and names
    a key that stands twice in one object: it would leave open which value was meant, and no verifier would read it.

    A byte order mark of UTF-8, which editors on Windows write, is skipped (RFC 8259, 8.1)."""
    body = body.removeprefix(codecs.BOM_UTF8)
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


def require_media_type(request: Request, expected: str = JSON_MEDIA_TYPE) -> None:
    """Raises ProblemError where Content-Type is another one, or states another charset than UTF-8."""
    media_type = request.media_type()
    if media_type != expected:
        raise ProblemError(
            "unsupported_media_type", actual=repr(media_type) if media_type else "not given", expected=expected
        )
    require_utf8(request)


def require_utf8(request: Request) -> None:
    """Raises ProblemError where Content-Type states another charset: its text could be read as another one."""
    charset = request.media_type_params().get("charset", "").lower() or "utf-8"
    if charset not in UTF8_CHARSETS:
        media_type = request.media_type()
        actual = f"{media_type}; charset={charset[:40]}"
        raise ProblemError("unsupported_media_type", actual=repr(actual), expected=f"{media_type}; charset=utf-8")


async def read_json(request: Request, limits: LimitSettings) -> bytes:
    """The bytes of a JSON body, not parsed yet. Raises ProblemError."""
    require_media_type(request)
    return await read_body(request, limits.max_body_bytes, limits.body_timeout_seconds)


async def json_object(request: Request, limits: LimitSettings) -> tuple[dict[str, Any], str]:
    """(the JSON object of the body, SHA-256 of its bytes). Raises ProblemError."""
    body = await read_json(request, limits)
    if not body.strip():
        raise ProblemError("empty_body", expected="a JSON object", expected_zh="JSON 对象")
    value = parse_json(body)
    if not isinstance(value, dict):
        raise ProblemError("malformed_json", actual="Found no object", actual_zh="不是 JSON 对象")
    return value, hashlib.sha256(body).hexdigest()


def find_json_ambiguity(text: bytes, document: Any) -> tuple[str, str] | None:
    """Why `document`, parsed from the JSON `text`, may not be what was meant, in English and Chinese; None if it is.

    With as many colons as names no name stands twice, which settles most texts. A colon within a value needs the slower
    parse, which recurses: hence MAX_DEPTH, which the verifiers of receipts share.
    """
    name_count, depth, level = 0, 0, [document]
    while level:
        if (depth := depth + 1) > MAX_DEPTH:
            return f"Nested deeper than {MAX_DEPTH} levels", f"嵌套超过 {MAX_DEPTH} 层"
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
    """(literal, position) where the parser stopped at a literal that Python or R writes for a missing number."""
    text = body.decode()
    for literal in ("NaN", "nan", "Infinity", "-Infinity", "Inf", "inf", "-inf", "None"):
        for start in range(max(0, position - 1), position + 1):
            if text.startswith(literal, start):
                return literal, start
    return "", position


def is_clean_text(value: Any, max_chars: int) -> bool:
    """Whether a value is printable text, neither empty nor padded: without control characters and such that turn the
    direction of writing."""
    return isinstance(value, str) and 0 < len(value) <= max_chars and value.isprintable() and value == value.strip()


def shorten(name: str) -> str:
    """At most 60 characters of it."""
    return name if len(name) <= 60 else name[:57] + "..."


def describe_value(value: Any) -> str:
    """A value as an error describes it: its type, and the value itself where it is short."""
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


# --- rules and models


@dataclass(frozen=True)
class Expected:
    """The sentence of a field that pydantic validates by its type, such as a list of models."""

    expected: str
    expected_zh: str


@dataclass(frozen=True)
class Rule(Expected):
    """What a field's value must be: the sentence for who breaks it, the JSON schema, and a check. `convert` is applied
    to a value that passes. Stands in `Annotated`, in place of pydantic's own validation of the type."""

    schema: Mapping[str, Any]
    check: Callable[[Any], bool]
    convert: Callable[[Any], Any] | None = None

    def or_null(self) -> Rule:
        """The same rule, which also takes null."""
        schema = {"anyOf": [dict(self.schema), {"type": "null"}]}
        return replace(self, schema=schema, check=lambda value: value is None or self.check(value))

    def validate(self, value: Any) -> Any:
        """Raises PydanticCustomError."""
        if not self.check(value):
            raise PydanticCustomError("rule", "not as expected")
        return value if self.convert is None else self.convert(value)

    def errors(self, field: str, value: Any) -> list[FieldError]:
        """What is wrong with a value that stands in no model."""
        if self.check(value):
            return []
        return [FieldError(field, describe_value(value), self.expected, self.expected_zh)]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        return dict(self.schema)


def one_of(*values: str) -> Rule:
    """One of these texts."""
    return Rule(
        f"one of {', '.join(values)}",
        f"{'、'.join(values)} 之一",
        {"enum": list(values)},
        lambda value: isinstance(value, str) and value in values,
    )


def matching(pattern: re.Pattern[str] | str, expected: str, expected_zh: str) -> Rule:
    """Text that a regular expression matches whole."""
    compiled = re.compile(pattern)
    return Rule(
        expected,
        expected_zh,
        {"type": "string", "pattern": f"^{compiled.pattern}$"},
        lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None,
    )


def text(max_chars: int, check: Callable[[str], bool] = lambda value: True, hint: str = "", hint_zh: str = "") -> Rule:
    """Text of up to so many characters that a further check accepts; the hint says what is in it."""
    return Rule(
        f"text of 1 to {max_chars:,} characters{hint}",
        f"1 至 {max_chars:,} 个字符{hint_zh or '的文本'}",
        {"type": "string", "minLength": 1, "maxLength": max_chars},
        lambda value: isinstance(value, str) and 0 < len(value) <= max_chars and check(value),
    )


def line(max_chars: int, hint: str = "", hint_zh: str = "") -> Rule:
    """Text in one line, as `is_clean_text` has it."""
    return text(max_chars, lambda value: is_clean_text(value, max_chars), hint, hint_zh)


def whole_number(low: int, high: int) -> Rule:
    """A query's parameter that is a number in decimal digits."""
    digits = re.compile(rf"[0-9]{{1,{len(str(high))}}}")
    return Rule(
        f"a whole number from {low} to {high}",
        f"{low} 至 {high} 的整数",
        {"type": "integer", "minimum": low, "maximum": high},
        lambda value: digits.fullmatch(value) is not None and low <= int(value) <= high,
        int,
    )


def is_number(value: Any, low: float, high: float) -> bool:
    """A number of JSON within these bounds, both included; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


DAY = matching(DAY_PATTERN, "a day, as 2026-11-01", "日期，如 2026-11-01")
SHA256 = replace(  # in capitals too, as certutil and Get-FileHash of Windows print it
    matching("[0-9A-Fa-f]{64}", "64 hex digits", "64 位十六进制数"), convert=lambda value: value and value.lower()
)
BATCH_ID = matching(ID_PATTERN, "a batch_id", "批次编号")
DECISION_ID = matching(DECISION_ID_PATTERN, "a decision_id", "决定编号")
FLAG = one_of("true", "false")


class RequestModel(BaseModel):
    """Base of what requests hold. Another name than the fields' is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


ModelT = TypeVar("ModelT", bound=RequestModel)


def validate(
    model: type[ModelT], payload: Any, prefix: str = "", describe: Callable[[Any], str] | None = None
) -> tuple[ModelT | None, list[FieldError]]:
    """(the payload as the model, []), or (None, all that is wrong with it). `prefix` precedes each field's name."""
    try:
        return model.model_validate(payload), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    unknown: dict[tuple[int | str, ...], list[str]] = {}
    errors = []
    for detail in details:
        location = detail["loc"]
        if detail["type"] == "extra_forbidden":
            unknown.setdefault(location[:-1], []).append(str(location[-1]))
            continue
        rule = _rule_at(model, location)
        if rule is not None:
            expected, expected_zh = rule.expected, rule.expected_zh
        elif detail["type"] in ("model_type", "dict_type", "missing"):
            expected, expected_zh = "an object", "对象"
        else:
            expected, expected_zh = "a list", "列表"
        actual = "absent" if detail["type"] == "missing" else (describe or describe_value)(detail["input"])
        field = (prefix + _field_path(location)).rstrip(".") or "(body)"
        errors.append(FieldError(field, actual, expected, expected_zh))
    for location, names in unknown.items():
        known = list(_model_at(model, location).model_fields)
        parent = prefix + (f"{_field_path(location)}." if location else "")
        expected, expected_zh = f"one of {', '.join(known)}", f"{'、'.join(known)} 之一"
        errors = find_unknown_names(names, known, expected, expected_zh, parent) + errors
    return None, errors


def parse(model: type[ModelT], payload: Any) -> ModelT:
    """The payload as the model. Raises ProblemError, with all that is wrong."""
    value, errors = validate(model, payload)
    if value is None:
        raise ProblemError("invalid_request", errors=errors)
    return value


async def read_model(request: Request, model: type[ModelT], limits: LimitSettings) -> tuple[ModelT, str]:
    """(the JSON body as the model, SHA-256 of its bytes). Raises ProblemError, with all that is wrong."""
    payload, digest = await json_object(request, limits)
    return parse(model, payload), digest


def parse_query(request: Request, model: type[ModelT], path_errors: Sequence[FieldError] = ()) -> ModelT:
    """The query's parameters as the model. Raises ProblemError, with all that is wrong with them and the path."""
    try:
        pairs = parse_qsl(request.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
    except (ValueError, UnicodeError) as error:
        raise ProblemError("bad_parameter", errors=[FieldError("(query)", str(error), "UTF-8", "UTF-8")]) from error
    query, errors = validate(model, dict(pairs), describe=lambda value: repr(value[:60]))
    names = [name for name, _ in pairs]
    for name, value in pairs:
        if name in model.model_fields and "\0" in value:  # PostgreSQL looks for none
            errors.append(FieldError(name, "a NUL", "text without NUL", "不含 NUL 的文本"))
        if name in model.model_fields and names.count(name) > 1:
            names.remove(name)
            errors.append(FieldError(name, "given more than once", "one value", "一个值"))
    if query is None or errors or path_errors:
        raise ProblemError("bad_parameter", errors=[*errors, *path_errors])
    return query


def _field_path(location: Sequence[int | str]) -> str:
    """As errors name a field: context[0].name."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" for step in location)
    return "".join(steps).removeprefix(".")


def _model_at(model: type[RequestModel], location: Sequence[int | str]) -> type[RequestModel]:
    """The model that the names below this location belong to."""
    for name in location:
        if isinstance(name, str):
            model = next(_models_within(model.model_fields[name].annotation))
    return model


def _models_within(annotation: Any) -> Iterator[type[RequestModel]]:
    if isinstance(annotation, type) and issubclass(annotation, RequestModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_within(argument)


def _rule_at(model: type[RequestModel], location: Sequence[int | str]) -> Expected | None:
    """The rule of the field at this location, or of the list that holds it."""
    names = [index for index, step in enumerate(location) if isinstance(step, str)]
    if not names:
        return None
    field = _model_at(model, location[: names[-1]]).model_fields[str(location[names[-1]])]
    return next((marker for marker in field.metadata if isinstance(marker, Expected)), None)
