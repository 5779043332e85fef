"""The studies of the companies' tables train only on the rows, names and columns that they declare."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from benchmarks.quality import companies
from datasets.catalog import load_source

STUDIES = companies.load()
AFTERWARDS = {"disbursed", "disbursed_no_bank", "with_term"}  # readings declared to use later knowledge


@pytest.mark.parametrize("name", STUDIES)
def test_every_column_in_the_config_exists_in_the_table(name):
    study = STUDIES[name]
    known = {column.name for column in load_source(study.source).TABLE.columns} | set(study.columns)
    for reading in study.readings.values():
        dates = [name for pair in reading.days.values() for name in pair]
        assert {*reading.leave_out, *reading.also, *reading.names, *dates} <= known


@pytest.mark.parametrize("name", STUDIES)
def test_columns_known_only_afterwards_are_used_only_by_readings_that_declare_it(name):
    study = STUDIES[name]
    leaks = {column.name for column in load_source(study.source).TABLE.columns if column.role == "leak"}
    derived = {name for name, column in study.columns.items() if leaks & {*column["derived"]["of"]}}
    for name, reading in study.readings.items():
        dates = [date for pair in reading.days.values() for date in pair]
        read = leaks & {*reading.also, *reading.names, *dates} | derived - set(reading.leave_out)
        assert bool(read) == (name in AFTERWARDS)


def test_loans_are_evaluated_in_years_after_those_of_the_training():
    study = STUDIES["sba_scitech"]
    table, frame = companies.load_table(study)
    train, test = companies.split_rows(study, frame, frame[table.target.name].to_numpy(), 0)
    year = frame["ApprovalFY"].to_numpy()
    assert year[train].max() < year[test].min()
    assert set(np.unique(year[test])) == {2006, 2007}


def test_a_bank_is_a_level_only_if_it_has_enough_training_loans():
    study = STUDIES["sba_scitech"]
    table, frame = companies.load_table(study)
    frame = frame.with_columns(Bank=pl.Series(["seen"] * 60 + ["rare"] * 59 + ["later"] * (frame.height - 119)))
    _, columns = companies.select_inputs(study, table, frame, companies.FeatureSet(names={"Bank": 60}), np.arange(119))
    assert next(column for column in columns if column.name == "Bank").levels == ("seen",)


def test_days_are_counted_from_the_first_date_to_the_second():
    study = STUDIES["sba_scitech"]
    table, frame = companies.load_table(study)
    reading = study.readings["disbursed"]
    frame, _ = companies.select_inputs(study, table, frame, reading, np.arange(frame.height))
    first, second, days = frame.select("ApprovalDate", "DisbursementDate", "disbursed_after").drop_nulls().row(0)
    assert days == (date.fromisoformat(second) - date.fromisoformat(first)).days
