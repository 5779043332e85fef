"""What a whole run does not show: tuning, splits, what the PD may read, names in the registry."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datasets.derived_columns import DerivedFormula
from datasets.errors import DataError
from datasets.schema import ColumnSchema, TableSchema
from datasets.scitech_risk import sba
from models.card import DatasetInfo
from models.trees.estimator import EstimatorConfig
from tests.paths import ROOT
from training import scitech_risk
from training.config import parse
from training.credit_limit import Config, select_inputs, train
from training.interfaces import Dataset
from training.pipeline import make_split
from training.progress import ProgressReporter
from training.tabular import fit
from training.tabular.tuning import tune
from training.tracking.mlflow_registry import flatten, git_commit, sanitize_name

TABLE = TableSchema(
    name="small",
    columns=(
        ColumnSchema(name="total", derived=None),
        ColumnSchema(name="ratio", derived=DerivedFormula(op="ratio", of=("total",), by=("total",))),
        ColumnSchema(name="plain"),
        ColumnSchema(name="praise", group="village_appraisal"),
        ColumnSchema(name="of praise", derived=DerivedFormula(op="sum", of=("praise",))),
        ColumnSchema(name="words", kind="text"),
        ColumnSchema(name="day", kind="text", role="time"),
        ColumnSchema(name="town", kind="text", role="group"),
        ColumnSchema(name="y", role="target", low=0, high=1),
    ),
)


def config(**sections):
    return parse({"name": "small", "data": {"source": "county"}, **sections}, Config)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=600)
    frame = pl.DataFrame(
        {
            "total": rng.normal(size=600),
            "ratio": np.ones(600),
            "plain": plain,
            "praise": rng.normal(size=600),
            "of praise": rng.normal(size=600),
            "words": ["a"] * 600,
            "day": [f"2024-{1 + i // 50:02}-01" for i in range(600)],
            "town": [f"t{i % 20}" for i in range(600)],
            "y": (plain + rng.normal(size=600) > 1).astype(float),
        }
    )
    return Dataset(TABLE, frame, DatasetInfo(name="small", rows=600, sha256="0" * 64))


def test_made_columns_stand_last_and_go_where_their_parts_go():
    assert [column.name for column in select_inputs(config(), TABLE)] == ["total", "plain", "ratio"]
    assert [column.name for column in select_inputs(config(leave_out=["total"]), TABLE)] == ["plain"]
    assert "of praise" in [column.name for column in select_inputs(config(), TABLE, include_moral=True)]


def test_the_split_goes_by_the_tables_own_time_or_group(rows):
    late = make_split(config(split={"how": "time", "test": 0.25}), rows)
    days = rows.frame["day"].to_numpy()
    assert days[late.train].max() < days[late.test].min()
    apart = make_split(config(split={"how": "group", "test": 0.25}), rows)
    towns = rows.frame["town"].to_numpy()
    assert not set(towns[apart.train]) & set(towns[apart.test])
    with pytest.raises(DataError, match="did you mean 'town'"):
        make_split(config(split={"how": "group", "column": "towm"}), rows)


def test_a_table_with_too_few_bad_rows_is_refused_in_a_sentence(rows):
    rare = Dataset(TABLE, rows.frame.with_columns(pl.Series("y", np.arange(600) % 150 == 0)), rows.data)
    with pytest.raises(DataError, match="small: Only 3 rows are of the rarer class"):
        train(config(), rare, make_split(config(), rare), ProgressReporter(quiet=True))


def test_tuning_starts_from_the_configs_numbers_and_is_the_same_again(rows):
    x, y = rows.frame.select("total", "plain").to_numpy().astype(np.float32), rows.y
    base = EstimatorConfig(folds=2, trees=10, min_data_in_leaf=20)
    first, second = (tune(base, x, y, trials=2, seed=1, directions=[0, 1]) for _ in range(2))
    assert first == second
    assert (first.folds, first.trees) == (2, 10)


def test_the_registrys_names_keep_any_script_and_no_odd_sign():
    assert sanitize_name("psi/月收入 (€)") == "psi/月收入 ___"
    assert flatten({"a": {"b": 1}, "c": 2}) == {"a.b": 1, "c": 2}
    assert len(git_commit().rstrip("+")) in (0, 40)


def test_older_rows_count_less_where_the_config_has_a_half_life():
    config = scitech_risk.load(ROOT / "configs/scitech_risk_sba.toml")
    rows = scitech_risk.read(config)
    split = make_split(config, rows)
    weight = fit._sample_weight(config, rows, split)
    year = rows.frame["ApprovalFY"].to_numpy()[split.train]
    assert (rows.table.name, year.max()) == (sba.TABLE.name, 2005)
    assert weight[year == 2005].tolist() == [1.0] * int((year == 2005).sum())
    assert weight[year == 2002] == pytest.approx(0.25)  # two half-lives
    plain = config.model_copy(update={"split": config.split.model_copy(update={"how": "rows"})})
    with pytest.raises(DataError, match="split by time"):
        fit._sample_weight(plain, rows, split)
