"""Every config loads; a wrong one is refused in a sentence."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from models.credit_limit.policy import Policy
from tests.paths import ROOT
from training.__main__ import RECIPES
from training.config import ConfigError, parse
from training.credit_limit import Config, load

CONFIGS = sorted((ROOT / "configs").glob("credit_limit*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_names_a_policy_that_loads(path):
    config = load(path)
    assert config.name == path.stem
    assert Policy.load(ROOT / config.policy)


def test_every_recipe_says_in_both_languages_what_its_model_is_for_and_not_for():
    recipes = [tomllib.loads(path.read_text("utf-8")) for path in (ROOT / "configs").glob("*.toml")]
    recipes = [recipe for recipe in recipes if "not_for" in recipe]
    assert len(recipes) >= 6
    for recipe in recipes:
        assert recipe["purpose"].isascii()
        assert recipe["not_for"].isascii()
        assert re.search("[\u4e00-\u9fff]", recipe["purpose_zh"]), recipe["name"]
        assert re.search("[\u4e00-\u9fff]", recipe["not_for_zh"]), recipe["name"]


def test_a_wrong_key_names_the_nearest_and_all_faults_come_together(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text('[data]\nsource = "count"\n[judge]\nresample = 5\n')
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert "'count' is not one of" in str(refused.value)
    assert "did you mean 'county'" in str(refused.value)
    assert "judge.resample is not known here; did you mean 'resamples'?" in str(refused.value)


def test_an_unknown_number_of_the_estimator_is_refused():
    given = {"name": "x", "estimator": {"tree": 3}}
    with pytest.raises(ConfigError, match="trees"):
        parse(given | {"data": {"source": "county"}}, Config)


def test_a_file_and_a_target_are_config_enough(tmp_path):
    path = tmp_path / "My bank 2.toml"
    path.write_text('[table]\nfile = "loans.csv"\ntarget = "status"\nbad = "lost"\n')
    config = load(path)
    assert config.name == "my_bank_2"
    assert config.table.positive_labels == ("lost",)


def test_a_config_names_one_table():
    given = {"name": "x"}
    with pytest.raises(ConfigError, match="exactly one of"):
        parse(given, Config)


def test_a_file_given_by_hand_takes_the_place_of_the_configs_own():
    assert load(ROOT / "configs/credit_limit.toml", Path("other.parquet")).data.file == Path("other.parquet")


def test_every_product_has_a_recipe_with_a_config():
    from importlib import import_module

    for name, module in RECIPES.items():
        recipe = import_module(module)
        assert name == recipe.PRODUCT
        assert (ROOT / recipe.CONFIG).exists()
