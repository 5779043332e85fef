"""Croissant metadata of each data set: valid for MLCommons' own reader, and readable through it."""

from __future__ import annotations

import json
import logging

import pytest
from typer.testing import CliRunner

from datasets import catalog
from datasets.__main__ import app
from datasets.credit_limit.county import reader
from datasets.export.croissant import describe_source
from datasets.files.external_files import file_sha256

mlcroissant = pytest.importorskip("mlcroissant")
OF_ONE_FILE = [name for name in catalog.source_modules() if name not in ("county", "register")]


@pytest.mark.parametrize("name", OF_ONE_FILE)
def test_a_source_is_described_without_a_fault(name, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(jsonld=describe_source(name))
    table = catalog.load_source(name).TABLE
    assert not dataset.metadata.ctx.issues.errors
    assert dataset.metadata.distribution[0].sha256 == table.origin.sha256
    assert [field.name for field in dataset.metadata.record_sets[0].fields] == [
        column.name for column in table.columns if column.derived is None
    ]


def test_a_simulated_table_says_so_and_its_rows_are_read_through_the_metadata(tmp_path):
    file = tmp_path / "simulated.csv"
    reader.sample(20).write_csv(file)
    done = CliRunner().invoke(app, ["croissant", "county", "--file", str(file), "--out", str(tmp_path / "county.json")])
    assert done.exit_code == 0, done.output
    description = json.loads((tmp_path / "county.json").read_text())
    assert "SIMULATED 模拟" in description["description"]
    assert description["distribution"][0]["sha256"] == file_sha256(file)
    read = mlcroissant.Dataset(jsonld=str(tmp_path / "county.json"))
    rows = list(read.records("rows"))
    assert len(rows) == 20
    assert float(rows[3]["rows/declared_income"]) == reader.sample(20)["declared_income"][3]


@pytest.mark.parametrize(
    ("requested", "message"),
    [(["county"], "--file"), (["nobody"], "Known"), (["county", "--file", "/nowhere.csv"], "no such file")],
)
def test_what_cannot_be_described_is_told(requested, message):
    refused = CliRunner().invoke(app, ["croissant", *requested])
    assert refused.exit_code == 1
    assert message in refused.stderr
