"""A store from before there were tenants: what it holds is the machine's own, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from serving.core.audit import log
from serving.core.db import engine as store
from serving.core.db.engine import create_engine
from serving.core.db.lookup import decision_ids_about
from serving.core.db.reader import StoreReader
from serving.core.db.schema import DECISIONS, GRANT_USES, LOG_LEAVES, METADATA
from serving.core.identifiers import new_id
from serving.decisions.batch.records import earlier_attempts
from serving.pathology.slides import store as slide_store
from tests import postgres

AT = "2026-01-01T00:00:00.000Z"
ROWS = {
    "decisions": {
        "id": "d" * 32, "scope": "s", "idempotency_key": "k", "request_sha256": "0" * 64, "answer": b"{}",
        "model": "m", "version": "1", "bundle": "b", "policy": "p", "created": AT, "subject": "C1",
    },
    "batches": {
        "id": "b" * 32, "scope": "s", "idempotency_key": "k", "request_sha256": "0" * 64, "state": "done", "owner": 1,
        "format": "csv", "rows": 1, "answered": 1, "faulty": 0, "faults": b"[]", "model": "m", "version": "1",
        "bundle": "b", "policy": "p", "simulated": False, "created": AT, "finished": AT,
    },
    "slides": {
        "id": "5" * 32, "state": "uploading", "reasons": "[]", "notes": "[]", "name": "a", "bytes": 1, "done": 0,
        "total": 0, "audit": False, "priority": 0, "created": AT, "updated": AT,
    },
    "slide_keys": {"scope": "s", "key": "k", "request_sha256": "0" * 64, "answer": b"{}", "at": AT},
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, tmp_path) -> Iterator[sa.Engine]:
    file = f"sqlite:///{tmp_path / 'store.db'}"
    engine = create_engine(file if request.param == "sqlite" else postgres.database(f"upgrade_{new_id()}"), 1.0)
    yield engine
    engine.dispose()


def to(engine: sa.Engine, revision: str, way: str = "upgrade") -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, way)(config, revision)


def test_an_older_store_is_taken_over_and_given_back(empty):
    to(empty, "0005")
    with empty.begin() as connection:
        for name, row in ROWS.items():
            table = sa.Table(name, sa.MetaData(), autoload_with=connection)
            connection.execute(sa.insert(table).values(row))
    to(empty, "head")
    with empty.connect().execution_options(reading=True) as connection:
        started = json.loads(connection.execute(sa.select(LOG_LEAVES.c.body)).scalar_one())
        assert started["before"] == {"decisions": 1, "batch_chunks": 0, "slide_reports": 0}
    reader = StoreReader(empty)
    for tenant, there in (("local", True), ("east", False)):
        assert (reader.kept(tenant, "s", "k") is not None) == there
        assert (reader.answer(tenant, "d" * 32) is not None) == there
        assert (reader.batch(tenant, "b" * 32) is not None) == there
        assert (reader.batch_under(tenant, "s", "k") is not None) == there
        with empty.connect() as connection:
            about = decision_ids_about(connection, "s", "C1", tenant, "g", 5)
        assert about == [], "its subject stood there in plain"
        assert (slide_store.get(empty, "5" * 32, tenant) is not None) == there
        assert (slide_store.kept(empty, tenant, "s", "k") is not None) == there
    slide_store.keep(empty, "east", "s", "k", "1" * 64, b"")
    with empty.begin() as connection:
        connection.execute(sa.insert(DECISIONS).values(ROWS["decisions"] | {"id": "e" * 32, "tenant": "east"}))
    with pytest.raises(sa.exc.IntegrityError), empty.begin() as connection:
        connection.execute(sa.insert(DECISIONS).values(ROWS["decisions"] | {"id": "f" * 32, "tenant": "east"}))
    if empty.dialect.name == "sqlite":  # on which a reader keeps its connection
        reader._held.connection.close()
    with empty.begin() as connection:
        connection.execute(sa.text("DELETE FROM slide_keys WHERE tenant = 'east'"))
        connection.execute(sa.text("DELETE FROM decisions WHERE tenant = 'east'"))
    to(empty, "0005", "downgrade")
    with empty.connect().execution_options(reading=True) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM slide_keys")).scalar() == 1
        assert "tenant" not in {column["name"] for column in sa.inspect(connection).get_columns("slides")}


def test_the_steps_lead_to_the_tables_as_the_code_has_them(empty):
    to(empty, "head")
    with empty.connect().execution_options(reading=True) as connection:
        found = sa.inspect(connection)
        for table in METADATA.tables.values():
            columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert columns == {column.name: bool(column.nullable) for column in table.columns}, table.name
            told = {index["name"]: list(index["column_names"]) for index in found.get_indexes(table.name)}
            assert set(told) == {index.name for index in table.indexes}, table.name
            for index in table.indexes:
                plain = [getattr(part, "name", None) for part in index.expressions]
                if None not in told[index.name] and None not in plain:
                    assert told[index.name] == plain
            key = found.get_pk_constraint(table.name)["constrained_columns"]
            assert set(key) == {column.name for column in table.primary_key}


def test_which_batch_was_tried_anew_is_found_where_only_its_charge_was_kept(empty):
    to(empty, "0014")
    with empty.begin() as connection:
        table = sa.Table("batches", sa.MetaData(), autoload_with=connection)
        tries = [("1", None, 0, "0"), ("2", None, 5, "0"), ("3", "k", 9, "0"), ("4", None, 0, "9"), ("5", "z", 0, "9")]
        for at, key, charged, digest in tries:
            row = ROWS["batches"] | {"id": at * 32, "tenant": "local", "idempotency_key": key, "charged": charged}
            made = {"state": "broken", "created": f"2026-01-0{at}", "request_sha256": digest * 64}
            connection.execute(sa.insert(table).values(row | made))
    to(empty, "head")
    with empty.connect().execution_options(reading=True) as connection:
        assert earlier_attempts(connection, "local", "s", "k", "0" * 64) == ["3" * 32, "2" * 32, "1" * 32]
        assert earlier_attempts(connection, "local", "s", "z", "9" * 64) == ["5" * 32]


def test_what_was_logged_before_is_read_for_the_uses_of_authorisations(empty):
    to(empty, "0009")
    told = [log.make_entry("decision", AT, "local", str(i), authorisations=[one] * 2 if one else []) for i, one in
            enumerate(("a", "", "b", "a"))]  # fmt: skip
    with empty.begin() as connection:
        rows = [entry._asdict() | {"index": 7 + i, "hash": b""} for i, entry in enumerate(told)]
        log.insert_rows(connection, LOG_LEAVES, rows)
    to(empty, "head")
    with empty.connect().execution_options(reading=True) as connection:
        found = connection.execute(sa.select(GRANT_USES).order_by(GRANT_USES.c.leaf)).all()
    assert found == [("a", 7), ("b", 9), ("a", 10)]
