"""The OpenAPI document is complete: it lists every route and problem, and schemathesis finds no other behaviour."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from serving import openapi, system_routes
from serving.core.http import schema
from serving.core.http.problems import PROBLEM_TYPES
from serving.registry import released_models
from tests.serving.conftest import run_inside, settings_for

# The document only says that a batch's body is a file, so most bodies that match it are refused.
CONFIG = """
[[operations]]
include-path-regex = "^/v1/.+/batch$"
checks.positive_data_acceptance.enabled = false

# A reference must name a file in the inbox.
[[operations]]
include-path = "/v1/slides"
include-method = "POST"
checks.positive_data_acceptance.enabled = false

# The document only says that times and groups are text.
[[operations]]
include-path = "/v1/authorisations"
include-method = "POST"
checks.positive_data_acceptance.enabled = false

# The document does not say that a reason is one line without control characters.
[[operations]]
include-path = "/v1/models/{name}/champion"
checks.positive_data_acceptance.enabled = false

# tus has statuses of its own, and no pattern can describe Base64 of consistent metadata.
[[operations]]
include-path-regex = "^/v1/uploads"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.expected-statuses = [400, 404, 405, 409, 410, 412, 413, 415, 422, 460]
checks.missing_required_header.expected-statuses = [400, 404, 405, 412]

# The document cannot say that a body is multipart with a boundary of its own and DICOM in each part.
[[operations]]
include-path-regex = "^/v1/dicomweb/"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.expected-statuses = [400, 405, 413, 415, 422]

# An upload is created by headers alone, and unknown headers are ignored.
[[operations]]
include-path = "/v1/uploads"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false
checks.missing_required_header.expected-statuses = [400, 404, 412]
"""
# Bytes, in media types that schemathesis does not know.
HOOKS = """
import schemathesis

@schemathesis.serializer("application/offset+octet-stream", "multipart/related")
def part(ctx, value):
    return {"data": value if isinstance(value, bytes) else str(value).encode()}
"""


@pytest.fixture(scope="module")
def document(inside):
    async def story(client, gateway):
        return (await client.get("/openapi.json")).json()

    return inside(story)


def test_every_kind_of_problem_is_documented(document):
    text = json.dumps(document)
    assert [kind for kind in PROBLEM_TYPES if f"/problems/{kind}" not in text] == []
    of_routes = {kind for kinds in openapi.PROBLEMS.values() for kind in kinds} | {
        *openapi.DECISION_PROBLEMS,
        *openapi.BATCH_PROBLEMS,
    }
    assert of_routes | {*schema.COMMON_PROBLEMS, *schema.AUTH_PROBLEMS, *openapi.UNROUTED_PROBLEMS} == {*PROBLEM_TYPES}


def test_the_document_is_made_once_however_often_strangers_ask_for_it(bundles, made, tmp_path, monkeypatch):
    calls = []
    build = system_routes.build_document
    monkeypatch.setattr(system_routes, "build_document", lambda *args: calls.append(1) or build(*args))

    async def story(client, gateway):
        first, second = [await client.get("/openapi.json") for _ in range(2)]
        assert first.content == second.content
        assert len(calls) == 1
        gateway.service.model_loader.deployed.clear()
        await client.get("/openapi.json")  # another set of models
        assert len(calls) == 2

    run_inside(settings_for(bundles, made, tmp_path), story)


def test_every_route_and_method_is_documented(document, inside):
    async def story(client, gateway):
        return {(path, method.lower()) for path, methods in gateway.routes.items() for method in methods}

    assert inside(story) == {(path, method) for path, methods in document["paths"].items() for method in methods}


def test_every_input_of_a_model_is_documented_with_its_range_unit_and_levels(document, made):
    fields = document["components"]["schemas"]["Indicators.credit_limit"]["properties"]
    assert set(fields) == {column.name for column in (*made.card.inputs, *made.card.also)}
    income = fields["declared_income"]
    assert income["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 100_000_000}
    assert income["x-unit"] == "RMB/year"
    assert fields["gap_months"]["anyOf"][0]["type"] == "integer"
    assert set(fields["tax_grade"]["enum"]) == {"A", "B", "M", "none", "C", "D", None}


def test_a_level_that_is_a_whole_number_is_documented_and_accepted_as_a_number_too(made, tmp_path):
    settings = settings_for(tmp_path / "bundles", made, tmp_path)
    released_models.install_from(settings.paths)

    async def story(client, gateway):
        document = (await client.get("/openapi.json")).json()
        education = document["components"]["schemas"]["Indicators.credit_limit_taiwan"]["properties"]["EDUCATION"]
        assert set(education["enum"]) == {"0", "1", "2", "3", "4", "5", "6", 0, 1, 2, 3, 4, 5, 6, None}
        body = {"model": "credit_limit_taiwan"}
        by_text, by_number = [
            (await client.post("/v1/credit-limits", json=body | {"indicators": {"EDUCATION": level}})).json()["pd"]
            for level in ("1", 1)
        ]
        assert by_text == by_number

    run_inside(settings, story)


def test_schemathesis_finds_no_failure_and_no_undocumented_behaviour(service, document, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    (tmp_path / "hooks.py").write_text(HOOKS)
    environ = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run"]
    command += [
        f"{service.url}/openapi.json",
        "--max-examples",
        "20",
        "--seed",
        "1",
        "--no-color",
        "--continue-on-failure",
    ]
    command += ["--generation-database", "none"]
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6_000:] + result.stderr[-2_000:]
    operations = sum(len(methods) for methods in document["paths"].values())
    assert any(f"Selected: {count}/{count}" in result.stdout for count in (operations, operations - 1))
