"""Every shipped config loads; a wrong config is refused in a sentence."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from models.credit_limit.policy import Policy
from tests.paths import ROOT
from training.__main__ import PRODUCTS, load_product
from training.config import ConfigError, parse
from training.credit_limit import RECIPE, Config
from training.pipeline import TrainingPipeline

CONFIGS = [
    path for folder in ("configs", "configs/released") for path in sorted((ROOT / folder).glob("credit_limit*.toml"))
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_names_a_policy_that_loads(path):
    config = RECIPE.load(path)
    assert config.name == path.stem
    assert Policy.load(ROOT / config.policy)


def test_every_config_states_purpose_and_limits_of_its_model_in_both_languages():
    configs = [tomllib.loads(path.read_text("utf-8")) for path in (ROOT / "configs").glob("**/*.toml")]
    configs = [config for config in configs if "not_for" in config]
    assert len(configs) >= 6
    for config in configs:
        assert config["purpose"].isascii()
        assert config["not_for"].isascii()
        assert re.search("[\u4e00-\u9fff]", config["purpose_zh"]), config["name"]
        assert re.search("[\u4e00-\u9fff]", config["not_for_zh"]), config["name"]


def test_an_unknown_key_names_the_nearest_known_one_and_all_faults_are_reported_together(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text('[data]\nsource = "count"\n[judge]\nresample = 5\n')
    with pytest.raises(ConfigError) as error:
        RECIPE.load(path)
    assert "'count' is not one of" in str(error.value)
    assert "did you mean 'county'" in str(error.value)
    assert "judge.resample is not a known key; did you mean 'resamples'?" in str(error.value)


def test_an_unknown_hyperparameter_is_refused():
    with pytest.raises(ConfigError, match="trees"):
        parse({"name": "x", "estimator": {"tree": 3}, "data": {"source": "county"}}, Config)


def test_a_file_and_a_target_suffice_for_a_config(tmp_path):
    path = tmp_path / "My bank 2.toml"
    path.write_text('[table]\nfile = "loans.csv"\ntarget = "status"\npositive_labels = "lost"\n')
    config = RECIPE.load(path)
    assert config.name == "my_bank_2"
    assert config.table.positive_labels == ("lost",)


def test_a_config_must_name_exactly_one_table():
    with pytest.raises(ConfigError, match="exactly one of"):
        parse({"name": "x"}, Config)


def test_a_data_file_given_on_the_command_line_replaces_that_of_the_config():
    assert RECIPE.load(ROOT / "configs/credit_limit.toml", Path("other.parquet")).data.file == Path("other.parquet")


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_product_has_a_recipe_a_pipeline_and_a_config(product):
    recipe, pipeline = load_product(product)
    assert issubclass(pipeline, TrainingPipeline)
    assert recipe.load(ROOT / "configs" / f"{product}.toml").product == product
