"""Months between dates, and the age at application, follow from a table's dates; what lies afterwards gives nothing."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from training.config import parse
from training.tabular.config_draft import draft_config
from training.tabular.user_table import UserTableConfig, read_user_table

ROWS = 300
FORMS = {
    "slashes": lambda day: f"{day.year}/{day.month}/{day.day}",
    "chinese": lambda day: f"{day.year}年{day.month}月{day.day}日",
    "digits": lambda day: day.strftime("%Y%m%d"),
    "serial": lambda day: str((day - date(1899, 12, 30)).days),
    "mixed": lambda day: str((day - date(1899, 12, 30)).days) if day.day % 3 else day.isoformat(),
}


def table(folder, write=FORMS["slashes"]):
    rng = np.random.default_rng(1)
    applied = [date(2023, 1, 1) + timedelta(int(days)) for days in rng.integers(0, 500, ROWS)]
    licence = [day - timedelta(int(days)) for day, days in zip(applied, rng.integers(30, 4_000, ROWS), strict=True)]
    born = [day - timedelta(int(days)) for day, days in zip(applied, rng.integers(7_500, 25_000, ROWS), strict=True)]
    frame = pl.DataFrame(
        {
            "申请日期": list(map(write, applied)),
            "执照发放日期": list(map(write, licence)),
            "到期日期": [write(day + timedelta(365)) for day in applied],
            "出生日期": list(map(write, born)),
            "收入": rng.gamma(2, 3e4, ROWS).round(2),
            "结果": rng.choice(["违约", "正常"], ROWS, p=[0.3, 0.7]),
        }
    )
    path = folder / "loans.csv"
    frame.write_csv(path)
    expected = [(a - b).days / (365.25 / 12) for a, b in zip(applied, licence, strict=True)]
    return UserTableConfig(file=path, target="结果", positive_labels="违约"), expected


@pytest.mark.parametrize("form", FORMS)
def test_months_to_the_application_are_an_input_and_the_age_is_audited(tmp_path, form):
    config, expected = table(tmp_path, FORMS[form])
    read = read_user_table(config)
    roles = {column.name: column.role for column in read.table.columns}
    assert roles == {
        "申请日期": "time", "执照发放日期": "id", "到期日期": "id", "出生日期": "id", "收入": "indicator",
        "结果": "target", "months from 执照发放日期 to 申请日期": "indicator", "age at 申请日期": "audit",
    }  # fmt: skip
    assert read.frame["months from 执照发放日期 to 申请日期"].to_list() == expected
    assert read.frame["age at 申请日期"].min() > 20
    assert "lie after 申请日期" in read.column_remarks["到期日期"]


def test_the_drafted_config_declares_the_same_features_and_offers_a_split_by_time(tmp_path):
    config, _ = table(tmp_path)
    text = draft_config(config, "credit_limit")
    drafted = parse(tomllib.loads(text)["table"], UserTableConfig)
    assert read_user_table(drafted).table.columns == read_user_table(config).table.columns
    assert '# column = "申请日期"' in text
    without = "\n".join(line for line in text.splitlines() if not line.startswith('"months from'))
    names = [c.name for c in read_user_table(parse(tomllib.loads(without)["table"], UserTableConfig)).table.columns]
    assert not any(name.startswith("months") for name in names)
