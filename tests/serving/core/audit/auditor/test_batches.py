"""The audit names an edit of whatever stands in a batch's own line; of what nobody altered it finds nothing."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import audit_store
from serving.core.db.engine import open_store
from serving.core.db.schema import BATCHES, LOG_CHECKPOINTS, LOG_LEAVES
from serving.core.http.problems import ProblemError
from serving.core.security import keys
from serving.decisions.batch.records import abort_orphans, close_batch
from tests.serving.conftest import run_inside, settings_for
from tests.serving.core.audit.auditor.audit_helpers import altered, edited, findings

URL = "/v1/credit-limits/batch?keep=note"
HEAD, NOTE = b"declared_income,note\n", b"," + b"x" * 1_000 + b"\n"  # long, so that few rows fill a chunk
SMALL = {"YUHENG_BATCH_CHUNK_ROWS": "2", "YUHENG_LIMITS_MAX_BATCH_ROWS": "150"}
OTHER = {
    "id": "f" * 32, "tenant": "other", "scope": "other", "idempotency_key": "other", "request_sha256": "0" * 64,
    "state": "running", "owner": -1, "format": "parquet", "rows": 7, "answered": 7, "faulty": 7, "faults": b"[]",
    "model": "other", "version": "other", "bundle": "0" * 64, "policy": "other", "simulated": False,
    "created": "2020", "finished": None, "retry_of": "x",
}  # fmt: skip


async def send(client, rows: int, key: str | None = None) -> None:
    """A batch, of which every other row is faulty; one of more than 150 breaks off after its first chunks."""
    sent = (b"5" + NOTE + b"-6" + NOTE) * (rows // 2)
    headers = {"Content-Type": "text/csv"} | ({"Idempotency-Key": key} if key else {})
    with contextlib.suppress(ProblemError):  # how the service's own process hears that the answer broke off
        await client.post(URL, content=HEAD + sent, headers=headers)


@pytest.fixture(scope="module")
def settings(bundles, made, tmp_path_factory):
    return settings_for(bundles, made, tmp_path_factory.mktemp("lines"), **SMALL)


@pytest.fixture(scope="module")
def store(settings):
    """Batches that were done, with a key and without; that broke off, and once more when sent again; and one whose
    process died."""

    async def story(client, gateway):
        for rows, key in ((140, "first"), (2, None), (200, None), (200, "again"), (200, "again")):
            await send(client, rows, key)

    run_inside(settings, story)
    engine = open_store(settings.store_location, 5.0)
    yield engine
    engine.dispose()


def of(engine, which: sa.ColumnElement[bool]) -> str:
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(sa.select(BATCHES.c.id).where(which).limit(1)).scalar_one()


def test_batches_that_nobody_altered_bring_no_finding(store, settings):
    with store.connect().execution_options(reading=True) as connection:
        states = sorted(connection.execute(sa.select(BATCHES.c.state)).scalars())
    assert states == ["broken"] * 3 + ["done"] * 2
    key = keys.load_private_key(settings.paths.log_key).public_key()
    assert audit_store(store, key, settings.paths.checkpoints).findings == []


@pytest.mark.parametrize("column", [column.name for column in BATCHES.c if column.name != "id"])
@pytest.mark.parametrize("state", ["done", "broken"])
def test_an_edit_of_a_column_of_a_batch_is_named(store, settings, column, state):
    mine = BATCHES.c.idempotency_key == ("first" if state == "done" else "again")
    batch = of(store, mine)
    found = edited(store, settings, sa.update(BATCHES).where(mine).values({column: OTHER[column]}))
    assert found, column
    assert all(line.startswith(f"edited 被修改: batches {batch}: ") for line in found), found
    assert any(column in line for line in found), found


@pytest.mark.parametrize("state", ["done", "broken"])
def test_a_key_that_was_taken_away_is_named_but_of_a_batch_that_broke_off_and_was_sent_again(store, settings, state):
    mine = sa.update(BATCHES).where(BATCHES.c.idempotency_key == ("first" if state == "done" else "again"))
    found = edited(store, settings, mine.values(idempotency_key=None))
    assert [line for line in found if "idempotency_key" in line] == (found if state == "done" else [])
    assert bool(found) == (state == "done")


def test_a_batch_whose_process_died_is_no_finding_until_it_is_said_to_be_done(store, settings):
    leaf = LOG_LEAVES.c
    with altered(store) as connection:  # as it stood when its process died
        last = connection.execute(sa.select(sa.func.max(leaf.index))).scalar_one()
        kind, batch = connection.execute(sa.select(leaf.kind, leaf.ref).where(leaf.index == last)).one()
        assert kind == "batch_end"
        mine = sa.update(BATCHES).where(BATCHES.c.id == batch)
        connection.execute(sa.delete(LOG_LEAVES).where(leaf.index == last))
        connection.execute(sa.delete(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size > last))
        connection.execute(mine.values(state="running", finished=None))
        assert findings(connection, settings) == []
        connection.execute(mine.values(state="done", finished="2026"))
        wanted = f"edited 被修改: batches {batch}: state: it is done, and no leaf tells of its end"
        assert findings(connection, settings) == [wanted]
        connection.execute(mine.values(state="running", finished=None))
        abort_orphans(connection, "2026-11-26T00:00:00.000Z")
        assert findings(connection, settings) == []
        connection.execute(mine.values(state="running"))
        [found] = findings(connection, settings)
        assert "state: not as leaf" in found


def test_a_batch_that_a_start_broke_off_stays_so_though_its_process_still_ends_it(store, settings):
    """As of two gateways that do not see each other's processes: by then its key may be a later try's."""
    with altered(store) as connection:
        mine = BATCHES.c.state == "broken", BATCHES.c.idempotency_key.is_(None)
        batch = connection.execute(sa.select(BATCHES.c.id).where(*mine).limit(1)).scalar_one()
        close_batch(connection, batch, "done", "2026-11-26T00:00:00.000Z")
        assert findings(connection, settings) == []
        assert connection.execute(sa.select(BATCHES.c.state).where(BATCHES.c.id == batch)).scalar() == "broken"


def test_a_batch_that_was_put_in_is_named(store, settings):
    with altered(store) as connection:
        row = dict(connection.execute(sa.select(BATCHES).limit(1)).mappings().one())
        connection.execute(sa.insert(BATCHES).values(row | {"id": "f" * 32, "idempotency_key": None}))
        assert findings(connection, settings) == [f"added 被添加: batches {'f' * 32}: no chunk of it is there"]


def test_of_leaves_that_told_less_what_they_told_is_compared(store, settings):
    with altered(store) as connection:
        assert findings(connection, settings, before=True) == []
    assert edited(store, settings, sa.update(BATCHES).values(rows=7), before=True) == []
    found = edited(store, settings, sa.update(BATCHES).values(policy="other"), before=True)
    assert found
    assert all("policy" in line for line in found)
