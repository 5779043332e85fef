"""Slides over HTTP: submission by reference, the worklist, event streams, cancellation."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import time

import httpx
import pytest

from serving.core.audit.authenticator import open_log_store
from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from serving.pathology.slides import upload_store
from serving.settings import load_settings
from tests.serving.conftest import Inside, settings_for
from tests.serving.pathology.conftest import FORM, READING, problem, put_slide, sha256

CONTENT = b"a slide of few bytes"


async def wait_for_state(client, slide_id: str, state: str) -> dict:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        slide = (await client.get(f"/v1/slides/{slide_id}")).json()
        if slide["state"] == state:
            return slide
        await asyncio.sleep(0.02)
    raise AssertionError(slide)


@pytest.fixture
def inbox(slide_settings):
    folder = slide_settings.paths.slide_inbox / "local"
    (folder / "2026").mkdir(parents=True)
    (folder / "2026" / "a.svs").write_bytes(CONTENT)
    return folder


def submission(**changes) -> dict:
    return FORM | {"reference": "2026/a.svs", "sha256": sha256(CONTENT)} | changes


# --- submission by reference


def test_an_inbox_file_is_copied_and_verified(clinic, inbox):
    async def story(client, gateway):
        submitted = await client.post("/v1/slides", json=submission(mpp=0.5))
        assert submitted.status_code == 202
        slide = submitted.json()["slide_id"]
        assert submitted.headers["location"] == f"/v1/slides/{slide}"
        slide_row = await wait_for_state(client, slide, "verifying")
        assert (slide_row["bytes"], slide_row["mpp"], slide_row["request"]) == (len(CONTENT), 0.5, FORM)
        copied = gateway.settings.paths.slides / slide / "quarantine" / "a.svs"
        assert copied.read_bytes() == CONTENT
        notes = [event["detail"] for event in slide_store.events_after(gateway.service.store.engine, slide)]
        assert {"code": "mpp_by_operator", "mpp": 0.5} in notes

    clinic.run(story)


def test_a_slide_submitted_twice_is_one_slide_unless_the_accession_number_differs(clinic, inbox):
    async def story(client, gateway):
        first = await client.post("/v1/slides", json=submission())
        again = await client.post("/v1/slides", json=submission())
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert again.json()["slide_id"] == first.json()["slide_id"]
        await wait_for_state(client, first.json()["slide_id"], "verifying")
        other = await client.post("/v1/slides", json=submission(accession="C26-9"))
        assert other.status_code == 202
        slide = await wait_for_state(client, other.json()["slide_id"], "verifying")
        assert [note["code"] for note in slide["notes"]] == ["same_content"]

    clinic.run(story)


def test_content_other_than_announced_fails_the_slide_and_reports_both_digests(clinic, inbox):
    async def story(client, gateway):
        submitted = await client.post("/v1/slides", json=submission(sha256=sha256(b"other")))
        slide = await wait_for_state(client, submitted.json()["slide_id"], "failed")
        assert slide["code"] == "sha256"
        assert sha256(CONTENT) in slide["reasons"][0]["en"]
        again = await client.post("/v1/slides", json=submission())
        assert again.status_code == 202
        await wait_for_state(client, again.json()["slide_id"], "verifying")

    clinic.run(story)


def test_a_reference_outside_the_inbox_is_refused(clinic, inbox, tmp_path):
    (tmp_path / "secret.svs").write_bytes(CONTENT)
    (inbox / "link.svs").symlink_to(tmp_path / "secret.svs")
    (inbox / "away").symlink_to(tmp_path)
    (inbox / "empty.svs").touch()
    os.mkfifo(inbox / "pipe.svs")

    async def story(client, gateway):
        wrong = (
            *("../secret.svs", "2026/../../secret.svs", str(tmp_path / "secret.svs"), "link.svs", "away/secret.svs"),
            *("2026", "none.svs", "./2026/a.svs", "2026//a.svs", "2026\\a.svs", "a\0b", "pipe.svs", "empty.svs", "", 5),
        )
        for reference in wrong:
            response = await client.post("/v1/slides", json=submission(reference=reference))
            assert problem(response) == (422, "invalid_request"), reference
            assert [error["field"] for error in response.json()["errors"]] == ["reference"]
        assert (await client.get("/v1/slides")).json()["slides"] == []

    clinic.run(story)


def test_errors_of_form_digest_and_reference_are_reported_together(clinic):
    async def story(client, gateway):
        response = await client.post(
            "/v1/slides", json={"reference": "none.svs", "sha256": "AB", "stain": "blue", "x": 1}
        )
        fields = {error["field"] for error in response.json()["errors"]}
        assert fields == {"reference", "sha256", "accession", "specimen", "preparation", "stain", "x"}
        assert problem(await client.post("/v1/slides", json=[])) == (400, "malformed_json")

    clinic.run(story)


def test_a_copy_interrupted_by_a_crash_is_made_again(slide_settings, inbox):
    with Inside(slide_settings) as first:

        async def begin(client, gateway):
            gateway.pathology.intake.start_copy = lambda upload: None  # as if the process had died here
            return (await client.post("/v1/slides", json=submission())).json()["slide_id"]

        slide = first.run(begin)
    with Inside(slide_settings) as second:
        second.run(lambda client, gateway: wait_for_state(client, slide, "verifying"))


def test_a_full_disk_is_noted_and_the_copy_is_made_once_there_is_space(clinic, inbox):
    """A limit on file sizes stands in for a full disk: writes beyond it fail."""
    content = os.urandom(5_000_000)
    (inbox / "big.svs").write_bytes(content)
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    async def story(client, gateway):
        submitted = await client.post("/v1/slides", json=submission(reference="big.svs", sha256=sha256(content)))
        slide = submitted.json()["slide_id"]
        notes = []
        while {"no_space"} - {*notes}:
            await asyncio.sleep(0.02)
            events = slide_store.events_after(gateway.service.store.engine, slide)
            notes = [event["detail"].get("code") for event in events]
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "uploading"
        await client.post("/v1/slides", json=submission())  # another slide proceeds
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        upload = upload_store.uploads_of_slide(gateway.service.store.engine, slide)[0]["id"]
        while gateway.pathology.intake.locks.is_held(upload):
            await asyncio.sleep(0.02)
        await gateway.pathology.intake.sweep()
        await wait_for_state(client, slide, "verifying")

    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))
    try:
        clinic.run(story)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_an_idempotency_key_stands_for_one_submission(clinic, inbox):
    async def story(client, gateway):
        key = {"Idempotency-Key": "one"}
        first = await client.post("/v1/slides", json=submission(), headers=key)
        again = await client.post("/v1/slides", json=submission(), headers=key)
        assert again.json()["slide_id"] == first.json()["slide_id"]
        other = await client.post("/v1/slides", json=submission(accession="C2"), headers=key)
        assert problem(other) == (409, "key_reused")

    clinic.run(story)


# --- the worklist


def test_the_worklist_shows_urgent_slides_first_and_can_leave_out_what_needs_no_review(clinic):
    async def story(client, gateway):
        negative = READING | {"triage": "negative", "priority": 10}
        unselected = put_slide(gateway, "ready", reading=negative)
        selected = put_slide(gateway, "ready", reading=negative, audit=True)
        urgent = put_slide(gateway, "ready", reading=READING | {"priority": 95})
        usual = put_slide(gateway, "ready")
        queued = put_slide(gateway, "queued")
        rows = (await client.get("/v1/slides")).json()["slides"]
        assert [row["slide_id"] for row in rows] == [urgent, usual, *sorted([unselected, selected]), queued]
        flags = {row["slide_id"]: (row["audit"], row["to_review"]) for row in rows}
        assert flags[selected] == (False, True)  # the selection is visible only after signature
        assert flags[unselected] == (False, False)
        assert flags[usual] == (False, True)
        to_review = (await client.get("/v1/slides?review=true")).json()["slides"]
        assert [row["slide_id"] for row in to_review] == [urgent, usual, selected]
        assert "reading" not in rows[0]

    clinic.run(story)


def test_the_worklist_is_paged_and_checks_its_parameters(clinic):
    async def story(client, gateway):
        created = {put_slide(gateway, "queued") for _ in range(5)}
        ids, after = [], ""
        while after is not None:
            page = (await client.get(f"/v1/slides?limit=2{after and '&after=' + after}")).json()
            ids += [row["slide_id"] for row in page["slides"]]
            after = page["next"]
        assert set(ids) == created
        assert len(ids) == 5
        slide = put_slide(gateway, "queued", accession="C26-7 乙")
        [row] = (await client.get("/v1/slides", params={"accession": "C26-7 乙"})).json()["slides"]
        assert row["slide_id"] == slide
        assert (await client.get("/v1/slides?accession=C26-7")).json()["slides"] == []
        wrong = await client.get("/v1/slides?limit=0&state=lost&review=maybe&colour=red&accession=%00")
        assert problem(wrong) == (422, "bad_parameter")
        fields = {error["field"] for error in wrong.json()["errors"]}
        assert fields == {"limit", "state", "review", "colour", "accession"}
        assert problem(await client.get("/v1/slides?after=none")) == (422, "bad_parameter")
        assert problem(await client.get(f"/v1/slides?after={'0' * 32}")) == (404, "unknown_slide")

    clinic.run(story)


# --- one slide


def test_an_unknown_slide_is_a_problem(clinic):
    async def story(client, gateway):
        for slide_id in ("0" * 32, "none", "..%2f.."):
            response = await client.get(f"/v1/slides/{slide_id}")
            assert response.status_code == 404
        assert problem(await client.post(f"/v1/slides/{'0' * 32}/cancel")) == (404, "unknown_slide")

    clinic.run(story)


def test_a_slide_can_be_cancelled_until_it_has_been_read(clinic):
    async def story(client, gateway):
        slide = put_slide(gateway, "inferring")
        for _ in range(2):
            response = await client.post(f"/v1/slides/{slide}/cancel")
            assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        ready = put_slide(gateway, "ready")
        assert problem(await client.post(f"/v1/slides/{ready}/cancel")) == (409, "slide_state")

    clinic.run(story)


# --- event streams


def parse_events(lines) -> list[dict]:
    """The complete events among the lines of a stream."""
    events, now = [], {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            now[name] = value
        elif now:
            events.append(now)
            now = {}
    return [event for event in events if "data" in event]


def test_an_event_stream_has_every_state_and_progress_and_then_ends(slide_service):
    """Over a real connection, while this process changes the slide's state as the worker would."""
    engine = open_log_store(load_settings(environ=slide_service.environ), 5.0)
    slide = new_id()
    slide_store.create(engine, slide, state="verifying", **FORM)
    url = f"{slide_service.url}/v1/slides/{slide}"
    lines = []
    with httpx.stream("GET", url, headers={"Accept": "text/event-stream"}, timeout=20) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        for line in stream.iter_lines():
            lines.append(line)
            if line == "" and len(parse_events(lines)) == 1 and len(lines) < 8:
                for state in ("deidentified", "quality_passed", "queued", "inferring"):
                    slide_store.transition(engine, slide, state)
                slide_store.record_progress(engine, slide, 256, 900)
                slide_store.record_progress(engine, slide, 900, 900)
                slide_store.transition(engine, slide, "aggregating")
                slide_store.transition(engine, slide, "ready", reading=READING)
    events = parse_events(lines)
    assert [event["event"] for event in events] == ["state"] * 5 + ["progress"] * 2 + ["state"] * 2
    payloads = [json.loads(event["data"]) for event in events]
    assert [payload["state"] for payload in payloads][-1] == "ready"
    assert payloads[5]["detail"] == {"done": 256, "total": 900}
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(ids)
    resume_headers = {"Accept": "text/event-stream", "Last-Event-ID": str(ids[-3])}
    with httpx.stream("GET", url, headers=resume_headers, timeout=20) as stream:
        resumed = parse_events(stream.iter_lines())
    assert [int(event["id"]) for event in resumed] == ids[-2:]
    done = httpx.get(url, headers=resume_headers | {"Last-Event-ID": str(ids[-1])})
    assert done.status_code == 204
    wrong = httpx.get(url, headers=resume_headers | {"Last-Event-ID": "x"})
    assert problem(wrong) == (400, "bad_header")
    engine.dispose()


