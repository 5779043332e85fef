"""How long slides take from arrival on, and how many there are in each state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from serving.core.db.schema import SLIDE_EVENTS
from serving.pathology import turnaround
from serving.pathology.slides import store as slide_store
from tests.serving.pathology.conftest import FORM, READING, put

NONE = {"slides": 0, "median_seconds": None, "p90_seconds": None, "waiting": 0, "longest_wait_seconds": None}


def at(minute: int) -> str:
    return f"2026-11-25T{8 + minute // 60:02}:{minute % 60:02}:00.000Z"


def test_times_run_from_the_arrival_of_the_whole_slide_to_its_first_answer_and_first_signature():
    moments = [{"verifying": at(0), "ready": at(minute), "signed": at(10 * minute)} for minute in range(1, 11)]
    moments += [{"verifying": at(0)}, {}, {"verifying": at(0), "abstained": at(11)}]
    told = turnaround.turnaround_stats(moments)
    assert told["to_reading"] == NONE | {"slides": 11, "median_seconds": 360.0, "p90_seconds": 600.0}
    assert told["to_signature"] == NONE | {"slides": 10, "median_seconds": 3_300.0, "p90_seconds": 5_400.0}


def test_of_no_slides_there_are_no_times():
    assert turnaround.turnaround_stats([]) == {"to_reading": NONE, "to_signature": NONE}


def test_what_still_waits_is_told_beside_the_times_of_what_is_done(clinic):
    async def story(client, gateway):
        negative = READING | {"triage": "negative", "priority": 10}
        long_ago = (datetime.now(UTC) - timedelta(days=40)).isoformat(timespec="milliseconds")
        for upto, columns in (
            ("uploading", {}),  # has not arrived
            *(("queued", {}), ("verifying", {}), ("ready", {}), ("in_review", {"reading": negative}), ("signed", {})),
            ("ready", {"reading": negative}),  # awaits nobody
            ("queued", {"tenant": "another"}),
        ):
            slide = put(gateway, upto, **columns)
            if upto in ("queued", "ready") and not columns:
                with gateway.service.store.engine.begin() as connection:
                    mine = SLIDE_EVENTS.c.slide == slide
                    connection.execute(sa.update(SLIDE_EVENTS).where(mine).values(at=f"{long_ago[:23]}Z"))
        told = (await client.get("/v1/slides/turnaround")).json()
        for name in ("to_reading", "to_signature"):
            assert told[name]["waiting"] == 2
            assert 40 * 86_400 <= told[name]["longest_wait_seconds"] < 40 * 86_400 + 60

    clinic.run(story)


def test_a_tenant_is_told_of_its_own_slides_alone(clinic):
    async def story(client, gateway):
        put(gateway, "ready")
        put(gateway, "signed")
        put(gateway, "queued")
        put(gateway, "signed", tenant="another")
        slide_store.create(gateway.service.store.engine, "0" * 31 + "1", **FORM, request=FORM, name="a.svs")  # of 1970
        told = (await client.get("/v1/slides/turnaround")).json()
        assert {state: count for state, count in told["states"].items() if count} == {
            "ready": 1, "signed": 1, "queued": 1, "uploading": 1,
        }  # fmt: skip
        assert (told["days"], told["slides"]) == (30, 3)
        assert (told["to_reading"]["slides"], told["to_signature"]["slides"]) == (2, 1)
        assert 0 <= told["to_signature"]["p90_seconds"] < 10
        refused = await client.get("/v1/slides/turnaround?days=3")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "days")

    clinic.run(story)


def test_a_negative_that_was_not_drawn_awaits_nobody(clinic):
    async def story(client, gateway):
        negative = READING | {"triage": "negative", "priority": 10}
        put(gateway, "ready", reading=negative)
        put(gateway, "ready", reading=negative, audit=True)
        put(gateway, "ready")
        put(gateway, "in_review")
        put(gateway, "ready", tenant="another")
        told = (await client.get("/v1/slides/turnaround")).json()
        assert (told["states"]["ready"], told["states"]["in_review"], told["awaiting"]) == (3, 1, 2)

    clinic.run(story)


def test_the_worklist_is_narrowed_to_a_specimen_and_to_what_is_signed_or_not(clinic):
    async def story(client, gateway):
        put(gateway, "ready")
        breast = put(gateway, "ready", specimen="breast_histology")
        rows = (await client.get("/v1/slides?specimen=breast_histology")).json()["slides"]
        assert [row["slide_id"] for row in rows] == [breast]
        signed = put(gateway, "signed", specimen="breast_histology")
        for asked, wanted in (("true", [signed]), ("false", [breast])):
            rows = (await client.get(f"/v1/slides?specimen=breast_histology&signed={asked}")).json()["slides"]
            assert [row["slide_id"] for row in rows] == wanted
        refused = await client.get("/v1/slides?specimen=liver")
        assert refused.json()["errors"][0]["field"] == "specimen"

    clinic.run(story)


def test_whether_a_negative_was_drawn_for_audit_is_told_once_it_is_signed(clinic):
    async def story(client, gateway):
        negative = {"triage": "negative", "priority": 10, "model": {"name": "p", "version": "3", "bundle": "ab" * 32}}
        for state, told in (("ready", False), ("in_review", False), ("signed", True)):
            slide = put(gateway, state, reading=negative, audit=True)
            assert (await client.get(f"/v1/slides/{slide}")).json()["audit"] is told

    clinic.run(story)
