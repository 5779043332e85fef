"""The charge for a broken batch that is sent again under its key: each answer once, and every new answer."""

from __future__ import annotations

import asyncio
import contextlib

import polars as pl
import pytest
import sqlalchemy as sa

from datasets.credit_limit.county import schema
from serving.core.audit.authenticator import open_log_store
from serving.core.db.codec import pack
from serving.core.db.schema import BATCH_CHUNKS, BATCHES, METER
from serving.core.http.problems import ProblemError
from serving.decisions.batch.recorder import BatchRecorder
from serving.decisions.batch.records import already_charged
from tests.serving.conftest import indicators, put_subject, rows, run_inside, settings_for
from tests.serving.decisions.batch.test_subjects import SMALL, URL, send
from tests.serving.privacy.consent.test_rules import GOVERNMENT, enter, personal


@pytest.fixture
def settings(bundles, made, tmp_path):
    """Eight rows are let in, so that twelve break off at their third piece, each time."""
    return settings_for(bundles, made, tmp_path, **SMALL, YUHENG_LIMITS_MAX_BATCH_ROWS="8")


@pytest.fixture
def store(settings):
    """Puts a household into the store."""
    engine = open_log_store(settings, 1.0)
    yield lambda name, values, *day: put_subject(engine, settings, schema.TABLE, name, values, *day)
    engine.dispose()


@pytest.fixture
def ids(store, people, made):
    for index in range(12):
        store(f"H-{index}", indicators(people, made.card, index))
    return [f"H-{index}" for index in range(12)]


async def charged(client, settings, ids, format="csv"):
    """Sends the file under its key; how many answers the meter has from then on."""
    with contextlib.suppress(ProblemError):  # how the service's own process hears that the answer broke off
        await send(client, ids, format=format, headers={"Idempotency-Key": "again"})
    while (await client.get("/v1/batches")).json()["batches"][0]["state"] == "running":
        await asyncio.sleep(0.01)
    return sum(units for (units,) in rows(settings, sa.select(METER.c.units)))


def test_a_row_without_authorisation_is_charged_only_once_it_is_answered(settings, ids):
    async def story(client, gateway):
        assert await charged(client, settings, ids) == 0
        await enter(client, **GOVERNMENT)
        assert [await charged(client, settings, ids) for _ in range(3)] == [8, 8, 8]

    run_inside(settings, story)


def test_an_answer_from_newer_indicators_is_charged_again(settings, ids, store, people, made):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        assert await charged(client, settings, ids) == 8
        store("H-2", indicators(people, made.card, 30), "2026-02-01")
        assert await charged(client, settings, ids) == 9
        assert await charged(client, settings, ids) == 9

    run_inside(settings, story)


def test_a_different_request_under_the_key_of_a_broken_batch_is_charged(settings, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        assert await charged(client, settings, ids) == 8
        assert await charged(client, settings, ids, format="ndjson") == 16

    run_inside(settings, story)


@pytest.mark.parametrize("what", ["row", "bundle", "policy_version", "inputs", "not_read"])
def test_an_answer_counts_as_charged_only_if_everything_it_rests_on_is_the_same(what):
    """As after a promotion between two tries."""
    row = {"row": 1, "decision": "approve", "bundle": "b", "policy_version": "p", "inputs": "i", "not_read": ["g"]}
    earlier_chunks = [pack(pl.DataFrame([row, row | {"row": 3, "decision": None}]))]
    assert already_charged(pl.DataFrame([row, row | {"row": 3}]), earlier_chunks) == 1
    other = {"row": 2, "not_read": ["h"]}.get(what, "other")
    assert already_charged(pl.DataFrame([row | {what: other}]), earlier_chunks) == 0


def test_an_answer_under_a_newer_grant_is_charged_again(settings, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        assert await charged(client, settings, ids) == 8
        await enter(client, **personal("H-5"))
        assert [await charged(client, settings, ids) for _ in range(2)] == [9, 9]

    run_inside(settings, story)


def test_a_broken_batch_that_is_sent_again_under_its_key_is_charged_once(bundles, made, tmp_path):
    settings = settings_for(bundles, made, tmp_path, YUHENG_BATCH_CHUNK_ROWS="1000")
    body = b"declared_income\n" + b"50000\n" * 30_000

    async def story(client, gateway):
        sent = {"content": body, "headers": {"content-type": "text/csv", "idempotency-key": "k"}}
        engine = gateway.service.store.engine
        first = await client.post(URL, **sent)
        with engine.begin() as connection:  # as a start finds it whose process was killed after a piece
            batch = first.headers["batch-id"]
            connection.execute(sa.delete(BATCH_CHUNKS).where(BATCH_CHUNKS.c.first_row > 1))
            first_rows = connection.execute(sa.select(BATCH_CHUNKS.c.rows)).scalar_one()
            connection.execute(sa.update(BATCHES).values(state="broken", rows=first_rows))
            connection.execute(sa.delete(METER).where(METER.c.decision != f"{batch}-1"))
        again = await client.post(URL, **sent)
        assert again.status_code == 200
        assert again.headers["batch-id"] != batch

    run_inside(settings, story)
    units = [count for (count,) in rows(settings, sa.select(METER.c.units).order_by(METER.c.leaf))]
    assert len(units) > 3
    assert sum(units) == 30_000, units


def test_a_batch_that_breaks_off_twice_is_charged_once(bundles, made, tmp_path, monkeypatch):
    """First after its second piece, then after its first: the second piece was charged for before."""
    settings = settings_for(bundles, made, tmp_path, YUHENG_BATCH_CHUNK_ROWS="1000")
    body = b"declared_income\n" + b"50000\n" * 60_000
    original, chunks_before_crash = BatchRecorder.record, [2, 1, 99]

    def record(self, chunk, scored):
        if (recorded := getattr(self, "recorded_chunks", 0)) >= chunks_before_crash[0]:
            raise RuntimeError("killed")
        self.recorded_chunks = recorded + 1
        original(self, chunk, scored)

    monkeypatch.setattr(BatchRecorder, "record", record)

    async def story(client, gateway):
        sent = {"content": body, "headers": {"content-type": "text/csv", "idempotency-key": "k"}}
        for _ in range(2):
            await client.post(URL, **sent)  # ends in the midst of the answer
            chunks_before_crash.pop(0)
        assert (await client.post(URL, **sent)).status_code == 200

    run_inside(settings, story)
    assert [state for [state] in rows(settings, sa.select(BATCHES.c.state).order_by(BATCHES.c.id))] == [
        "broken", "broken", "done",
    ]  # fmt: skip
    units = [count for (count,) in rows(settings, sa.select(METER.c.units).order_by(METER.c.leaf))]
    assert sum(units) == 60_000, units
