"""The real tables: what their contracts promise is what the files hold."""

import os
from pathlib import Path

import polars as pl
import pytest

from datasets import leakage
from datasets.catalog import load_source, source_modules
from datasets.credit_limit import german, give_me_some_credit, heloc, taiwan
from datasets.errors import DataError, UnreadableFileError
from datasets.files import external_files

REAL = [name for name in source_modules("credit_limit") if name != "county"]
OUTSIDE = [name for name in REAL if name != "taiwan"]
data = pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the file is not shipped")
FACTS = {  # rows, columns, bad rate
    "taiwan": (30_000, 25, 0.2212),
    "give_me_some_credit": (150_000, 12, 0.06684),
    "heloc": (10_459, 24, 0.5219),
    "german": (1_000, 21, 0.300),
    "vub": (18_917, 24, 0.1695),
}
EACH = [pytest.param(name, marks=[data] if name in OUTSIDE else []) for name in REAL]


@pytest.mark.parametrize("name", EACH)
def test_a_source_holds_what_its_readme_says(name):
    module = load_source(name)
    frame, (rows, columns, rate) = module.read(), FACTS[name]
    read = [column.name for column in module.TABLE.columns if column.derived is None]
    assert frame.select(read).shape == (rows, columns)
    assert frame[module.TABLE.target.name].mean() == pytest.approx(rate, abs=5e-5)
    assert frame[module.TABLE.target.name].null_count() == 0


@pytest.mark.parametrize("name", EACH)
def test_a_sample_is_of_the_same_columns_and_reproducible(name):
    module = load_source(name)
    assert module.sample(40, seed=1).equals(module.sample(40, seed=1))
    assert module.sample(40, seed=1).columns == [column.name for column in module.TABLE.columns]


@pytest.mark.parametrize("name", EACH)
def test_no_honest_column_is_called_a_leak(name):
    module = load_source(name)
    assert leakage.find_leaks(module.read(), module.TABLE) == []


@pytest.mark.parametrize("name", REAL)
def test_a_contract_names_every_column_in_two_languages_and_its_origin(name):
    declared = load_source(name).TABLE
    assert all(column.en and column.zh for column in declared.columns)
    assert declared.origin.source
    assert declared.origin.licence
    assert len(declared.origin.sha256) == 64
    assert not declared.origin.simulated


@pytest.mark.parametrize(
    ("name", "audit"),
    [
        ("taiwan", {"SEX", "MARRIAGE", "AGE"}),
        ("give_me_some_credit", {"age"}),
        ("german", {"sex_and_marriage", "age", "foreign_worker"}),
        ("vub", {"Age"}),
    ],
)
def test_who_one_is_is_for_audits_only(name, audit):
    assert {column.name for column in load_source(name).TABLE.columns_with_role("audit")} == audit


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_that_is_not_shipped_says_how_to_name_it(name, monkeypatch, tmp_path):
    monkeypatch.delenv("YUHENG_DATA", raising=False)
    with pytest.raises(DataError, match="YUHENG_DATA is not set.*Set YUHENG_DATA to the folder"):
        load_source(name).read()
    with pytest.raises(DataError, match="there is no such file"):
        load_source(name).read(tmp_path)


def test_a_changed_file_is_refused(tmp_path):
    changed = bytearray((taiwan.SAMPLES_DIR / taiwan.FILE).read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / taiwan.FILE).write_bytes(changed)
    with pytest.raises(UnreadableFileError, match="its sha256 is .*; the contract describes 82fa71c5b2d9"):
        taiwan.read(tmp_path)


def test_the_shipped_readme_states_the_digest_and_the_licence():
    output = (taiwan.SAMPLES_DIR / "README.md").read_text()
    assert external_files.file_sha256(taiwan.SAMPLES_DIR / taiwan.FILE) in output
    assert "CC BY 4.0" in output


@data
def test_the_shipped_taiwan_table_equals_the_original():
    original = Path(os.environ["YUHENG_DATA"]) / "credit/taiwan_credit_card/taiwan_credit_card.parquet"
    shipped = pl.read_parquet(taiwan.SAMPLES_DIR / taiwan.FILE)
    assert shipped.cast(dict.fromkeys(shipped.columns, pl.Int64)).equals(pl.read_parquet(original))


@data
def test_heloc_codes_become_what_they_mean():
    frame = heloc.read()
    assert frame["ExternalRiskEstimate"].null_count() == 598
    assert (frame["MSinceMostRecentDelq"] == heloc.NEVER_DELINQUENT).sum() == 4_664
    assert (frame["MSinceMostRecentInqexcl7days"] == heloc.NEVER_INQUIRED).sum() == 476
    assert all((frame[column.name].drop_nulls() >= 0).all() for column in heloc.TABLE.indicators)


@data
def test_codes_and_amounts_among_the_counts_and_shares_are_missing():
    frame = give_me_some_credit.read()
    assert frame["NumberOfTimes90DaysLate"].null_count() == 269
    assert frame["RevolvingUtilizationOfUnsecuredLines"].null_count() == 241
    assert frame["age"].null_count() == 1


def test_every_german_level_has_its_meaning():
    used = {level for column in german.TABLE.columns for level in column.levels}
    assert used == set(german.LABELS)


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'taiwan'"):
        load_source("tawain")
