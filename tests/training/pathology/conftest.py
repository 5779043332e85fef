"""One small run over painted slides, from tiles to the registry, shared by the tests that look at what it left."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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
    """A folder of everything made, and the config that made it."""

    var: Path
    config: Path
    made: object


def config_text() -> str:
    told = "".join(
        f'[[classes]]\ncode = "{code}"\nen = "{code}"\nzh = "{code}"\ntbs = "{code}"\npositive = {positive}\n'
        for code, positive in CLASSES
    )
    return TINY.format(policy=ROOT / "configs/policies/pathology.toml", classes=told, learn=LEARN)


@pytest.fixture(scope="session")
def slides_home(tmp_path_factory) -> Home:
    from training import pipeline
    from training.pathology import recipe
    from training.progress import ProgressReporter

    folder = tmp_path_factory.mktemp("pathology")
    config = folder / "tiny.toml"
    config.write_text(config_text())
    made = pipeline.train(recipe, recipe.load(config), folder / "var", ProgressReporter(quiet=True))
    return Home(folder / "var", config, made)
