"""Whatever somebody with write access to the database alone does to any table or kind of entry is found."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from datasets.credit_limit.county import schema as county_schema
from serving.core.audit import entries, log
from serving.core.audit.auditor.auditor import Auditor
from serving.core.audit.authenticator import load_authenticator, open_log_store
from serving.core.audit.entry_checks import LogTamperedError, verify_new_entries
from serving.core.audit.verify import leaf_hash
from serving.core.billing.prices import Prices
from serving.core.db.schema import LOG_CHECKPOINTS, LOG_LEAVES, LOG_NODES, METADATA
from serving.core.security import keys
from serving.governance.lineage import erasure, trace
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import put_subject, run_inside, settings_for
from tests.serving.core.audit.auditor.audit_helpers import rolled_back
from tests.serving.core.audit.auditor.test_auditor import READING, STATES

URL = "/v1/credit-limits"
# What the audit does not compare with the log, each with its reason. docs/threat-model.md lists them.
NOT_COVERED = {
    "subject_keys": "wrapped keys, without entries",
    "indicators": "encrypted, without entries",
    "companies": "encrypted, without entries",
    "vault": "another value of its row stops the service",
    "probe": "written by readiness checks",
    "quotas": "counted again from the meter",
    "input_counts": "statistics without values",
    "uploads": "working data until a slide is complete",
    "upload_groups": "working data until a slide is complete",
    "slide_keys": "responses under idempotency keys",
    "slide_workers": "leases",
    "log_nodes": "computed again from the entries",
    "log_checkpoints": "signed, and kept in a file too: test_auditor",
}


@pytest.fixture(scope="module")
def filled(bundles, made, applicant, tmp_path_factory):
    """(engine, settings) of a store with a row in every table that the audit compares."""
    settings = settings_for(bundles, made, tmp_path_factory.mktemp("insider"), YUHENG_STORE_URL="")
    engine = open_log_store(settings)
    for subject in ("H-1", "H-2"):
        put_subject(engine, settings, county_schema.TABLE, subject, applicant)

    async def story(client, gateway):
        grant = {"kind": "government", "tenant": "local", "purpose": "credit_limit", "groups": ["tax"]}
        grant |= {"valid_to": "2099-12-31", "document_sha256": "a" * 64, "grantor": "Tax Bureau"}
        grants = [(await client.post("/v1/authorisations", json=grant)).json()["authorisation"] for _ in range(2)]
        assert (await client.post(f"/v1/authorisations/{grants[0]}/revoke")).status_code == 200
        decisions = []
        for body in (
            {"indicators": applicant},
            {"subject_id": "H-1"},
            {"subject_id": "H-2"},
            {"indicators": applicant},
        ):
            decisions.append((await client.post(URL, json=body)).json()["decision_id"])
        csv = {"Content-Type": "text/csv"}
        for content in (b"declared_income\n5\n7\n", b"subject_id\nH-1\nH-2\n"):
            answer = await client.post(f"{URL}/batch", content=content, headers=csv)
            assert answer.status_code == 200, answer.text
        outcome = {"decision_id": decisions[0], "outcome": "repaid", "at": "2026-11-01", "source": "core banking"}
        assert (await client.post("/v1/outcomes", json=outcome)).status_code == 200
        address = f"/v1/decisions/{decisions[0]}"
        for name, body in (
            ("override", {"decision": "decline", "reason": "moved away"}),
            ("refer", {"to": "li.si", "note": "please look"}),
        ):
            answer = await client.post(f"{address}/{name}", json=body)
            assert answer.status_code < 300, answer.text
        assert (await client.get(address)).status_code == 200
        store, prices = gateway.service.store.engine, Prices.load(settings.paths.prices)
        slide_store.create(store, "5" * 32)
        for state in STATES:
            slide_store.transition(store, "5" * 32, state, {"of": state})
        slide_store.transition(store, "5" * 32, "ready", reading=READING, prices=prices)
        slide_store.transition(store, "5" * 32, "in_review")

    run_inside(settings, story)
    erasure.erase(engine, settings, "credit_limit", "H-2", by="operator")
    with engine.begin() as connection:
        trace.record_dataset_rows(connection, "d" * 64, ["a" * 64, "b" * 64])
        log.append(connection, [entries.export_entry(connection, "d" * 64, "local", ["g" * 32])])
    yield engine, settings
    engine.dispose()


def audit(connection: sa.Connection, settings: Any) -> list[str]:
    key = keys.load_private_key(settings.paths.log_key).public_key()
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    return [str(finding) for finding in Auditor(connection, key, None, authenticator).run().findings]


def test_what_the_service_wrote_has_no_findings_and_every_kind_of_entry_is_there(filled):
    engine, settings = filled
    with engine.connect() as connection:
        assert audit(connection, settings) == []
        kinds = set(connection.execute(sa.select(LOG_LEAVES.c.kind).distinct()).scalars())
    assert kinds == {
        *("start", "events", "promotion", "grant", "revocation", "decision", "chunk", "batch_end", "outcome"),
        *("override", "referral", "slide_state", "erasure", "export"),
    }


def other_value(column: sa.Column[Any], value: Any) -> Any:
    """A value of the column's type that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, bytes):
        return value + b"x"
    if isinstance(value, dict):
        return value | {"x": 1}
    if isinstance(value, list):
        return [*value, "x"]
    python_type = column.type.python_type
    if value is None:
        return {int: 7, float: 7.0, bytes: b"x", bool: True, dict: {"x": 1}, list: ["x"]}.get(python_type, "x")
    return f"{value}x"


