"""The migrations create the tables that the code declares, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import sqlalchemy as sa

from serving.core.audit.verify import leaf_hash
from serving.core.db.engine import alembic_config, create_engine, key_store_path, migrate, open_store
from serving.core.db.errors import SchemaVersionError
from serving.core.db.schema import LOG_LEAVES, METADATA, SUBJECT_KEYS
from serving.core.identifiers import new_id
from tests import postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path) -> Iterator[sa.Engine]:
    """An empty store."""
    file = f"sqlite:///{tmp_path / 'store.db'}"
    engine = create_engine(file if request.param == "sqlite" else postgres.database(f"migrate_{new_id()}"), 1.0)
    yield engine
    engine.dispose()


def test_the_migrated_schema_equals_the_metadata(engine):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    migrate(engine)
    with engine.connect() as connection:
        options: dict[str, Any] = {"compare_type": True}
        if engine.dialect.name == "sqlite":  # it lies in the key store, which Alembic does not look at
            options["include_object"] = lambda item, name, kind, reflected, other: name != "subject_keys"
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []


def test_primary_keys_and_partial_indexes_are_as_declared(engine):
    """Alembic does not compare these."""
    migrate(engine)
    with engine.connect().execution_options(reading=True) as connection:
        inspector = sa.inspect(connection)
        for table in METADATA.tables.values():
            has_own_file = engine.dialect.name == "sqlite" and table is SUBJECT_KEYS
            schema = "key_store" if has_own_file else None
            key = inspector.get_pk_constraint(table.name, schema)["constrained_columns"]
            assert set(key) == {column.name for column in table.primary_key}, table.name
            conditions = {
                index["name"]: bool(index["dialect_options"].get(f"{engine.dialect.name}_where") is not None)
                for index in inspector.get_indexes(table.name, schema)
            }
            assert conditions == {
                index.name: index.dialect_options[engine.dialect.name]["where"] is not None for index in table.indexes
            }, table.name


def test_opening_a_store_again_changes_nothing(engine):
    migrate(engine)
    with engine.begin() as connection:
        entries = connection.execute(sa.select(LOG_LEAVES)).all()
    migrate(engine)
    with engine.begin() as connection:
        assert connection.execute(sa.select(LOG_LEAVES)).all() == entries


def test_the_log_starts_with_an_entry_that_dates_it(engine):
    migrate(engine)
    with engine.connect().execution_options(reading=True) as connection:
        entry = connection.execute(sa.select(LOG_LEAVES)).one()
    assert json.loads(entry.body) == {"kind": "start", "at": entry.at, "tenant": "", "ref": ""}
    assert entry.hash == leaf_hash(entry.body)


@pytest.mark.parametrize("revision", ["0015", "9999_future"])
def test_a_store_of_another_release_is_refused_and_left_as_it_is(engine, revision):
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    with pytest.raises(SchemaVersionError, match=f"the store has the schema '{revision}'"):
        open_store(engine.url.render_as_string(hide_password=False), 1.0)
    with engine.begin() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one() == revision


def test_keys_of_subjects_move_into_the_key_store_and_leave_no_byte_behind(tmp_path):
    from alembic import command

    file, wrapped = tmp_path / "store.db", b"a key that was encrypted " * 20
    engine = create_engine(f"sqlite:///{file}", 1.0)
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0009_override_acts")
        row = {"pseudonym": "a" * 64, "wrapped": wrapped, "created": "2026-11-25T08:00:00.000Z"}
        connection.execute(sa.insert(SUBJECT_KEYS), row)
    engine.dispose()
    assert wrapped in file.read_bytes()
    engine = open_store(file, 1.0)
    with engine.connect().execution_options(reading=True) as connection:
        assert dict(connection.execute(sa.select(SUBJECT_KEYS)).mappings().one()) == row
    engine.dispose()
    assert wrapped not in file.read_bytes()
    assert wrapped in key_store_path(file).read_bytes()
    assert key_store_path(file).stat().st_mode & 0o777 == 0o600


def column_type(column: sa.Column[object]) -> set[type]:
    """The Python types that a column may hold."""
    is_json = isinstance(column.type, sa.JSON)
    return ({dict, list} if is_json else {column.type.python_type}) | ({NoneType} if column.nullable else set())


def hint_types(hint: object) -> set[type]:
    """The runtime types of a type hint: `list[str] | None` is list and NoneType."""
    return {get_origin(member) or member for member in get_args(hint) if get_origin(hint) not in (dict, list)} or {
        get_origin(hint) or hint
    }


@pytest.mark.parametrize("table", METADATA.tables.values(), ids=lambda table: table.name)
def test_the_row_type_of_a_table_has_its_columns_and_their_nullability(table):
    hints = get_type_hints(table.info["row"])
    assert set(hints) == {column.name for column in table.columns}
    for column in table.columns:
        types = hint_types(hints[column.name])
        assert types <= column_type(column), column.name
        assert (NoneType in types) == bool(column.nullable), column.name
