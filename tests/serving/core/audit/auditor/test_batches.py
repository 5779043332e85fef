"""The audit reports an edit of any column of a batch, and nothing on untouched batches."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import open_log_store
from serving.core.db.schema import BATCHES, LOG_CHECKPOINTS, LOG_LEAVES
from serving.core.http.problems import ProblemError
from serving.core.identifiers import utc_now
from serving.core.security import keys
from serving.decisions.batch.records import abort_orphans, close_batch
from tests.serving.conftest import run_inside, settings_for
from tests.serving.core.audit.auditor.audit_helpers import findings, findings_after, rolled_back

URL = "/v1/credit-limits/batch?keep=note"
HEADER, NOTE = b"declared_income,note\n", b"," + b"x" * 1_000 + b"\n"  # long rows, so that few of them fill a chunk
SMALL_CHUNKS = {"YUHENG_BATCH_CHUNK_ROWS": "2", "YUHENG_LIMITS_MAX_BATCH_ROWS": "150"}
CHANGED = {
    "id": "f" * 32, "tenant": "other", "scope": "other", "idempotency_key": "other", "request_sha256": "0" * 64,
    "state": "running", "owner": -1, "format": "parquet", "rows": 7, "answered": 7, "faulty": 7, "faults": b"[]",
    "model": "other", "version": "other", "bundle": "0" * 64, "policy": "other", "simulated": False,
    "created": "2020", "finished": None, "retry_of": "x",
}  # fmt: skip


async def send(client, rows: int, key: str | None = None) -> None:
    """Send a batch in which every other row is faulty; one of more than 150 rows is aborted after its first chunks."""
    rows_csv = (b"5" + NOTE + b"-6" + NOTE) * (rows // 2)
    headers = {"Content-Type": "text/csv"} | ({"Idempotency-Key": key} if key else {})
    with contextlib.suppress(ProblemError):  # raised in this process when the response is aborted
        await client.post(URL, content=HEADER + rows_csv, headers=headers)


@pytest.fixture(scope="module")
def settings(bundles, made, tmp_path_factory):
    return settings_for(bundles, made, tmp_path_factory.mktemp("lines"), **SMALL_CHUNKS)


@pytest.fixture(scope="module")
def store(settings):
    """Two finished batches, with and without a key, and three aborted ones, two of them under one key."""

    async def story(client, gateway):
        for rows, key in ((140, "first"), (2, None), (200, None), (200, "again"), (200, "again")):
            await send(client, rows, key)

    run_inside(settings, story)
    engine = open_log_store(settings, 5.0)
    yield engine
    engine.dispose()


def batch_id(engine, condition: sa.ColumnElement[bool]) -> str:
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(sa.select(BATCHES.c.id).where(condition).limit(1)).scalar_one()


def test_untouched_batches_have_no_findings(store, settings):
    with store.connect().execution_options(reading=True) as connection:
        states = sorted(connection.execute(sa.select(BATCHES.c.state)).scalars())
    assert states == ["broken"] * 3 + ["done"] * 2
    key = keys.load_private_key(settings.paths.log_key).public_key()
    assert audit_store(store, key, settings.paths.checkpoints).findings == []


@pytest.mark.parametrize("column", [column.name for column in BATCHES.c if column.name != "id"])
@pytest.mark.parametrize("state", ["done", "broken"])
def test_an_edit_of_any_column_of_a_batch_is_reported(store, settings, column, state):
    condition = BATCHES.c.idempotency_key == ("first" if state == "done" else "again")
    batch = batch_id(store, condition)
    lines = findings_after(store, settings, sa.update(BATCHES).where(condition).values({column: CHANGED[column]}))
    assert lines, column
    assert all(line.startswith(f"edited 被修改: batches {batch}: ") for line in lines), lines
    assert any(column in line for line in lines), lines


@pytest.mark.parametrize("state", ["done", "broken"])
def test_a_removed_key_is_reported_unless_a_later_attempt_took_it_over(store, settings, state):
    update = sa.update(BATCHES).where(BATCHES.c.idempotency_key == ("first" if state == "done" else "again"))
    lines = findings_after(store, settings, update.values(idempotency_key=None))
    assert [line for line in lines if "idempotency_key" in line] == (lines if state == "done" else [])
    assert bool(lines) == (state == "done")


def test_a_batch_whose_process_died_is_a_finding_only_if_it_claims_to_be_done(store, settings):
    leaf = LOG_LEAVES.c
    with rolled_back(store) as connection:  # the state in which a dead process leaves it
        last = connection.execute(sa.select(sa.func.max(leaf.index))).scalar_one()
        kind, batch = connection.execute(sa.select(leaf.kind, leaf.ref).where(leaf.index == last)).one()
        assert kind == "batch_end"
        update = sa.update(BATCHES).where(BATCHES.c.id == batch)
        connection.execute(sa.delete(LOG_LEAVES).where(leaf.index == last))
        connection.execute(sa.delete(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size > last))
        connection.execute(update.values(state="running", finished=None))
        assert findings(connection, settings) == []
        connection.execute(update.values(state="done", finished="2026"))
        expected = f"edited 被修改: batches {batch}: state: it is done, but no log entry records its end"
        assert findings(connection, settings) == [expected]
        connection.execute(update.values(state="running", finished=None))
        abort_orphans(connection, utc_now())
        assert findings(connection, settings) == []
        connection.execute(update.values(state="running"))
        [finding] = findings(connection, settings)
        assert "state: not as recorded by log entry" in finding


def test_an_aborted_batch_stays_aborted_even_if_its_process_finishes_it(store, settings):
    """Two services may not see each other's processes; by then a later attempt may have its key."""
    with rolled_back(store) as connection:
        condition = BATCHES.c.state == "broken", BATCHES.c.idempotency_key.is_(None)
        batch = connection.execute(sa.select(BATCHES.c.id).where(*condition).limit(1)).scalar_one()
        close_batch(connection, batch, "done", "2026-11-26T00:00:00.000Z")
        assert findings(connection, settings) == []
        assert connection.execute(sa.select(BATCHES.c.state).where(BATCHES.c.id == batch)).scalar() == "broken"


def test_an_added_batch_is_reported(store, settings):
    with rolled_back(store) as connection:
        row = dict(connection.execute(sa.select(BATCHES).limit(1)).mappings().one())
        connection.execute(sa.insert(BATCHES).values(row | {"id": "f" * 32, "idempotency_key": None}))
        assert findings(connection, settings) == [f"added 被添加: batches {'f' * 32}: it has no chunk"]
