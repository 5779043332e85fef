"""Parses the request for one decision: the applicant's indicators or id, the model, and the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from serving.core.http.problems import ProblemError
from serving.core.http.validation import describe_value, parse_json, shorten


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """Has either the indicators, or the id of a subject whose indicators are in the store.

    options: the value of each of the product's options, stated or by default. fields: the body as it was sent.
    reference: the caller's own id of the applicant whose indicators it states.
    """

    indicators: dict[str, Any] | None
    subject: str | None
    model: str | None
    options: Mapping[str, bool]
    fields: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class RequestOption:
    """A switch of a request, true or false."""

    name: str
    default: bool
    description: str


MAX_ID_CHARS = 255
ID_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARS}
REFERENCE_DESCRIPTION = (
    "The caller's own id of the applicant. It is stored as a keyed hash only, by which an erasure finds the answer."
)
REFERENCE_FIELD = {"reference": ID_SCHEMA | {"description": REFERENCE_DESCRIPTION}}
FieldCheck = tuple[Callable[[Any], bool], str, str]  # whether a value is valid, and what is expected in both languages

ID_CHECK: FieldCheck = (
    lambda value: isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS,
    f"text of 1 to {MAX_ID_CHARS} characters",
    f"1 至 {MAX_ID_CHARS} 个字符的文本",
)
COMMON_FIELDS: dict[str, FieldCheck] = {
    "indicators": (lambda value: isinstance(value, dict), "an object of indicator: value", "指标对象"),
    "subject_id": ID_CHECK,
    "reference": ID_CHECK,
    "model": (lambda value: isinstance(value, str), "the name of a model", "模型名称"),
}
REFERENCE_EXPECTED = (
    "left out beside subject_id, which already identifies the applicant",
    "与 subject_id 同时出现时省略，后者已标明申请人",
)
OPTION_CHECK: FieldCheck = (lambda value: isinstance(value, bool), "true or false", "true 或 false")


class RequestSchema:
    """The fields that a request to one product may have, prepared once."""

    def __init__(self, options: Sequence[RequestOption]):
        self.checks = COMMON_FIELDS | {option.name: OPTION_CHECK for option in options}
        self.options = tuple((option.name, option.default) for option in options)


def parse_request(body: bytes, schema: RequestSchema) -> DecisionRequest:
    """Raises ProblemError with every fault of the body."""
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise ProblemError(
            "invalid_request", errors=[FieldError("(body)", describe_value(payload), "a JSON object", "JSON 对象")]
        )
    checks, allowed_names = schema.checks, ", ".join(schema.checks)
    faults = find_unknown_names(payload, checks, f"one of {allowed_names}", f"{allowed_names} 之一")
    faults += [
        FieldError(shorten(name), describe_value(payload[name]), expected, expected_zh)
        for name, (is_valid, expected, expected_zh) in checks.items()
        if name in payload and not is_valid(payload[name])
    ]
    if ("indicators" in payload) == ("subject_id" in payload):
        actual = "both" if "indicators" in payload else "neither"
        faults.append(FieldError("indicators, subject_id", actual, "exactly one of the two", "二者之一，且仅一个"))
    elif "reference" in payload and "subject_id" in payload:
        faults.append(FieldError("reference", "given", *REFERENCE_EXPECTED))
    if faults:
        raise ProblemError("invalid_request", errors=faults)
    options = {name: payload.get(name, default) for name, default in schema.options}
    return DecisionRequest(
        payload.get("indicators"),
        payload.get("subject_id"),
        payload.get("model"),
        options,
        payload,
        payload.get("reference"),
    )
