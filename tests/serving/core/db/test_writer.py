"""With a locked, full or broken store nothing is answered without its record, and no record is partial."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from serving.core.db.engine import create_engine, open_store
from serving.core.db.reader import StoreReader
from serving.core.db.schema import BATCHES, DECISIONS
from serving.core.identifiers import new_id, utc_now
from serving.decisions.batch.files.formats import MEDIA_TYPES
from serving.decisions.records import answer_of
from tests import postgres
from tests.serving.conftest import locked_store, recorded, run_inside, settings_for

URL = "/v1/credit-limits"


def problem(answer) -> tuple[int, str, bool]:
    return answer.status_code, answer.json()["type"], "retry-after" in answer.headers


def test_a_commit_is_synced_to_disk(tmp_path):
    engine = open_store(tmp_path / "store.db", 1.0)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_a_reader_of_postgresql_leaves_no_transaction_open():
    """The server terminates idle transactions, and the next call would fail."""
    engine = open_store(postgres.database(f"read_{new_id()}"), 1.0)
    assert answer_of(StoreReader(engine), "local", "0" * 32) is None
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%%'"
    with engine.connect() as connection:
        assert connection.exec_driver_sql(count).scalar() == 0
    engine.dispose()


def test_while_another_process_locks_the_store_nothing_is_answered(settings, applicant):
    async def story(client, gateway):
        with locked_store(settings):
            refused = await asyncio.gather(*(client.post(URL, json={"indicators": applicant}) for _ in range(5)))
            assert {problem(answer) for answer in refused} == {(503, "/problems/store_locked", True)}
            assert (await client.get("/healthz/ready")).status_code == 503
            assert (await client.get("/healthz/live")).status_code == 200
        assert (await client.get("/healthz/ready")).status_code == 200
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        assert recorded(settings) == 1

    run_inside(settings, story)


def test_a_short_lock_only_delays_the_answer(bundles, made, tmp_path, applicant):
    settings = settings_for(bundles, made, tmp_path, YUHENG_STORE_LOCK_TIMEOUT_SECONDS="5")

    async def story(client, gateway):
        with locked_store(settings):
            responses = asyncio.gather(*(client.post(URL, json={"indicators": applicant}) for _ in range(5)))
            await asyncio.sleep(0.3)
            assert not responses.done()
        assert [answer.status_code for answer in await responses] == [200] * 5
        assert recorded(settings) == 5

    run_inside(settings, story)


@pytest.mark.skipif(postgres.ENABLED, reason="SQLite's lock")
def test_after_a_failed_begin_a_record_is_one_transaction_again(settings, applicant):
    async def story(client, gateway):
        with locked_store(settings):
            assert (await client.post(URL, json={"indicators": applicant})).status_code == 503
        writer = gateway.service.store.writer
        writer._connection.execute(sa.select(1))
        assert writer._connection.connection.dbapi_connection.in_transaction
        writer._connection.rollback()

    run_inside(settings, story)


@pytest.mark.skipif(postgres.ENABLED, reason="the pages of a SQLite file")
def test_a_full_disk_refuses_until_there_is_space(settings, applicant):
    async def story(client, gateway):
        writer = gateway.service.store.writer
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        pages = writer._connection.exec_driver_sql("PRAGMA page_count").scalar()
        writer._connection.rollback()
        writer._connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        writer._connection.commit()
        response = None
        while response is None or response.status_code == 200:  # the free space in the existing pages may still suffice
            response = await client.post(URL, json={"indicators": applicant}, headers={"Idempotency-Key": "full"})
            if response.status_code == 200:
                response = await client.post(URL, json={"indicators": applicant})
        assert problem(response) == (503, "/problems/store_full", True)
        before = recorded(settings)
        writer._connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        writer._connection.commit()
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        assert recorded(settings) == before + 1

    run_inside(settings, story)


def test_a_decision_waits_for_at_most_one_task(settings, applicant):
    async def story(client, gateway):
        writer, done = gateway.service.store.writer, 0

        async def run_tasks():
            nonlocal done
            while True:
                await asyncio.wrap_future(writer.run(lambda connection: connection.execute(sa.select(1)).scalar()))
                done += 1

        loops = [asyncio.create_task(run_tasks()) for _ in range(8)]
        for _ in range(5):
            response = await asyncio.wait_for(client.post("/v1/credit-limits", json={"indicators": applicant}), 20)
            assert response.status_code == 200
        assert done
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    run_inside(settings, story)


def test_too_many_pending_commits_are_refused_at_once(bundles, made, tmp_path, applicant):
    settings = settings_for(bundles, made, tmp_path, YUHENG_LIMITS_MAX_PENDING_COMMITS="4")

    async def story(client, gateway):
        responses = await asyncio.gather(*(client.post(URL, json={"indicators": applicant}) for _ in range(40)))
        refused = [answer for answer in responses if answer.status_code != 200]
        assert {problem(answer) for answer in refused} == {(503, "/problems/overloaded", True)}
        assert recorded(settings) == len(responses) - len(refused)

    run_inside(settings, story)


@pytest.mark.skipif(postgres.ENABLED, reason="the path of a SQLite file")
def test_a_store_that_cannot_be_opened_is_reported_and_tried_again(bundles, made, tmp_path, applicant):
    folder = tmp_path / "data"
    settings = settings_for(bundles, made, folder, YUHENG_TOKENS=str(tmp_path / "tokens.pem"))
    folder.write_text("a file where the folder should be")

    async def story(client, gateway):
        assert (await client.get("/healthz/ready")).json()["status"] == "not_ready"
        assert (await client.post(URL, json={"indicators": applicant})).json()["type"] == "/problems/store_failed"
        folder.unlink()
        for _ in range(200):  # the models follow at the next poll, once their promotions can be looked up
            if (await client.get("/healthz/ready")).json()["status"] == "ready":
                break
            await asyncio.sleep(0.05)
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200

    run_inside(settings, story)


def test_an_answer_that_another_process_recorded_under_the_key_is_returned(settings, applicant):
    """Two workers, one key: the second finds the first answer when it writes its own."""

    async def story(client, gateway):
        writer = gateway.service.store.writer
        submit = writer.submit

        def submit_second(write):
            row = write.row | {"id": "f" * 32, "answer": b'{"first": true}', "leaf": 99}
            with create_engine(gateway.service.store.engine.url, 1.0).begin() as connection:
                connection.execute(sa.insert(DECISIONS), [row])
            return submit(write)

        writer.submit = submit_second
        response = await client.post(URL, json={"indicators": applicant}, headers={"Idempotency-Key": "shared"})
        assert response.content == b'{"first": true}'
        assert response.headers["idempotent-replayed"] == "true"
        assert recorded(settings) == 1

    run_inside(settings, story)


def test_a_batch_for_a_locked_store_is_refused_and_can_be_sent_again(settings):
    async def story(client, gateway):
        request = {
            "content": b"declared_income\n5\n",
            "headers": {"Content-Type": MEDIA_TYPES["csv"], "Idempotency-Key": "b"},
        }
        with locked_store(settings):
            refused = await client.post(URL + "/batch", **request)
        assert problem(refused) == (503, "/problems/store_locked", True)
        assert (await client.post(URL + "/batch", **request)).status_code == 200

    run_inside(settings, story)


def test_a_batch_of_a_dead_process_is_marked_and_releases_its_key(settings):
    request = {
        "content": b"declared_income\n5\n",
        "headers": {"Content-Type": MEDIA_TYPES["csv"], "Idempotency-Key": "b"},
    }

    async def first(client, gateway):
        response = await client.post(URL + "/batch", **request)

        def unfinish(connection):
            connection.execute(sa.update(BATCHES).values(state="running", owner=2**22 + 1, finished=None))

        await asyncio.wrap_future(gateway.service.store.writer.run(unfinish))
        running = await client.post(URL + "/batch", **request)
        assert problem(running) == (409, "/problems/batch_running", True)
        return response.headers["batch-id"]

    async def second(client, gateway):
        summary = (await client.get(f"/v1/batches/{batch}")).json()
        assert summary["state"] == "broken"
        assert summary["finished"] <= utc_now()
        again = await client.post(URL + "/batch", **request)
        assert again.status_code == 200
        assert again.headers["batch-id"] != batch

    batch = run_inside(settings, first)
    run_inside(settings, second)