def is_row(table: sa.Table, row: Any) -> sa.ColumnElement[bool]:
    return sa.and_(*(column == row[column.name] for column in table.primary_key))


COMPARED = [table for table in METADATA.sorted_tables if table.name not in NOT_COVERED]


def rows_of(connection: sa.Connection, table: sa.Table) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


@pytest.mark.parametrize("table", COMPARED, ids=lambda table: table.name)
def test_every_column_of_every_row_that_is_changed_is_found(filled, table):
    engine, settings = filled
    with rolled_back(engine) as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        rows = rows_of(connection, table)
        if table.name in ("slide_reports",):
            pytest.skip("signed reports: test_slides")
        assert rows, f"the store has no row in {table.name}"
        missed = []
        for row in (rows[0], rows[-1]):
            for column in table.columns:
                savepoint = connection.begin_nested()
                changed = {column.name: other_value(column, row[column.name])}
                try:
                    connection.execute(sa.update(table).where(is_row(table, row)).values(changed))
                except sa.exc.IntegrityError:
                    savepoint.rollback()
                    continue
                if not audit(connection, settings):
                    missed.append(column.name)
                savepoint.rollback()
        assert missed == []


@pytest.mark.parametrize("table", COMPARED, ids=lambda table: table.name)
def test_every_row_that_is_deleted_or_added_is_found(filled, table):
    engine, settings = filled
    with rolled_back(engine) as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        rows = rows_of(connection, table)
        for row in rows:
            savepoint = connection.begin_nested()
            connection.execute(sa.delete(table).where(is_row(table, row)))
            assert audit(connection, settings), row
            savepoint.rollback()
        for row in rows[:2]:
            added = {column.name: other_value(column, row[column.name]) for column in table.primary_key}
            if table.name == "decisions":
                added["idempotency_key"] = None
            savepoint = connection.begin_nested()
            try:
                connection.execute(sa.insert(table).values(row | added))
            except sa.exc.IntegrityError:
                savepoint.rollback()
                continue
            assert audit(connection, settings), row
            savepoint.rollback()


LEAF_TABLES = [table for table in COMPARED if "leaf" in table.c]
OPERATIONS = ("insert", "delete", "replay", "reorder", "backdate")


