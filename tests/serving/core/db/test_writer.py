"""A store that is held, full or broken: nothing is answered without its record, and nothing is half-written."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from serving.core.db.engine import create_engine, open_store
from serving.core.db.reader import StoreReader
from serving.core.db.schema import BATCHES, DECISIONS, METADATA
from serving.core.identifiers import new_id, utc_now
from serving.decisions.batch.formats import MEDIA_TYPES
from tests import postgres
from tests.serving.conftest import locked_store, recorded, run_inside, settings_for

URL = "/v1/credit-limits"


def problem(answer) -> tuple[int, str, bool]:
    return answer.status_code, answer.json()["type"], "retry-after" in answer.headers


def test_the_migrations_make_the_tables_that_the_code_reads(tmp_path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = open_store(tmp_path / "store.db", 1.0)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA) == []


def test_a_commit_is_synced_to_disk(tmp_path):
    engine = open_store(tmp_path / "store.db", 1.0)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_a_reader_of_a_postgresql_leaves_no_transaction_open():
    """Such a connection is cut off after a while, and the next call on it would be refused."""
    engine = open_store(postgres.database(f"read_{new_id()}"), 1.0)
    assert StoreReader(engine).answer("local", "0" * 32) is None
    standing = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%%'"
    with engine.connect() as connection:
        assert connection.exec_driver_sql(standing).scalar() == 0
    engine.dispose()


def test_while_another_process_holds_the_store_nothing_is_answered_and_then_all_is(settings, applicant):
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


def test_a_store_held_for_a_moment_only_delays_the_answer(bundles, made, tmp_path, applicant):
    settings = settings_for(bundles, made, tmp_path, YUHENG_STORE_LOCK_TIMEOUT_SECONDS="5")

    async def story(client, gateway):
        with locked_store(settings):
            asked = asyncio.gather(*(client.post(URL, json={"indicators": applicant}) for _ in range(5)))
            await asyncio.sleep(0.3)
            assert not asked.done()
        assert [answer.status_code for answer in await asked] == [200] * 5
        assert recorded(settings) == 5

    run_inside(settings, story)


@pytest.mark.skipif(postgres.ASKED, reason="SQLite's lock")
def test_after_a_lock_was_waited_for_a_record_is_one_transaction_again(settings, applicant):
    async def story(client, gateway):
        with locked_store(settings):
            assert (await client.post(URL, json={"indicators": applicant})).status_code == 503
        writer = gateway.service.store.writer
        writer._connection.execute(sa.select(1))
        assert writer._connection.connection.dbapi_connection.in_transaction
        writer._connection.rollback()

    run_inside(settings, story)


@pytest.mark.skipif(postgres.ASKED, reason="the pages of a SQLite file")
def test_a_full_disk_refuses_until_there_is_room(settings, applicant):
    async def story(client, gateway):
        writer = gateway.service.store.writer
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        pages = writer._connection.exec_driver_sql("PRAGMA page_count").scalar()
        writer._connection.rollback()
        writer._connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        writer._connection.commit()
        found = []
        while not found or found[-1].status_code == 200:  # what fits in the pages that are left is answered
            found.append(await client.post(URL, json={"indicators": applicant}, headers={"Idempotency-Key": "full"}))
            if found[-1].status_code == 200:
                found[-1] = await client.post(URL, json={"indicators": applicant})
        assert problem(found[-1]) == (503, "/problems/store_full", True)
        before = recorded(settings)
        writer._connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        writer._connection.commit()
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        assert recorded(settings) == before + 1

    run_inside(settings, story)


def test_a_decision_waits_for_one_work_alone_however_many_there_are(settings, applicant):
    async def story(client, gateway):
        writer, done = gateway.service.store.writer, 0

        async def work_without_end():
            nonlocal done
            while True:
                await asyncio.wrap_future(writer.run(lambda connection: connection.execute(sa.select(1)).scalar()))
                done += 1

        many = [asyncio.create_task(work_without_end()) for _ in range(8)]
        for _ in range(5):
            found = await asyncio.wait_for(client.post("/v1/credit-limits", json={"indicators": applicant}), 20)
            assert found.status_code == 200
        assert done
        for one in many:
            one.cancel()
        await asyncio.gather(*many, return_exceptions=True)

    run_inside(settings, story)


def test_too_many_answers_waiting_are_refused_at_once(bundles, made, tmp_path, applicant):
    settings = settings_for(bundles, made, tmp_path, YUHENG_LIMITS_MAX_PENDING_COMMITS="4")

    async def story(client, gateway):
        found = await asyncio.gather(*(client.post(URL, json={"indicators": applicant}) for _ in range(40)))
        refused = [answer for answer in found if answer.status_code != 200]
        assert {problem(answer) for answer in refused} == {(503, "/problems/overloaded", True)}
        assert recorded(settings) == len(found) - len(refused)

    run_inside(settings, story)


@pytest.mark.skipif(postgres.ASKED, reason="the place of a SQLite file")
def test_a_store_that_cannot_be_opened_is_told_by_readiness_and_tried_again(bundles, made, tmp_path, applicant):
    folder = tmp_path / "place"
    settings = settings_for(bundles, made, folder, YUHENG_TOKENS=str(tmp_path / "tokens.pem"))
    folder.write_text("a file where the folder should be")

    async def story(client, gateway):
        assert (await client.get("/healthz/ready")).json()["status"] == "not_ready"
        assert (await client.post(URL, json={"indicators": applicant})).json()["type"] == "/problems/store_failed"
        folder.unlink()
        assert (await client.get("/healthz/ready")).json()["status"] == "ready"
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200

    run_inside(settings, story)


def test_an_answer_recorded_by_another_process_under_the_same_key_is_the_one_given(settings, applicant):
    """Two workers, one key: the second finds the first one's answer as it writes its own."""

    async def story(client, gateway):
        writer, row = gateway.service.store.writer, {}
        real = writer.record

        def beaten(mine):
            row.update(mine.row, id="f" * 32, answer=b'{"first": true}')
            with create_engine(gateway.service.store.engine.url, 1.0).begin() as connection:
                connection.execute(sa.insert(DECISIONS), [row])
            return real(mine)

        writer.record = beaten
        found = await client.post(URL, json={"indicators": applicant}, headers={"Idempotency-Key": "shared"})
        assert found.content == b'{"first": true}'
        assert found.headers["idempotent-replayed"] == "true"
        assert recorded(settings) == 1

    run_inside(settings, story)


