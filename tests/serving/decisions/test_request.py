"""Invalid requests: each is refused with the field, what was found and what is expected."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from serving.core.http.problems import PROBLEM_TYPES, ProblemError
from tests.serving.conftest import run_inside

URL = "/v1/credit-limits"
JSON = {"Content-Type": "application/json"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


async def refused(client, status: int, kind: str, **request):
    answer = await client.request(request.pop("method", "POST"), request.pop("url", URL), **request)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert CHINESE.search(problem["detail_zh"])
    assert CHINESE.search(problem["title_zh"])
    return problem, answer


@pytest.mark.parametrize(
    ("changed", "actual", "expected"),
    [
        ({"declared_incom": 5}, "not known", "did you mean 'declared_income'?"),
        ({"declared_income": -4200}, "-4200", "RMB/year"),
        ({"declared_income": "50000"}, "'50000'", "a number"),
        ({"declared_income": "5万元"}, "'5万元'", "RMB/year"),
        ({"declared_income": True}, "True", "a number"),
        ({"declared_income": [1]}, "[1]", "a number"),
        ({"declared_income": 10**40}, "1e+40", "a number"),
        ({"utilisation": 45}, "45", "from 0 to 1"),
        ({"tax_grade": "E"}, "'E'", "one of"),
        ({"tax_grade": 3}, "3", "one of"),
        ({"gap_months": 1.5}, "1.5", "a whole number"),
        ({"abnormal_list": 2}, "2", "from 0 to 1"),
        ({"veto_codes": 7}, "7", "text"),
        ({"veto_codes": "x" * 2_000}, "2,000 characters", "at most 1,000"),
        ({"sex": "male"}, "not known", "one of the fields"),
    ],
)
def test_an_invalid_indicator_is_named_with_what_is_expected(inside, applicant, changed, actual, expected):
    async def story(client, gateway):
        problem, _ = await refused(client, 422, "invalid_request", json={"indicators": applicant | changed})
        [error] = problem["errors"]
        assert error["field"] == next(iter(changed))
        assert actual in error["found"]
        assert expected in error["needed"]
        assert CHINESE.search(error["needed_zh"])
        assert gateway.service.store.writer.committed_count == 0

    inside(story)


def test_all_faults_of_a_request_are_reported_together(inside, applicant):
    async def story(client, gateway):
        bad = {"declared_income": -1, "tax_grade": "Z", "nonsense": 1}
        problem, _ = await refused(client, 422, "invalid_request", json={"indicators": applicant | bad})
        assert {error["field"] for error in problem["errors"]} == set(bad)

    inside(story)


@pytest.mark.parametrize(
    ("body", "status", "kind", "word"),
    [
        (b"", 400, "empty_body", "JSON object"),
        (b"  \n", 400, "empty_body", "JSON object"),
        (b'{"indicators": {"declared_income": NaN}}', 400, "malformed_json", "NaN"),
        (b'{"indicators": {"declared_income": Infinity}}', 400, "malformed_json", "Infinity"),
        (b'{"indicators": {"declared_income": -Infinity}}', 400, "malformed_json", "nfinity"),
        (b'{"indicators": {"declared_income": 1e999}}', 400, "malformed_json", "infinity"),
        (b'{"indicators": {', 400, "malformed_json", "character"),
        (b'{"indicators": {"a": "\xff"}}', 400, "not_utf8", "0xff"),
        (b"{'indicators': {}}", 400, "malformed_json", "character"),
        ('{"indicators": {"税务": "良好"}}'.encode("gbk"), 400, "not_utf8", "UTF-8"),
        (b'{"indicators": {"debt_payments": 1, "debt_payments": 2}}', 400, "malformed_json", "'debt_payments'"),
        (b'{"indicators": {}, "indicators": {}}', 400, "malformed_json", "'indicators'"),
        (b'{"indicators": {"a": "b:c", "a": 1}}', 400, "malformed_json", "'a'"),
        (b'{"indicators": [{"a": 1, "\\u0061": 1}]}', 400, "malformed_json", "'a'"),
        (b'{"indicators": {"a:b": 1}, "model": "a:b"}', 404, "unknown_model", ""),
        (b'{"a": ' + b"[" * 1_000 + b'":"' + b"]" * 1_000 + b"}", 400, "malformed_json", "100 levels"),
        (b"[" * 5_000, 400, "malformed_json", "Depth"),
        (b"[]", 422, "invalid_request", ""),
        (b"null", 422, "invalid_request", ""),
        (b"{}", 422, "invalid_request", ""),
        (b'{"indicators": {}, "subject_id": "x"}', 422, "invalid_request", ""),
        (b'{"indicators": 5}', 422, "invalid_request", ""),
        (b'{"subject_id": ""}', 422, "invalid_request", ""),
        (b'{"subject_id": 5}', 422, "invalid_request", ""),
        (b'{"indicators": {}, "modell": "x"}', 422, "invalid_request", ""),
        (b'{"indicators": {}, "person": "yes"}', 422, "invalid_request", ""),
        (b'{"indicators": {}, "model": "nothing"}', 404, "unknown_model", "credit_limit"),
        (b'{"indicators": {}, "model": 5}', 422, "invalid_request", ""),
    ],
)
def test_a_body_that_is_not_a_request_is_refused(inside, body, status, kind, word):
    async def story(client, gateway):
        problem, _ = await refused(client, status, kind, content=body, headers=JSON)
        assert word in problem["detail"]

    inside(story)


def test_a_body_over_the_limit_is_refused_before_it_is_read(inside):
    asked_for = 0

    async def endless():
        nonlocal asked_for
        while True:
            asked_for += 1
            yield b" " * 100_000

    async def story(client, gateway):
        problem, _ = await refused(client, 413, "body_too_large", content=endless(), headers=JSON)
        assert "1,000,000 bytes" in problem["detail"]
        announced = JSON | {"Content-Length": "10000000"}
        await refused(client, 413, "body_too_large", content=endless(), headers=announced)

    inside(story)
    assert asked_for < 40  # the test's client, which has no wire, collects what is sent


def test_other_media_types_are_refused(inside):
    async def story(client, gateway):
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json-patch+json"):
            problem, _ = await refused(
                client, 415, "unsupported_media_type", content=b"{}", headers={"Content-Type": media_type}
            )
            assert media_type in problem["detail"]
        await refused(client, 415, "unsupported_media_type", content=b"{}")

    inside(story)


def test_unknown_paths_and_methods_are_problems_too(inside):
    async def story(client, gateway):
        await refused(client, 404, "not_found", method="GET", url="/v2")
        await refused(client, 404, "not_found", method="GET", url="/v1/decisions/none/none")
        await refused(client, 404, "not_found", method="GET", url="/problems/none")
        _, answer = await refused(client, 405, "method_not_allowed", method="GET")
        assert answer.headers["allow"] == "POST"
        _, answer = await refused(client, 405, "method_not_allowed", method="DELETE", url="/v1/models")
        assert answer.headers["allow"] == "GET, HEAD"

    inside(story)


@pytest.mark.parametrize(
    "decision_id", ["0" * 32, "nonsense", "0" * 32 + "-1", "0" * 32 + "-0", "%00", "0" * 32 + "-99999999999"]
)
def test_an_unknown_decision_is_not_found(inside, decision_id):
    async def story(client, gateway):
        await refused(client, 404, "unknown_decision", method="GET", url=f"/v1/decisions/{decision_id}")
        await refused(client, 404, "unknown_batch", method="GET", url=f"/v1/batches/{decision_id}")

    inside(story)


@pytest.mark.parametrize("key", ["", "two words", "x" * 256])
def test_an_unusable_idempotency_key_is_refused(inside, applicant, key):
    async def story(client, gateway):
        await refused(client, 400, "bad_header", json={"indicators": applicant}, headers={"Idempotency-Key": key})

    inside(story)


def test_headers_beyond_the_limit_are_refused(inside, applicant):
    async def story(client, gateway):
        await refused(
            client, 431, "headers_too_large", json={"indicators": applicant}, headers={"X-Much": "x" * 20_000}
        )

    inside(story)


def test_a_body_that_never_ends_times_out(settings, applicant):
    hasty = settings.model_copy(update={"limits": settings.limits.model_copy(update={"body_timeout_seconds": 0.2})})

    async def story(client, gateway):
        async def receive():
            if receive.first:
                receive.first = False
                return {"type": "http.request", "body": b"{", "more_body": True}
            return await asyncio.sleep(60)

        receive.first = True
        sent = []

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": URL,
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await gateway(scope, receive, send)
        assert sent[0]["status"] == 408
        assert json.loads(sent[1]["body"])["type"] == "/problems/slow_request"

    run_inside(hasty, story)


def test_a_request_id_is_echoed_or_generated(inside):
    async def story(client, gateway):
        given = await client.get("/healthz/live", headers={"X-Request-Id": "bank-7.1"})
        assert given.headers["x-request-id"] == "bank-7.1"
        made = await client.get("/healthz/live", headers={"X-Request-Id": "not\tfit"})
        assert re.fullmatch(r"[0-9a-f]{32}", made.headers["x-request-id"])

    inside(story)


@pytest.mark.parametrize("kind", PROBLEM_TYPES)
def test_each_type_of_problem_can_be_rendered_and_looked_up(inside, kind):
    problem = json.loads(ProblemError(kind, actual="F", expected="N").render("r"))
    assert "{" not in problem["detail"] + problem["detail_zh"]
    assert CHINESE.search(problem["title_zh"])

    async def story(client, gateway):
        assert (await client.get(problem["type"])).json()["status"] == problem["status"]

    inside(story)


def test_an_unexpected_error_is_logged_and_returned_without_details(inside, applicant, monkeypatch, caplog):
    async def story(client, gateway):
        with monkeypatch.context() as patched:
            patched.setattr(gateway.service, "deployed_model", lambda *args: 1 / 0)
            problem, _ = await refused(client, 500, "internal", json={"indicators": applicant})
        assert "ZeroDivision" not in json.dumps(problem)
        assert "ZeroDivisionError" in caplog.text

    inside(story)
