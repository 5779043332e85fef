"""Models of requests: all that is wrong at once, in both languages, and the same limits in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from starlette.requests import Request

from serving.core.http.problems import ProblemError
from serving.core.http.schema import model_schema, query_params
from serving.core.http.validation import (
    DAY,
    DECISION_ID,
    Expected,
    RequestModel,
    line,
    matching,
    one_of,
    parse_query,
    text,
    validate,
    whole_number,
)


class Component(RequestModel):
    name: Annotated[str, line(5)]
    weight: Annotated[str | None, matching("[0-9]+", "digits", "数字").or_null()] = None


class Order(RequestModel):
    kind: Annotated[str, one_of("new", "used"), Field(description="Of what.")]
    parts: Annotated[
        list[Component], Field(max_length=2), Expected("a list of up to 2 parts", "至多 2 个部件的列表")
    ] = []


class Query(RequestModel):
    since: Annotated[str, DAY, Field(description="From that day on.")] = ""
    before: Annotated[str, DECISION_ID, Field(description="Older ones.")] = ""
    name: Annotated[str, text(3), Field(description="A name.")] = ""
    limit: Annotated[int, whole_number(1, 200), Field(description="Of a page.")] = 50


def errors(payload: Any) -> dict[str, tuple[str, str]]:
    value, details = validate(Order, payload)
    assert (value is None) == bool(details)
    assert all(error.expected_zh for error in details)
    return {error.field: (error.actual, error.expected) for error in details}


def query_of(query_string: str) -> Request:
    return Request({"type": "http", "method": "GET", "headers": [], "query_string": query_string.encode()})


def query_errors(query_string: str) -> dict[str, str]:
    with pytest.raises(ProblemError) as problem:
        parse_query(query_of(query_string), Query)
    assert problem.value.kind == "bad_parameter"
    return {error.field: error.actual for error in problem.value.errors}


def test_all_errors_are_reported_at_once_with_the_path_of_each_field():
    payload = {"kind": "old", "parts": [{"name": " x"}, {"weight": 5, "nam": "y"}], "size": 1}
    assert errors(payload) == {
        "kind": ("text ('old')", "one of new, used"),
        "parts[0].name": ("text (' x')", "text of 1 to 5 characters"),
        "parts[1].name": ("absent", "text of 1 to 5 characters"),
        "parts[1].weight": ("a number (5)", "digits"),
        "parts[1].nam": ("not known", "one of name, weight; did you mean 'name'?"),
        "size": ("not known", "one of kind, parts"),
    }


@pytest.mark.parametrize("parts", [5, "x", [1], [{"name": "a"}] * 3])
def test_a_list_of_another_form_is_described_by_its_own_sentence(parts):
    assert {expected for _, expected in errors({"kind": "new", "parts": parts}).values()} == {"a list of up to 2 parts"}


@pytest.mark.parametrize("payload", [None, [], "x", 5])
def test_a_body_that_is_no_object_is_an_error_of_the_body(payload):
    assert list(errors(payload)) == ["(body)"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["kind", "parts", "other"]), JSON))
def test_any_json_is_accepted_or_refused_and_never_a_crash(payload):
    errors(payload)


def test_a_model_is_its_own_schema_without_names_of_classes():
    component = {"type": "object", "required": ["name"], "additionalProperties": False, "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "weight": {"anyOf": [{"type": "string", "pattern": "^[0-9]+$"}, {"type": "null"}]},
    }}  # fmt: skip
    assert model_schema(Order) == {
        "type": "object",
        "required": ["kind"],
        "additionalProperties": False,
        "properties": {
            "kind": {"enum": ["new", "used"], "description": "Of what."},
            "parts": {"type": "array", "items": component, "maxItems": 2},
        },
    }


def test_a_query_becomes_its_model_and_its_parameters():
    query = parse_query(query_of("since=2026-11-01&limit=200"), Query)
    assert (query.since, query.limit, query.before) == ("2026-11-01", 200, "")
    parameters = {parameter["name"]: parameter["schema"] for parameter in query_params(Query)}
    assert parameters["limit"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
    assert parameters["name"] == {"type": "string", "minLength": 1, "maxLength": 3}


@pytest.mark.parametrize("limit", ["0", "201", "+5", " 5", "5.0", "1_0", "%D9%A5", "", "-1", "9" * 400])
def test_a_number_in_a_query_is_decimal_digits_within_its_bounds(limit):
    assert list(query_errors(f"limit={limit}")) == ["limit"]


@pytest.mark.parametrize(
    ("query_string", "expected"),
    [
        ("since=2026-13-01&before=x", {"since": "'2026-13-01'", "before": "'x'"}),
        ("limt=5", {"limt": "not known"}),
        ("limit=5&limit=6", {"limit": "given more than once"}),
        ("name=%00", {"name": "a NUL"}),
        ("name=%ff", {"(query)": "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"}),
    ],
)
def test_what_is_wrong_with_a_query_is_named(query_string, expected):
    assert query_errors(query_string) == expected
