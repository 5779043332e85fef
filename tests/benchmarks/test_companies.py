"""The benchmark of the companies' tables learns only from rows, names and columns that it says it learns from."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from benchmarks import companies
from datasets.catalog import load_source

STUDIES = companies.load()
AFTERWARDS = {"disbursed", "disbursed_no_bank", "with_term"}  # the readings that say so


@pytest.mark.parametrize("name", STUDIES)
def test_every_column_that_the_config_names_is_one_of_the_table(name):
    study = STUDIES[name]
    known = {column.name for column in load_source(study.source).TABLE.columns} | set(study.columns)
    for reading in study.readings.values():
        dates = [name for pair in reading.days.values() for name in pair]
        assert {*reading.leave_out, *reading.also, *reading.names, *dates} <= known


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_known_only_afterwards_is_read_only_where_the_reading_says_so(name):
    study = STUDIES[name]
    leaks = {column.name for column in load_source(study.source).TABLE.columns if column.role == "leak"}
    made = {name for name, column in study.columns.items() if leaks & {*column["derived"]["of"]}}
    for name, reading in study.readings.items():
        dates = [date for pair in reading.days.values() for date in pair]
        read = leaks & {*reading.also, *reading.names, *dates} | made - set(reading.leave_out)
        assert bool(read) == (name in AFTERWARDS)


def test_loans_are_judged_in_years_after_those_that_teach():
    study = STUDIES["sba_scitech"]
    table, frame = companies.load_table(study)
    train, test = companies.split_rows(study, frame, frame[table.target.name].to_numpy(), 0)
    year = frame["ApprovalFY"].to_numpy()
    assert year[train].max() < year[test].min()
    assert set(np.unique(year[test])) == {2006, 2007}


def test_a_bank_is_known_by_name_where_enough_loans_of_the_training_years_stand_under_it():
    study = STUDIES["sba_scitech"]
    table, frame = companies.load_table(study)
    frame = frame.with_columns(Bank=pl.Series(["seen"] * 60 + ["rare"] * 59 + ["later"] * (frame.height - 119)))
    _, columns = companies.select_inputs(study, table, frame, companies.FeatureSet(names={"Bank": 60}), np.arange(119))
    assert next(column for column in columns if column.name == "Bank").levels == ("seen",)


def test_days_count_from_the_first_date_to_the_second():
    study = STUDIES["sba_scitech"]
    table, frame = companies.load_table(study)
    reading = study.readings["disbursed"]
    frame, _ = companies.select_inputs(study, table, frame, reading, np.arange(frame.height))
    first, second, days = frame.select("ApprovalDate", "DisbursementDate", "disbursed_after").drop_nulls().row(0)
    assert days == (date.fromisoformat(second) - date.fromisoformat(first)).days
