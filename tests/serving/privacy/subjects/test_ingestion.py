"""A department's file goes into the store whatever format it comes in, with the same values."""

from __future__ import annotations

import pytest

from datasets.credit_limit.county.schema import TABLE
from serving.core.db.engine import open_store
from serving.privacy.subjects import ingestion
from serving.privacy.subjects.indicators import latest_as_of_many
from serving.privacy.subjects.vault import open_vault, wrapped_keys
from tests.serving.conftest import settings_for

ROWS = 12


def write(frame, path, kind):
    if kind == "gb18030":
        path.write_bytes(frame.write_csv(separator=";", line_terminator="\r\n").encode("gb18030"))
    elif kind == "xlsx":
        frame.write_excel(path)
    elif kind == "parquet":
        frame.write_parquet(path)
    else:
        path.write_bytes(frame.write_csv().encode("utf-16"))


@pytest.mark.parametrize("kind", ["gb18030", "xlsx", "parquet", "utf-16"])
def test_a_file_of_any_format_gives_the_same_indicators(bundles, made, people, tmp_path, kind):
    names = [column.name for column in TABLE.columns if column.derived is None and column.name in people.columns]
    frame = people.head(ROWS).select(names)
    write(frame, tmp_path / "households.dat", kind)
    settings = settings_for(bundles, made, tmp_path)
    vault = open_vault(settings)
    store = settings.store_location, settings.store.lock_timeout_seconds
    assert ingestion.load_subjects(tmp_path / "households.dat", TABLE, *store, vault) == ROWS
    engine = open_store(*store)
    subjects = frame["household_id"].to_list()
    pseudonyms = {vault.pseudonym("credit_limit", subject): i for i, subject in enumerate(subjects)}
    with engine.connect() as connection:
        keys = {name: vault.unwrap(key, name) for name, key in wrapped_keys(connection, [*pseudonyms])}
        groups = sorted({column.group for column in TABLE.columns if column.group})
        stored = latest_as_of_many(connection, vault, keys, groups, "2099-01-01")
    engine.dispose()
    assert len(stored) == ROWS
    for name, indicators in stored.items():
        values = frame.row(pseudonyms[name], named=True)
        assert indicators.values
        for column, value in indicators.values.items():
            assert value == values[column] or (value is None and values[column] is None), column
