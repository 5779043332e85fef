"""Turnaround times and the numbers of slides in each state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from serving.core.db.schema import SLIDE_EVENTS
from serving.pathology import turnaround
from serving.pathology.slides import store as slide_store
from tests.serving.pathology.conftest import FORM, READING, put_slide

NO_SLIDES = {"slides": 0, "median_seconds": None, "p90_seconds": None, "waiting": 0, "longest_wait_seconds": None}


def clock(minute: int) -> str:
    return f"2026-11-25T{8 + minute // 60:02}:{minute % 60:02}:00.000Z"


def test_times_run_from_complete_arrival_to_the_first_result_and_the_first_signature():
    state_times = [
        {
            "verifying": clock(0),
            "ready": clock(minute),
            "signed": clock(10 * minute),
        }
        for minute in range(1, 11)
    ]
    state_times += [
        {"verifying": clock(0)},
        {},
        {"verifying": clock(0), "abstained": clock(11)},
    ]
    payload = turnaround.turnaround_stats(state_times)
    assert payload["to_reading"] == NO_SLIDES | {"slides": 11, "median_seconds": 360.0, "p90_seconds": 600.0}
    assert payload["to_signature"] == NO_SLIDES | {"slides": 10, "median_seconds": 3_300.0, "p90_seconds": 5_400.0}


def test_without_slides_there_are_no_times():
    assert turnaround.turnaround_stats([]) == {"to_reading": NO_SLIDES, "to_signature": NO_SLIDES}


def test_waiting_slides_are_counted_apart_from_those_that_are_done(clinic):
    async def story(client, gateway):
        negative = READING | {"triage": "negative", "priority": 10}
        long_ago = (datetime.now(UTC) - timedelta(days=40)).isoformat(timespec="milliseconds")
        for state, columns in (
            ("uploading", {}),  # has not arrived
            *(("queued", {}), ("verifying", {}), ("ready", {}), ("in_review", {"reading": negative}), ("signed", {})),
            ("ready", {"reading": negative}),  # awaits nobody
            ("queued", {"tenant": "another"}),
        ):
            slide = put_slide(gateway, state, **columns)
            if state in ("queued", "ready") and not columns:
                with gateway.service.store.engine.begin() as connection:
                    mine = SLIDE_EVENTS.c.slide == slide
                    connection.execute(sa.update(SLIDE_EVENTS).where(mine).values(at=f"{long_ago[:23]}Z"))
        payload = (await client.get("/v1/slides/turnaround")).json()
        for name in ("to_reading", "to_signature"):
            assert payload[name]["waiting"] == 2
            assert 40 * 86_400 <= payload[name]["longest_wait_seconds"] < 40 * 86_400 + 60

    clinic.run(story)


def test_a_tenant_sees_only_its_own_slides(clinic):
    async def story(client, gateway):
        put_slide(gateway, "ready")
        put_slide(gateway, "signed")
        put_slide(gateway, "queued")
        put_slide(gateway, "signed", tenant="another")
        slide_store.create(
            gateway.service.store.engine, "0" * 31 + "1", **FORM, request=FORM, name="a.svs"
        )  # its id dates from 1970
        payload = (await client.get("/v1/slides/turnaround")).json()
        assert {state: count for state, count in payload["states"].items() if count} == {
            "ready": 1, "signed": 1, "queued": 1, "uploading": 1,
        }  # fmt: skip
        assert (payload["days"], payload["slides"]) == (30, 3)
        assert (payload["to_reading"]["slides"], payload["to_signature"]["slides"]) == (2, 1)
        assert 0 <= payload["to_signature"]["p90_seconds"] < 10
        refused = await client.get("/v1/slides/turnaround?days=3")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "days")

    clinic.run(story)


def test_a_negative_not_selected_for_audit_awaits_nobody(clinic):
    async def story(client, gateway):
        negative = READING | {"triage": "negative", "priority": 10}
        put_slide(gateway, "ready", reading=negative)
        put_slide(gateway, "ready", reading=negative, audit=True)
        put_slide(gateway, "ready")
        put_slide(gateway, "in_review")
        put_slide(gateway, "ready", tenant="another")
        payload = (await client.get("/v1/slides/turnaround")).json()
        assert (payload["states"]["ready"], payload["states"]["in_review"], payload["awaiting"]) == (3, 1, 2)

    clinic.run(story)


def test_the_worklist_can_be_filtered_by_specimen_and_by_signature(clinic):
    async def story(client, gateway):
        put_slide(gateway, "ready")
        breast = put_slide(gateway, "ready", specimen="breast_histology")
        rows = (await client.get("/v1/slides?specimen=breast_histology")).json()["slides"]
        assert [row["slide_id"] for row in rows] == [breast]
        signed = put_slide(gateway, "signed", specimen="breast_histology")
        for flag, expected in (("true", [signed]), ("false", [breast])):
            rows = (await client.get(f"/v1/slides?specimen=breast_histology&signed={flag}")).json()["slides"]
            assert [row["slide_id"] for row in rows] == expected
        refused = await client.get("/v1/slides?specimen=liver")
        assert refused.json()["errors"][0]["field"] == "specimen"

    clinic.run(story)


def test_the_selection_of_a_negative_for_audit_is_visible_only_after_signature(clinic):
    async def story(client, gateway):
        negative = {"triage": "negative", "priority": 10, "model": {"name": "p", "version": "3", "bundle": "ab" * 32}}
        for state, visible in (("ready", False), ("in_review", False), ("signed", True)):
            slide = put_slide(gateway, state, reading=negative, audit=True)
            assert (await client.get(f"/v1/slides/{slide}")).json()["audit"] is visible

    clinic.run(story)