def rehash(connection: sa.Connection, index: int, body: bytes) -> None:
    """What can be computed without the key: a new body with its hash and its columns."""
    parsed = orjson.loads(body)
    columns = {name: parsed[name] for name in ("kind", "at", "tenant", "ref")}
    is_entry = LOG_LEAVES.c.index == index
    connection.execute(sa.update(LOG_LEAVES).where(is_entry).values(body=body, hash=leaf_hash(body), **columns))


def move_rows(connection: sa.Connection, source: int, target: int) -> None:
    for table in LEAF_TABLES:
        connection.execute(sa.update(table).where(table.c.leaf == source).values(leaf=target))


def tamper(connection: sa.Connection, operation: str, index: int, other: int, size: int, months: int) -> None:
    """Change an entry and the rows that name it together, consistently."""
    entry = dict(connection.execute(sa.select(LOG_LEAVES).where(LOG_LEAVES.c.index == index)).mappings().one())
    if operation in ("insert", "replay"):
        copy = entry | {"index": size}
        if operation == "insert":
            ref = hashlib.sha256(entry["ref"].encode()).hexdigest()[:32]
            body = orjson.dumps(orjson.loads(entry["body"]) | {"ref": ref}, option=orjson.OPT_SORT_KEYS)
            copy |= {"ref": ref, "body": body, "hash": leaf_hash(body)}
        connection.execute(sa.insert(LOG_LEAVES).values(copy))
        return
    if operation == "delete":
        for table in LEAF_TABLES:
            connection.execute(sa.delete(table).where(table.c.leaf == index))
        connection.execute(sa.delete(LOG_LEAVES).where(LOG_LEAVES.c.index == index))
        for later in range(index + 1, size):
            connection.execute(sa.update(LOG_LEAVES).where(LOG_LEAVES.c.index == later).values(index=later - 1))
            move_rows(connection, later, later - 1)
        return
    if operation == "reorder":
        for source, target in ((index, -1), (other, index), (-1, other)):
            connection.execute(sa.update(LOG_LEAVES).where(LOG_LEAVES.c.index == source).values(index=target))
            move_rows(connection, source, target)
        return
    parsed = orjson.loads(entry["body"])
    earlier = datetime.datetime.fromisoformat(parsed["at"][:-1]) - datetime.timedelta(days=30 * months)
    parsed["at"] = f"{earlier.isoformat(timespec='milliseconds')}Z"
    rehash(connection, index, orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS))


@pytest.mark.parametrize("has_checkpoints", [True, False])
@hypothesis_settings(max_examples=60)
@given(data=st.data())
def test_an_entry_and_its_rows_changed_together_are_found_before_and_after_they_are_signed(
    filled, has_checkpoints, data
):
    engine, settings = filled
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    with rolled_back(engine) as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        size = log.log_size(connection)
        kinds = sorted(set(connection.execute(sa.select(LOG_LEAVES.c.kind)).scalars()))
        kind, operation = data.draw(st.sampled_from(kinds)), data.draw(st.sampled_from(OPERATIONS))
        indices = connection.execute(sa.select(LOG_LEAVES.c.index).where(LOG_LEAVES.c.kind == kind)).scalars().all()
        index = data.draw(st.sampled_from(indices))
        other = data.draw(st.integers(0, size - 1))
        assume(not (operation == "reorder" and other == index))
        assume(not (operation == "delete" and index == size - 1))  # docs/threat-model.md: within its first second
        tamper(connection, operation, index, other, size, data.draw(st.integers(1, 24)))
        connection.execute(sa.delete(LOG_NODES))
        if not has_checkpoints:
            connection.execute(sa.delete(LOG_CHECKPOINTS))
        assert audit(connection, settings)
        with pytest.raises(LogTamperedError):
            verify_new_entries(connection, authenticator, 0, log.log_size(connection), "")
