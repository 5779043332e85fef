"""The profile of a user's table: one page that loads nothing, says what each column is for, and shows nobody's data."""

from __future__ import annotations

import re
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from tests.training.tabular.test_field_files import SMALL
from training import pipeline
from training.credit_limit import RECIPE
from training.progress import ProgressReporter
from training.tabular.config_draft import format_config
from training.tabular.pipeline import TabularPipeline
from training.tabular.profile.page import format_percent, plot_bins, write_profile
from training.tabular.profile.summary import MISSING, OTHERS, Bin, summarise
from training.tabular.user_table import UserTableConfig, read_user_table

ROWS = 1_200


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> UserTableConfig:
    rng = np.random.default_rng(3)
    applied = [date(2022, 1, 1) + timedelta(int(days)) for days in rng.integers(0, 800, ROWS)]
    licensed = [day - timedelta(int(days)) for day, days in zip(applied, rng.integers(9, 3_000, ROWS), strict=True)]
    late = rng.poisson(0.5, ROWS)
    bad = rng.random(ROWS) < 1 / (1 + np.exp(1.6 - late))
    frame = pl.DataFrame(
        {
            "合同编号": [f"HT{i:06d}" for i in range(ROWS)],
            "申请日期": [f"{day:%Y/%m/%d}" for day in applied],
            "营业执照日期": [f"{day:%Y/%m/%d}" for day in licensed],
            "性别": rng.choice(["男", "女"], ROWS),
            "<script>alert(1)</script>": rng.choice(["茶叶", "水稻", "<b>对虾</b>"], ROWS),
            "种类": ["稀有" if i < 3 else ("常见", "普通")[i % 2] for i in range(ROWS)],
            "年收入（元）": [None if x > 99_000 else round(x, 2) for x in rng.gamma(2, 2e4, ROWS)],
            "逾期次数": late,
            "核销": np.where(bad, 1, 0),
            "支行": ["本部"] * ROWS,
            "备注": [f"电话已联系{i % 400}" for i in range(ROWS)],
            "结果": np.where(bad, "违约", "正常"),
        }
    )
    path = tmp_path_factory.mktemp("loans") / "loans.csv"
    frame.write_csv(path)
    return UserTableConfig(file=path, target="结果", positive_labels=("违约",), simulated=True)


def test_each_column_has_a_role_and_its_rates(config):
    read = read_user_table(config)
    summary = summarise(read)
    roles = {column.name: column.role for column in summary.columns}
    assert roles == {
        "结果": "outcome", "合同编号": "id", "申请日期": "date", "营业执照日期": "date", "性别": "sensitive",
        "<script>alert(1)</script>": "feature", "种类": "feature", "年收入（元）": "feature", "逾期次数": "feature",
        "核销": "leak", "支行": "constant", "备注": "text", "months from 营业执照日期 to 申请日期": "feature",
    }  # fmt: skip
    assert [name for name, _ in summary.warnings] == ["核销"]
    columns = {column.name: column for column in summary.columns}
    late = columns["逾期次数"]
    assert sum(bin.rows for bin in late.bins) == ROWS
    assert late.bins[0].bad_rate < late.bins[2].bad_rate
    assert late.auc > 0.6 > columns["性别"].auc
    assert columns["年收入（元）"].bins[-1].label == MISSING
    assert columns["种类"].bins[-1].label == OTHERS
    assert sum(bin.rows for bin in summary.times) == ROWS
    assert sum(bin.rows * bin.bad_rate for bin in summary.times) == pytest.approx(summary.bad_rate * ROWS)


def test_the_page_loads_nothing_runs_nothing_and_shows_nobody(config, tmp_path):
    path = tmp_path / "new" / "profile.html"
    write_profile(read_user_table(config), "loans.csv", path, simulated=True)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "default-src 'none'" in page
    assert "&lt;b&gt;对虾&lt;/b&gt;" in page
    assert page.count("<svg") == 9  # one for each column with values, and one over time
    assert "SIMULATED" in page
    assert all(text not in page for text in ("HT000", "电话已联系", "稀有"))


def test_training_leaves_the_profile_beside_the_card_and_learns_from_the_dates(config, tmp_path):
    text = (
        format_config(read_user_table(config), config, "credit_limit")
        + SMALL.format(plots="false")
        + "min_group_rows = 50\n"
    )
    (tmp_path / "loans.toml").write_text(text, encoding="utf-8")
    with ProgressReporter(quiet=True) as reporter:
        settings = RECIPE.load(tmp_path / "loans.toml")
        model = pipeline.train(RECIPE, TabularPipeline, settings, tmp_path / "var", reporter)
    assert "核销" in model.card_path.with_name("profile.html").read_text(encoding="utf-8")
    card = (model.bundle_dir / "card.json").read_text(encoding="utf-8")
    assert "months from 营业执照日期 to 申请日期" in card
    assert "性别 = " in model.card_path.read_text(encoding="utf-8")


def test_a_plot_fits_its_box_and_an_empty_one_is_drawn():
    shape = plot_bins([Bin("a", 10, 0.1), Bin("b", 0, None), Bin("c", 3, 0.4)], 90)
    assert all(0 <= bar["y"] <= 56 and bar["x"] + bar["width"] <= 90 for bar in shape["bars"])
    assert len(shape["dots"]) == 2
    assert plot_bins([])["bars"] == []
    assert [format_percent(share) for share in (0, 0.0004, 0.0123, None)] == ["0 %", "< 0.1 %", "1.2 %", "–"]
