"""Who signed in, who looked at whom and which tokens and keys were issued are events in the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from typer.testing import CliRunner

from datasets.credit_limit.county import schema as county_schema
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import load_authenticator, open_log_store
from serving.core.audit.verify import load_public_key
from serving.core.db.schema import EVENTS
from serving.core.security.token_issuer import issue_token
from tests.serving.conftest import Inside, bearer_of, put_subject, rows, vault_of

URL = "/v1/credit-limits"


def events(settings, kind: str) -> list[dict]:
    query = sa.select(EVENTS).where(EVENTS.c.kind == kind).order_by(EVENTS.c.id)
    return [dict(row._mapping) for row in rows(settings, query)]


def findings(settings) -> list[str]:
    engine = open_log_store(settings)
    key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    report = audit_store(engine, key, settings.paths.checkpoints, authenticator)
    engine.dispose()
    return [str(finding) for finding in report.findings]


def strict(settings):
    return settings.model_copy(update={"access": settings.access.model_copy(update={"required": True})})


def test_a_look_at_a_decision_names_who_looked_at_whom_and_why_and_stands_in_the_trace(settings, applicant):
    settings = strict(settings)
    engine = open_log_store(settings)
    put_subject(engine, settings, county_schema.TABLE, "H-1", applicant)
    engine.dispose()
    bank, operator = bearer_of(settings, "bank"), bearer_of(settings, "operator")

    async def story(client, gateway):
        decision = (await client.post(URL, json={"subject_id": "H-1"}, headers=bank)).json()["decision_id"]
        for _ in range(50):
            headers = bank | {"Access-Reason": "complaint 17"}
            assert (await client.get(f"/v1/decisions/{decision}", headers=headers)).status_code == 200
        assert (await client.get(f"/v1/decisions/{'0' * 32}", headers=bank)).status_code == 404
        for _ in range(2):
            trace = await client.get("/v1/subjects/H-1/trace?product=credit_limit", headers=operator)
            await next(route for name, route in gateway.service.loops.items() if name == "access_log").__self__.flush()
        return decision, trace.json()

    with Inside(settings) as running:
        decision, trace = running.run(story)
    pseudonym = vault_of(settings).pseudonym("credit_limit", "H-1")
    reads = [(event["by"], event["about"], event["what"], event["reason"]) for event in events(settings, "read")]
    assert reads == [
        ("bank", decision, "GET /v1/decisions/{id}", "complaint 17"),
        ("operator", pseudonym, "GET /v1/subjects/{id}/trace", ""),
    ]
    [links] = [node["links"] for node in trace["links"] if node["kind"] == "reads"]
    assert [(link["by"], link["reason"]) for link in links] == [("operator", ""), ("bank", "complaint 17")]
    assert findings(settings) == []


def test_sign_ins_sign_outs_and_refused_tokens_are_events(settings):
    settings = strict(settings)
    options = {"tenant": "clinic", "roles": ["clinic"], "subject": "li.si"}
    token = issue_token(settings.paths.tokens, settings.access.audience, **options)
    page = {"Sec-Fetch-Site": "same-origin"}

    async def story(client, gateway):
        assert (await client.post("/v1/session", json={"token": "x" * 40}, headers=page)).status_code == 401
        assert (await client.post("/v1/session", json={"token": token}, headers=page)).status_code == 200
        headers = page | {"Cookie": f"yuheng_session={token}"}
        assert (await client.delete("/v1/session", headers=headers)).status_code == 204

    with Inside(settings) as running:
        running.run(story)
    assert [(event["tenant"], event["by"]) for event in events(settings, "sign_in")] == [("clinic", "li.si")]
    assert [(event["tenant"], event["by"]) for event in events(settings, "sign_out")] == [("clinic", "li.si")]
    assert [event["what"] for event in events(settings, "sign_in_refused")] == ["POST /v1/session, 1 times"]
    assert findings(settings) == []


def test_each_key_is_recorded_when_it_is_first_used_and_when_another_one_replaces_it(settings):
    for _ in range(2):
        with Inside(settings):
            pass
    first = events(settings, "key")
    assert {event["what"] for event in first} - {"tokens"} == {"vault_key", "entry_key", "log_key", "bundles"}
    assert len(first) == len({event["what"] for event in first})
    settings.paths.log_key.unlink()
    settings.paths.log_key.with_suffix(".pub.pem").unlink()
    with Inside(settings):
        pass
    assert [event["what"] for event in events(settings, "key")[len(first) :]] == ["log_key"]


def test_a_token_issued_by_the_command_is_an_event(settings, monkeypatch):
    from serving.__main__ import app

    for name in ("store", "log_key", "entry_key", "tokens"):
        monkeypatch.setenv(f"YUHENG_{name.upper()}", str(getattr(settings.paths, name)))
    monkeypatch.setenv("YUHENG_STORE_URL", settings.store.url)
    words = ["token", "--tenant", "clinic", "--role", "clinic", "--subject", "li.si", "--hours", "8"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    [event] = events(settings, "token")
    assert (event["tenant"], event["about"], event["what"]) == ("clinic", "li.si", "token of 8 hours for clinic")
    assert event["by"].startswith("command line, ")


def test_an_event_edited_deleted_or_added_is_reported(settings):
    with Inside(settings):
        pass
    for statement, kind in (
        (sa.update(EVENTS).where(EVENTS.c.what == "log_key").values(by="nobody"), "edited"),
        (sa.delete(EVENTS).where(EVENTS.c.what == "log_key"), "deleted"),
        (sa.update(EVENTS).where(EVENTS.c.what == "log_key").values(leaf=0), "reordered"),
        (
            sa.insert(EVENTS).from_select(
                EVENTS.c.keys(),
                sa.select(*(sa.literal("f" * 32) if c.name == "id" else c for c in EVENTS.c)).where(
                    EVENTS.c.what == "log_key"
                ),
            ),
            "added",
        ),
    ):
        engine = open_log_store(settings)
        with engine.begin() as connection:
            before = [dict(row._mapping) for row in connection.execute(sa.select(EVENTS))]
            connection.execute(statement)
        assert any(line.startswith(kind) for line in findings(settings)), kind
        with engine.begin() as connection:
            connection.execute(sa.delete(EVENTS))
            connection.execute(sa.insert(EVENTS), before)
        engine.dispose()
