"""Every file in configs/ loads."""

import json
from pathlib import Path

import pytest

from models.credit_limit.policy import Policy as CreditPolicy
from models.pathology.policy import ReadingPolicy
from models.scitech_risk.policy import Policy as SciTechPolicy
from serving import settings
from tests.paths import ROOT
from training.credit_limit import RECIPE as CREDIT_LIMIT
from training.pathology import recipe as pathology
from training.scitech_risk import RECIPE as SCITECH_RISK

CONFIGS = ROOT / "configs"
PRODUCTS = {
    "credit_limit": (CREDIT_LIMIT, CreditPolicy),
    "scitech_risk": (SCITECH_RISK, SciTechPolicy),
    "pathology": (pathology, ReadingPolicy),
}


def of_a_product(folder: Path) -> list:
    """(product, file): the files in a folder that are named like a product."""
    files = [(name, path) for name in PRODUCTS for path in sorted(folder.glob(f"{name}*.toml"))]
    return [pytest.param(name, path, id=path.stem) for name, path in files]


@pytest.mark.parametrize(("product", "path"), of_a_product(CONFIGS))
def test_a_recipe_loads(product, path):
    assert PRODUCTS[product][0].load(path).name == path.stem


@pytest.mark.parametrize(("product", "path"), of_a_product(CONFIGS / "policies"))
def test_a_policy_loads(product, path):
    assert PRODUCTS[product][1].load(path).version


def test_the_service_settings_load():
    assert settings.load_settings(CONFIGS / "serving.toml", {}).host == "127.0.0.1"


@pytest.mark.parametrize("path", sorted((CONFIGS / "examples").glob("*.json")), ids=lambda path: path.stem)
def test_an_example_names_its_model(path):
    assert (CONFIGS / f"{json.loads(path.read_text())['model']}.toml").exists()
