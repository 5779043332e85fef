"""Every file in configs/ loads."""

import json
from pathlib import Path

import pytest

from models.credit_limit.policy import Policy as CreditPolicy
from models.scitech_risk.policy import Policy as SciTechPolicy
from serving import settings
from training import credit_limit

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("credit_limit*.toml")), ids=lambda path: path.stem)
def test_a_recipe_loads(path):
    assert credit_limit.load(path).name == path.stem


@pytest.mark.parametrize("path", sorted((CONFIGS / "policies").glob("*.toml")), ids=lambda path: path.stem)
def test_a_policy_loads(path):
    policy = SciTechPolicy if path.stem.startswith("scitech_risk") else CreditPolicy
    assert policy.load(path).version


def test_the_service_settings_load():
    assert settings.read(CONFIGS / "serving.toml", {}).host == "127.0.0.1"


@pytest.mark.parametrize("path", sorted((CONFIGS / "examples").glob("*.json")), ids=lambda path: path.stem)
def test_an_example_names_its_model(path):
    assert (CONFIGS / f"{json.loads(path.read_text())['model']}.toml").exists()
