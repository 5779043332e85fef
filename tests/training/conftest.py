"""One small training run, from the simulated county to the registry, shared by the tests that look at what it left."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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
"""


@dataclass(frozen=True)
class Home:
    """A folder of everything made, and the config that made it."""

    var: Path
    config: Path
    made: object


def quick(text: str, **changes: str) -> str:
    """A config with a few lines changed."""
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Home:
    from training import credit_limit, pipeline
    from training.progress import ProgressReporter

    folder = tmp_path_factory.mktemp("home")
    config = folder / "tiny.toml"
    config.write_text(TINY.format(policy=ROOT / "configs/policies/credit_limit.toml"))
    made = pipeline.train(credit_limit, credit_limit.load(config), folder / "var", ProgressReporter(quiet=True))
    return Home(folder / "var", config, made)
