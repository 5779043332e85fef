"""Protected attributes, people and facts after the outcome are recognised by heading and values, in two languages."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datasets.errors import DataError
from training.tabular.columns.roles import find_protected, is_known_afterwards, names_a_person
from training.tabular.config_draft import draft_config
from training.tabular.user_table import UserTableConfig, read_user_table

ROWS = 400


@pytest.mark.parametrize(
    ("heading", "levels", "attribute"),
    [
        ("SEX", (), "sex"),
        ("客户性别", ("1", "2"), "sex"),
        ("属性一", ("男", "女"), "sex"),
        ("x7", ("M", "F"), "sex"),
        ("民族", (), "ethnicity"),
        ("c3", ("汉族", "回族", "畲族"), "ethnicity"),
        ("MaritalStatus", (), "marriage"),
        ("家庭情况", ("已婚", "未婚", "离异"), "marriage"),
        ("applicant_age", (), "age"),
        ("年龄（岁）", (), "age"),
        ("BirthDate", (), "date of birth"),
        ("出生年月", (), "date of birth"),
        ("籍贯", (), "birthplace"),
        ("宗教信仰", (), "religion"),
        ("是否残疾", (), "health"),
        ("所在村", (), "village"),
    ],
)
def test_a_protected_attribute_is_recognised_by_its_heading_or_its_values(heading, levels, attribute):
    assert find_protected(heading, levels).name == attribute


@pytest.mark.parametrize(
    "heading",
    ["licence_age", "account_age_months", "账龄", "企业年龄", "income", "health_insurance", "essex_branch",
     "乡村振兴贷款", "language", "mortgage", "traceability", "健康险保费"],
)  # fmt: skip
def test_other_columns_are_not_taken_for_protected_ones(heading):
    assert find_protected(heading, ("A", "B", "C")) is None


def test_people_and_facts_after_the_outcome_are_recognised():
    assert all(map(names_a_person, ("姓名", "customer_name", "家庭住址", "Email")))
    assert not any(map(names_a_person, ("product_name", "企业规模", "income")))
    assert all(map(is_known_afterwards, ("ChgOffDate", "核销金额", "recoveries", "loan_status", "五级分类")))
    assert not any(map(is_known_afterwards, ("late_before", "逾期次数", "term", "registered capital")))


@pytest.fixture
def loans(tmp_path):
    rng = np.random.default_rng(0)
    bad = rng.random(ROWS) < 0.3
    frame = pl.DataFrame(
        {
            "性别": rng.choice(["男", "女"], ROWS),
            "年龄": rng.integers(20, 70, ROWS),
            "姓名": [f"张{chr(0x4E00 + i)}" for i in range(ROWS // 2)] * 2,
            "收入": rng.gamma(2, 3e4, ROWS).round(2),
            "核销金额": np.where(bad, rng.gamma(2, 1e4, ROWS).round(2), 0.0),
            "结果": np.where(bad, "违约", "正常"),
        }
    )
    path = tmp_path / "loans.csv"
    frame.write_csv(path)
    return path


def test_protected_columns_are_audited_people_left_out_and_leaks_taken_out(loans):
    config = UserTableConfig(file=loans, target="结果", positive_labels="违约")
    read = read_user_table(config)
    roles = {column.name: column.role for column in read.table.columns}
    assert roles == {
        "性别": "audit", "年龄": "audit", "姓名": "id", "收入": "indicator", "核销金额": "leak", "结果": "target",
    }  # fmt: skip
    assert "describes sex, a protected attribute" in read.column_remarks["性别"]
    [line] = [x for x in draft_config(config, "credit_limit").splitlines() if x.startswith('"核销金额"')]
    assert line.startswith('"核销金额" = { role = "leak"')
    assert "WARNING, possible leak" in line
    assert "left out of the model" in line


def test_a_protected_column_is_an_input_only_with_a_reason(loans):
    columns = {"年龄": {"role": "indicator"}, "性别": {"role": "indicator"}}
    config = UserTableConfig(file=loans, target="结果", positive_labels="违约", columns=columns)
    with pytest.raises(DataError, match=r"性别 describes sex.*年龄 describes age.*reason = "):
        read_user_table(config)
    columns["年龄"]["reason"] = "legal capacity ends at 70 in this product"
    del columns["性别"]
    read = read_user_table(config.model_copy(update={"columns": columns}))
    assert (read.table["年龄"].role, read.table["性别"].role) == ("indicator", "audit")
    assert "70 in this product" in read.table["年龄"].reason


def test_a_leak_that_its_owner_declares_an_input_stays_one(loans):
    columns = {"核销金额": {"role": "indicator"}}
    config = UserTableConfig(file=loans, target="结果", positive_labels="违约", columns=columns)
    read = read_user_table(config)
    assert read.table["核销金额"].role == "indicator"
    assert read.leaks[0].column == "核销金额"
