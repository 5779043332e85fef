"""One small training run, from the simulated county to the registry, shared by the tests that examine its results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

TINY = """
name = "tiny"
seed = 3
policy = "{policy}"

[data]
source = "county"
rows = 3000

[split]
how = "group"
column = "village_id"
test = 0.4

[estimator]
folds = 3
trees = 30
learning_rate = 0.15
min_data_in_leaf = 40

[judge]
resamples = 40
min_group_rows = 150

[gate]
slope = [0.5, 1.6]
intercept = [-0.8, 0.8]
min_approval_ratio = 0.6
min_limit_ratio = 0.6
"""


@dataclass(frozen=True)
class Home:
    """The folder of a training run, the config that it used, and the model that it trained."""

    var: Path
    config: Path
    model: Any


@pytest.fixture(scope="session", autouse=True)
def lax_floors() -> Iterator[None]:
    """Models that are trained on a few rows reach no floor of an operator."""
    os.environ["YUHENG_GATE"] = str(Path(__file__).with_name("gate.toml"))
    yield
    del os.environ["YUHENG_GATE"]


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Home:
    from training import pipeline
    from training.credit_limit import RECIPE
    from training.progress import ProgressReporter
    from training.tabular.pipeline import TabularPipeline

    folder = tmp_path_factory.mktemp("home")
    config = folder / "tiny.toml"
    config.write_text(TINY.format(policy=ROOT / "configs/policies/credit_limit.toml"))
    settings, reporter = RECIPE.load(config), ProgressReporter(quiet=True)
    model = pipeline.train(RECIPE, TabularPipeline, settings, folder / "var", reporter)
    return Home(folder / "var", config, model)
