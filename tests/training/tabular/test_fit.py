"""What a complete run does not show: tuning, splits, which columns the PD reads, the weights of old rows."""

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
from training.credit_limit import RECIPE, Config
from training.progress import ProgressReporter
from training.tabular.dataset import Dataset, make_split
from training.tabular.fit import fit_options
from training.tabular.tuning import tune

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


def names(columns):
    return [column.name for column in columns]


@pytest.fixture
def dataset():
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


def test_derived_columns_stand_last_and_are_dropped_with_their_operands():
    assert names(RECIPE.select_inputs(config(), TABLE)) == ["total", "plain", "ratio"]
    assert names(RECIPE.select_inputs(config(leave_out=["total"]), TABLE)) == ["plain"]
    assert "of praise" in names(RECIPE.select_inputs(config(), TABLE, include_withheld=True))


def test_a_split_uses_the_tables_own_time_or_group_column(dataset):
    by_time = make_split(config(split={"how": "time", "test": 0.25}), dataset)
    days = dataset.frame["day"].to_numpy()
    assert days[by_time.train].max() < days[by_time.test].min()
    by_group = make_split(config(split={"how": "group", "test": 0.25}), dataset)
    towns = dataset.frame["town"].to_numpy()
    assert not set(towns[by_group.train]) & set(towns[by_group.test])
    with pytest.raises(DataError, match="did you mean 'town'"):
        make_split(config(split={"how": "group", "column": "towm"}), dataset)


def test_a_table_with_too_few_bad_rows_is_refused_in_a_sentence(dataset):
    frame = dataset.frame.with_columns(pl.Series("y", np.arange(600) % 150 == 0))
    rare = Dataset(TABLE, frame, dataset.data)
    with pytest.raises(DataError, match="small: .*rarer class"):
        RECIPE.train(
            config(),
            (ROOT / "configs/policies/credit_limit.toml").read_bytes(),
            rare,
            make_split(config(), rare),
            ProgressReporter(quiet=True),
        )


def test_tuning_starts_from_the_configs_values_and_is_reproducible(dataset):
    x, y = dataset.frame.select("total", "plain").to_numpy().astype(np.float32), dataset.y
    base = EstimatorConfig(folds=2, trees=10, min_data_in_leaf=20)
    first, second = (tune(base, x, y, trials=2, seed=1, directions=[0, 1]) for _ in range(2))
    assert first == second
    assert (first.folds, first.trees) == (2, 10)


def test_older_rows_weigh_less_where_the_config_has_a_half_life():
    config = scitech_risk.RECIPE.load(ROOT / "configs/scitech_risk_sba.toml")
    dataset = scitech_risk.RECIPE.read(config)
    split = make_split(config, dataset)
    weight = fit_options(config, dataset, split, [])["weight"]
    year = dataset.frame["ApprovalFY"].to_numpy()[split.train]
    assert (dataset.table.name, year.max()) == (sba.TABLE.name, 2005)
    assert weight[year == 2005].tolist() == [1.0] * int((year == 2005).sum())
    assert weight[year == 2002] == pytest.approx(0.25)  # two half-lives
    by_rows = config.model_copy(update={"split": config.split.model_copy(update={"how": "rows"})})
    with pytest.raises(DataError, match="split by time"):
        fit_options(by_rows, dataset, split, [])