def test_a_batch_into_a_held_store_is_refused_whole_and_can_be_sent_again(settings):
    async def story(client, gateway):
        sent = {
            "content": b"declared_income\n5\n",
            "headers": {"Content-Type": MEDIA_TYPES["csv"], "Idempotency-Key": "b"},
        }
        with locked_store(settings):
            refused = await client.post(URL + "/batch", **sent)
        assert problem(refused) == (503, "/problems/store_locked", True)
        assert (await client.post(URL + "/batch", **sent)).status_code == 200

    run_inside(settings, story)


def test_a_batch_that_a_dead_process_left_is_marked_and_gives_its_key_back(settings):
    sent = {"content": b"declared_income\n5\n", "headers": {"Content-Type": MEDIA_TYPES["csv"], "Idempotency-Key": "b"}}

    async def first(client, gateway):
        found = await client.post(URL + "/batch", **sent)

        def unfinish(connection):
            connection.execute(sa.update(BATCHES).values(state="running", owner=2**22 + 1, finished=None))

        await asyncio.wrap_future(gateway.service.store.writer.run(unfinish))
        running = await client.post(URL + "/batch", **sent)
        assert problem(running) == (409, "/problems/batch_running", True)
        return found.headers["batch-id"]

    async def second(client, gateway):
        summary = (await client.get(f"/v1/batches/{batch}")).json()
        assert summary["state"] == "broken"
        assert summary["finished"] <= utc_now()
        again = await client.post(URL + "/batch", **sent)
        assert again.status_code == 200
        assert again.headers["batch-id"] != batch

    batch = run_inside(settings, first)
    run_inside(settings, second)
