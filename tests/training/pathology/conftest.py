"""One small run over simulated slides, from tiles to the registry, shared by the tests that examine its results."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

CLASSES = (("NILM", "false"), ("LSIL", "true"), ("HSIL", "true"), ("SCC", "true"))
TINY = """
name = "tiny"
seed = 3
validation_share = 0.34
policy = "{policy}"
specimens = ["cervical_cytology"]
mpp = 1.0

[data]
source = "simulated"
tiles = 300
columns = 2
rows = 2
strange = 2
[data.learn]
negative = 4
positive = 3
[data.calibrate]
negative = 5
positive = 3
[data.test]
negative = 4
positive = 2

{classes}
[net]
side = 64
[learn]
{learn}
[attention]
epochs = 15
[claims]
reference_embeddings = 300
[judge]
resamples = 40
threads = 1
small = true
plots = true
"""
LEARN = 'epochs = 2\nfrozen_blocks = 18\nthreads = 1\nlearning_rate = 0.02\nema_decay = 0.5\ndevice = "cpu"'


@dataclass(frozen=True)
class Home:
    """The folder of a training run, the config that it used, and the model that it trained."""

    var: Path
    config: Path
    model: Any


def config_text() -> str:
    classes = "".join(
        f'[[classes]]\ncode = "{code}"\nen = "{code}"\nzh = "{code}"\ntbs = "{code}"\npositive = {positive}\n'
        for code, positive in CLASSES
    )
    return TINY.format(policy=ROOT / "configs/policies/pathology.toml", classes=classes, learn=LEARN)


@pytest.fixture(scope="session")
def slides_home(tmp_path_factory) -> Home:
    from training import pipeline
    from training.pathology import recipe
    from training.pathology.pipeline import PathologyPipeline
    from training.progress import ProgressReporter

    folder = tmp_path_factory.mktemp("pathology")
    config = folder / "tiny.toml"
    config.write_text(config_text())
    settings, reporter = recipe.load(config), ProgressReporter(quiet=True)
    model = pipeline.train(recipe, PathologyPipeline, settings, folder / "var", reporter)
    return Home(folder / "var", config, model)