def test_event_streams_are_limited_kept_alive_and_freed_on_disconnect(made, tmp_path):
    environ = {"YUHENG_SLIDES_MAX_EVENT_STREAMS": "1", "YUHENG_SLIDES_HEARTBEAT_SECONDS": "0.05"}
    settings = settings_for(tmp_path / "bundles", made, tmp_path, YUHENG_SLIDES_POLL_SECONDS="0.02", **environ)
    with Inside(settings) as running:

        async def story(client, gateway):
            slide = put_slide(gateway, "queued")
            events = gateway.pathology.event_stream
            disconnected, sent = asyncio.Event(), []

            async def receive():
                await disconnected.wait()
                return {"type": "http.disconnect"}

            async def send(message):
                sent.append(message.get("body", b""))

            headers = [(b"accept", b"text/event-stream")]
            scope = {"type": "http", "method": "GET", "path": f"/v1/slides/{slide}", "headers": headers}
            listener = asyncio.create_task(gateway(scope | {"query_string": b""}, receive, send))
            while b": still here\n\n" not in sent:
                await asyncio.sleep(0.01)
            assert events.places.taken == 1
            second = await client.get(f"/v1/slides/{slide}", headers={"Accept": "text/event-stream"})
            assert problem(second) == (503, "overloaded")
            disconnected.set()
            await listener
            assert events.places.taken == 0

        running.run(story)
