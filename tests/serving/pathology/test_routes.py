"""Slides over HTTP: named instead of sent, listed in order, told of as they go, cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import time

import httpx
import pytest

from serving.app import App
from serving.core.db.engine import create_engine
from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import Inside, settings_for, store_url
from tests.serving.pathology.conftest import FORM, READING, put, sha256

CONTENT = b"a slide of few bytes"


def problem(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


async def until(client, slide: str, state: str) -> dict:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = (await client.get(f"/v1/slides/{slide}")).json()
        if found["state"] == state:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(found)


@pytest.fixture
def inbox(slide_settings):
    folder = slide_settings.paths.slide_inbox / "local"
    (folder / "2026").mkdir(parents=True)
    (folder / "2026" / "a.svs").write_bytes(CONTENT)
    return folder


def submission(**changed) -> dict:
    return FORM | {"reference": "2026/a.svs", "sha256": sha256(CONTENT)} | changed


# --- by reference


def test_a_slide_of_the_inbox_is_copied_verified_and_goes_on(clinic, inbox):
    async def story(client, gateway):
        taken = await client.post("/v1/slides", json=submission(mpp=0.5))
        assert taken.status_code == 202
        slide = taken.json()["slide_id"]
        assert taken.headers["location"] == f"/v1/slides/{slide}"
        found = await until(client, slide, "verifying")
        assert (found["bytes"], found["mpp"], found["request"]) == (len(CONTENT), 0.5, FORM)
        copied = gateway.settings.paths.slides / slide / "quarantine" / "a.svs"
        assert copied.read_bytes() == CONTENT
        notes = [event["detail"] for event in slide_store.events_after(gateway.service.store.engine, slide)]
        assert {"code": "mpp_by_operator", "mpp": 0.5} in notes

    clinic.run(story)


def test_the_same_slide_named_twice_is_the_same_and_under_another_accession_another(clinic, inbox):
    async def story(client, gateway):
        first = await client.post("/v1/slides", json=submission())
        again = await client.post("/v1/slides", json=submission())
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert again.json()["slide_id"] == first.json()["slide_id"]
        await until(client, first.json()["slide_id"], "verifying")
        other = await client.post("/v1/slides", json=submission(accession="C26-9"))
        assert other.status_code == 202
        found = await until(client, other.json()["slide_id"], "verifying")
        assert [note["code"] for note in found["notes"]] == ["same_content"]

    clinic.run(story)


def test_another_content_than_announced_fails_the_slide_with_both_digests(clinic, inbox):
    async def story(client, gateway):
        taken = await client.post("/v1/slides", json=submission(sha256=sha256(b"other")))
        found = await until(client, taken.json()["slide_id"], "failed")
        assert found["code"] == "sha256"
        assert sha256(CONTENT) in found["reasons"][0]["en"]
        again = await client.post("/v1/slides", json=submission())
        assert again.status_code == 202
        await until(client, again.json()["slide_id"], "verifying")

    clinic.run(story)


def test_nothing_outside_the_inbox_is_named(clinic, inbox, tmp_path):
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
            found = await client.post("/v1/slides", json=submission(reference=reference))
            assert problem(found) == (422, "invalid_request"), reference
            assert [error["field"] for error in found.json()["errors"]] == ["reference"]
        assert (await client.get("/v1/slides")).json()["slides"] == []

    clinic.run(story)


def test_form_digest_and_reference_are_judged_together(clinic):
    async def story(client, gateway):
        found = await client.post("/v1/slides", json={"reference": "none.svs", "sha256": "AB", "stain": "blue", "x": 1})
        fields = {error["field"] for error in found.json()["errors"]}
        assert fields == {"reference", "sha256", "accession", "specimen", "preparation", "stain", "x"}
        assert problem(await client.post("/v1/slides", json=[])) == (400, "malformed_json")

    clinic.run(story)


def test_a_copy_that_a_crash_broke_off_is_made_anew(slide_settings, inbox):
    with Inside(slide_settings) as first:

        async def begin(client, gateway):
            gateway.pathology.intake.start_copy = lambda upload: None  # as if the process had died here
            return (await client.post("/v1/slides", json=submission())).json()["slide_id"]

        slide = first.run(begin)
    with Inside(slide_settings) as second:
        second.run(lambda client, gateway: until(client, slide, "verifying"))


def test_a_disk_that_takes_no_more_is_told_and_the_copy_made_when_it_does(clinic, inbox):
    """A limit on the size of files stands for a full disk: writes beyond it fail."""
    content = os.urandom(5_000_000)
    (inbox / "big.svs").write_bytes(content)
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    async def story(client, gateway):
        taken = await client.post("/v1/slides", json=submission(reference="big.svs", sha256=sha256(content)))
        slide = taken.json()["slide_id"]
        notes = []
        while {"no_space"} - {*notes}:
            await asyncio.sleep(0.02)
            events = slide_store.events_after(gateway.service.store.engine, slide)
            notes = [event["detail"].get("code") for event in events]
        assert (await client.get(f"/v1/slides/{slide}")).json()["state"] == "uploading"
        await client.post("/v1/slides", json=submission())  # another slide goes on
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        while gateway.pathology.intake.busy_uploads:
            await asyncio.sleep(0.02)
        await gateway.pathology.intake.sweep()
        await until(client, slide, "verifying")

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


def test_the_worklist_shows_the_urgent_first_and_leaves_out_what_nobody_needs_to_see(clinic):
    async def story(client, gateway):
        negative = READING | {"triage": "negative", "priority": 10}
        calm = put(gateway, "ready", reading=negative)
        drawn = put(gateway, "ready", reading=negative, audit=True)
        urgent = put(gateway, "ready", reading=READING | {"priority": 95})
        usual = put(gateway, "ready")
        queued = put(gateway, "queued")
        rows = (await client.get("/v1/slides")).json()["slides"]
        assert [row["slide_id"] for row in rows] == [urgent, usual, *sorted([calm, drawn]), queued]
        flags = {row["slide_id"]: (row["audit"], row["to_review"]) for row in rows}
        assert flags[drawn] == (False, True)  # of which they are told once it is signed
        assert flags[calm] == (False, False)
        assert flags[usual] == (False, True)
        to_review = (await client.get("/v1/slides?review=true")).json()["slides"]
        assert [row["slide_id"] for row in to_review] == [urgent, usual, drawn]
        assert "reading" not in rows[0]

    clinic.run(story)


def test_the_worklist_is_paged_and_its_parameters_are_checked(clinic):
    async def story(client, gateway):
        made = {put(gateway, "queued") for _ in range(5)}
        found, after = [], ""
        while after is not None:
            page = (await client.get(f"/v1/slides?limit=2{after and '&after=' + after}")).json()
            found += [row["slide_id"] for row in page["slides"]]
            after = page["next"]
        assert set(found) == made
        assert len(found) == 5
        wanted = put(gateway, "queued", accession="C26-7 乙")
        [one] = (await client.get("/v1/slides", params={"accession": "C26-7 乙"})).json()["slides"]
        assert one["slide_id"] == wanted
        assert (await client.get("/v1/slides?accession=C26-7")).json()["slides"] == []
        wrong = await client.get("/v1/slides?limit=0&state=lost&review=maybe&colour=red&accession=%00")
        assert problem(wrong) == (422, "bad_parameter")
        faults = {error["field"] for error in wrong.json()["errors"]}
        assert faults == {"limit", "state", "review", "colour", "accession"}
        assert problem(await client.get("/v1/slides?after=none")) == (422, "bad_parameter")
        assert problem(await client.get(f"/v1/slides?after={'0' * 32}")) == (404, "unknown_slide")

    clinic.run(story)


def test_about_a_tenth_is_drawn_for_audit_and_always_the_same(slide_settings):
    first, second = (App(slide_settings).pathology.context for _ in range(2))
    ids = [f"{at:032x}" for at in range(3_000)]
    drawn = [slide for slide in ids if first.selected_for_audit(slide)]
    assert 200 < len(drawn) < 400
    assert drawn == [slide for slide in ids if second.selected_for_audit(slide)]
    assert (slide_settings.paths.slides / "audit.key").stat().st_mode & 0o777 == 0o600


# --- one slide


def test_a_slide_that_is_not_there_is_a_problem(clinic):
    async def story(client, gateway):
        for wanted in ("0" * 32, "none", "..%2f.."):
            found = await client.get(f"/v1/slides/{wanted}")
            assert found.status_code == 404
        assert problem(await client.post(f"/v1/slides/{'0' * 32}/cancel")) == (404, "unknown_slide")

    clinic.run(story)


def test_a_slide_is_cancelled_once_and_not_when_it_is_read(clinic):
    async def story(client, gateway):
        slide = put(gateway, "inferring")
        for _ in range(2):
            found = await client.post(f"/v1/slides/{slide}/cancel")
            assert (found.status_code, found.json()["state"]) == (200, "cancelled")
        ready = put(gateway, "ready")
        assert problem(await client.post(f"/v1/slides/{ready}/cancel")) == (409, "slide_state")

    clinic.run(story)


# --- as it happens


def heard(lines) -> list[dict]:
    """Events of a stream, whole ones."""
    events, now = [], {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            now[name] = value
        elif now:
            events.append(now)
            now = {}
    return [event for event in events if "data" in event]


def test_a_listener_hears_each_state_and_progress_and_the_end(slide_service):
    """Over a real line, while the slide moves in another process: here, as the worker would."""
    engine = create_engine(store_url(slide_service.environ), 5.0)
    slide = new_id()
    slide_store.create(engine, slide, state="verifying", **FORM)
    place = f"{slide_service.url}/v1/slides/{slide}"
    lines = []
    with httpx.stream("GET", place, headers={"Accept": "text/event-stream"}, timeout=20) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        for line in stream.iter_lines():
            lines.append(line)
            if line == "" and len(heard(lines)) == 1 and len(lines) < 8:
                for state in ("deidentified", "quality_passed", "queued", "inferring"):
                    slide_store.transition(engine, slide, state)
                slide_store.record_progress(engine, slide, 256, 900)
                slide_store.record_progress(engine, slide, 900, 900)
                slide_store.transition(engine, slide, "aggregating")
                slide_store.transition(engine, slide, "ready", reading=READING)
    events = heard(lines)
    assert [event["event"] for event in events] == ["state"] * 5 + ["progress"] * 2 + ["state"] * 2
    told = [json.loads(event["data"]) for event in events]
    assert [one["state"] for one in told][-1] == "ready"
    assert told[5]["detail"] == {"done": 256, "total": 900}
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(ids)
    again = {"Accept": "text/event-stream", "Last-Event-ID": str(ids[-3])}
    with httpx.stream("GET", place, headers=again, timeout=20) as stream:
        resumed = heard(stream.iter_lines())
    assert [int(event["id"]) for event in resumed] == ids[-2:]
    done = httpx.get(place, headers=again | {"Last-Event-ID": str(ids[-1])})
    assert done.status_code == 204
    wrong = httpx.get(place, headers=again | {"Last-Event-ID": "x"})
    assert problem(wrong) == (400, "bad_header")
    engine.dispose()


def test_listeners_are_bounded_kept_awake_and_let_go_when_they_leave(made, tmp_path):
    environ = {"YUHENG_SLIDES_MAX_EVENT_STREAMS": "1", "YUHENG_SLIDES_HEARTBEAT_SECONDS": "0.05"}
    settings = settings_for(tmp_path / "bundles", made, tmp_path, YUHENG_SLIDES_POLL_SECONDS="0.02", **environ)
    with Inside(settings) as running:

        async def story(client, gateway):
            slide = put(gateway, "queued")
            events = gateway.pathology.event_stream
            gone, sent = asyncio.Event(), []

            async def receive():
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message):
                sent.append(message.get("body", b""))

            headers = [(b"accept", b"text/event-stream")]
            scope = {"type": "http", "method": "GET", "path": f"/v1/slides/{slide}", "headers": headers}
            listening = asyncio.create_task(gateway(scope | {"query_string": b""}, receive, send))
            while b": still here\n\n" not in sent:
                await asyncio.sleep(0.01)
            assert events.listener_count == 1
            second = await client.get(f"/v1/slides/{slide}", headers={"Accept": "text/event-stream"})
            assert problem(second) == (503, "overloaded")
            gone.set()
            await listening
            assert events.listener_count == 0

        running.run(story)
