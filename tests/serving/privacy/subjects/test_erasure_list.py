"""An erased subject does not come back: not with the next load, and not with a restored store."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
import sqlalchemy as sa

from datasets.credit_limit.county import schema as county_schema
from serving.core.audit.authenticator import open_log_store
from serving.core.db.engine import key_store_path
from serving.core.db.schema import ERASURES, INDICATORS, SUBJECT_KEYS
from serving.core.security.errors import KeyFileError
from serving.governance.lineage import erasure
from serving.governance.lineage.deletion import ErasureNotProvenError
from serving.privacy.subjects.erasure_list import add_to_erasure_list, read_erasure_list
from serving.privacy.subjects.errors import VaultKeyError
from serving.privacy.subjects.ingestion import load_contract, load_subjects
from serving.privacy.subjects.vault import bind_store
from tests.serving.conftest import put_subject, rows, run_inside, stored, vault_of

URL = "/v1/credit-limits"


def load(settings, engine, applicant, *subjects: str) -> None:
    for subject in subjects:
        put_subject(engine, settings, county_schema.TABLE, subject, applicant)


def store_files(settings):
    store = settings.paths.store
    return [*store.parent.glob(f"{store.name}*"), *store.parent.glob("subject_keys/keys.db*")]


def remove(store) -> None:
    for suffix in ("", "-wal", "-shm"):
        store.with_name(store.name + suffix).unlink(missing_ok=True)


def test_a_backup_of_the_store_and_the_vaults_key_open_nothing_without_a_backup_of_the_key_store(
    settings, applicant, tmp_path
):
    """Keys lay in the database that they protect, so each copy of it from before an erasure opened everything."""
    if settings.store.url:
        pytest.skip("on PostgreSQL the keys are in the same database: docs/threat-model.md")
    engine = open_log_store(settings)
    load(settings, engine, applicant, "H-1", "H-2")
    [first, second] = [row.wrapped for row in rows(settings, sa.select(SUBJECT_KEYS))]
    with sqlite3.connect(settings.paths.store) as live, sqlite3.connect(tmp_path / "backup.db") as backup:
        live.backup(backup)
    content = (tmp_path / "backup.db").read_bytes()
    assert first not in content
    assert second not in content
    assert any(first in file.read_bytes() for file in store_files(settings))
    engine.dispose()


def test_a_key_store_that_went_missing_stops_the_store_from_being_used(settings, applicant):
    if settings.store.url:
        pytest.skip("on PostgreSQL there is no key store")
    engine = open_log_store(settings)
    load(settings, engine, applicant, "H-1")
    engine.dispose()
    remove(key_store_path(settings.paths.store))
    engine = open_log_store(settings)
    with engine.begin() as connection, pytest.raises(VaultKeyError, match="Restore the key store"):
        bind_store(connection, vault_of(settings))
    engine.dispose()


def test_the_next_months_file_does_not_bring_an_erased_household_back(settings, applicant, people, tmp_path):
    file = tmp_path / "next_month.csv"
    people.head(3).write_csv(file)
    names = people["household_id"].head(3).to_list()
    engine = open_log_store(settings)
    load(settings, engine, applicant, *names)
    erasure.erase(engine, settings, "credit_limit", names[1], by="operator")
    engine.dispose()
    contract, vault = load_contract("county"), vault_of(settings)
    count = load_subjects(file, contract, settings.store_location, 5.0, vault, true_at="2026-11")
    assert count == 2

    async def story(client, gateway):
        return [(await client.post(URL, json={"subject_id": name})).status_code for name in names]

    assert run_inside(settings, story) == [200, 404, 200]
    assert stored(settings, "credit_limit", names[1]) is None


def test_a_store_from_before_the_erasure_is_cleared_of_the_subject_when_it_is_opened(settings, applicant, tmp_path):
    if settings.store.url:
        pytest.skip("the backup is a copy of the file")
    engine = open_log_store(settings)
    load(settings, engine, applicant, "H-1", "H-2")
    with engine.begin() as connection:
        bind_store(connection, vault_of(settings))
    engine.dispose()
    shutil.copy(settings.paths.store, tmp_path / "backup.db")
    engine = open_log_store(settings)
    erasure.erase(engine, settings, "credit_limit", "H-1", by="operator")
    engine.dispose()
    remove(settings.paths.store)
    shutil.copy(tmp_path / "backup.db", settings.paths.store)
    assert stored(settings, "credit_limit", "H-1") is None, "its key is not in the backup"

    async def story(client, gateway):
        return [(await client.post(URL, json={"subject_id": name})).status_code for name in ("H-1", "H-2")]

    assert run_inside(settings, story) == [404, 200]
    erased = vault_of(settings).pseudonym("credit_limit", "H-1")
    for table in (SUBJECT_KEYS, INDICATORS):
        assert rows(settings, sa.select(table).where(table.c.pseudonym == erased)) == []


def test_an_erasure_list_that_cannot_be_read_stops_the_store_from_being_used(settings):
    vault = vault_of(settings)
    add_to_erasure_list(vault.erasure_list, ["a" * 64, "b" * 64, "a" * 64])
    add_to_erasure_list(vault.erasure_list, ["b" * 64])
    assert vault.erasure_list.read_text() == f"{'a' * 64}\n{'b' * 64}\n"
    assert vault.erasure_list.stat().st_mode & 0o777 == 0o600
    vault.erasure_list.write_text("H-1\n")
    with pytest.raises(KeyFileError, match="not a pseudonym"):
        read_erasure_list(vault.erasure_list)
    engine = open_log_store(settings)
    with engine.begin() as connection, pytest.raises(VaultKeyError, match="Restore the erasure list"):
        bind_store(connection, vault)
    engine.dispose()


def test_nothing_is_certified_while_a_reader_keeps_the_deleted_key_on_the_disk(settings, applicant):
    """The write-ahead log was not cut while somebody read, and the certificate said that the key was shredded."""
    if settings.store.url:
        pytest.skip("the write-ahead log is SQLite's")
    engine = open_log_store(settings)
    load(settings, engine, applicant, "H-1")
    [wrapped] = [row.wrapped for row in rows(settings, sa.select(SUBJECT_KEYS))]
    reader = sqlite3.connect(key_store_path(settings.paths.store))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM subject_keys").fetchone()
    with pytest.raises(ErasureNotProvenError, match="erase it again to certify it"):
        erasure.erase(engine, settings, "credit_limit", "H-1", by="operator")
    assert rows(settings, sa.select(ERASURES)) == []
    files = store_files(settings)
    assert any(wrapped in file.read_bytes() for file in files), "which is why nothing is certified"
    reader.close()
    certificate = erasure.erase(engine, settings, "credit_limit", "H-1", by="operator")["certificate"]
    assert certificate["key_shredded"]
    assert certificate["proof"]["log_truncated"]
    for file in store_files(settings):
        assert wrapped not in file.read_bytes()
    again = erasure.erase(engine, settings, "credit_limit", "H-1", by="operator")["certificate"]
    assert again == certificate
    engine.dispose()
