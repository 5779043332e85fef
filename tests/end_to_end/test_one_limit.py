"""From a training run to an answer: one limit everywhere, and no outside host asked."""

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from models.bundle import parse_bundle, read_alias, verify_bundle
from models.card import Card
from models.scorecard.scaling import ScoreScale, sigmoid
from models.trees.onnx_session import Scores, TabularSession
from serving.decisions.products.base import deploy, products
from tests.dns_trace import OURS, looked_up, traced
from tests.paths import ROOT
from tests.training.conftest import TINY
from training import credit_limit, scitech_risk
from training.progress import ProgressReporter
from training.tabular.dataset import make_split

COMPANIES = """
name = "tiny"
seed = 3
policy = "{policy}"

[data]
source = "register"
rows = 3000

[split]
test = 0.4

[estimator]
folds = 3
trees = 30
learning_rate = 0.15
min_data_in_leaf = 40

[judge]
resamples = 40
min_group_rows = 150
"""
TRAINED = {"credit_limit": (credit_limit.RECIPE, TINY), "scitech_risk": (scitech_risk.RECIPE, COMPANIES)}


@pytest.fixture(scope="module", params=TRAINED)
def home(request, tmp_path_factory):
    """A small training run by the command line, traced."""
    home = tmp_path_factory.mktemp(request.param)
    policy = ROOT / f"configs/policies/{request.param}.toml"
    (home / "tiny.toml").write_text(TRAINED[request.param][1].replace("{policy}", str(policy)))
    command = [sys.executable, "-m", "training", request.param, "--config", str(home / "tiny.toml"), "--quiet"]
    done = subprocess.run(
        [*command, "--var", str(home / "var")],
        cwd=ROOT,
        env={**os.environ, **traced(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, home


def test_a_training_run_looks_up_no_outside_host(home):
    assert looked_up(home[1]) <= OURS


def test_training_graph_service_and_batch_give_one_limit_to_the_yuan(home):
    product, home = home
    recipe = TRAINED[product][0]
    config = recipe.load(home / "tiny.toml")
    rows = recipe.read(config)
    split = make_split(config, rows)
    fit = recipe.train(config, config.policy.read_bytes(), rows, split, ProgressReporter(quiet=True))
    models = home / "var/bundles/tiny"
    version = read_alias(models) or read_alias(models, "challenger")
    verified = verify_bundle(models / version, home / "var/keys/signing.pub.pem")
    bundle = parse_bundle(verified, Card)
    model, options = deploy(verified), {option.name: option.default for option in products()[product].options}
    test = rows.frame[split.test]
    x = fit.x[split.test]

    log_odds = fit.slope * fit.forest.predict(x, raw_score=True) + fit.intercept  # LightGBM, without the graph
    native = Scores(sigmoid(log_odds), ScoreScale().points(log_odds), log_odds.astype(np.float32), None)
    in_training = recipe.decide(bundle.card, bundle.policy, test, native).limit.tolist()
    by_graph = recipe.decide(bundle.card, bundle.policy, test, TabularSession(bundle.graph).run(x)).limit.tolist()
    in_batch = model.predict_batch(test, reasons=False)["indicative_limit"].to_list()
    known = [column.name for column in model.fields]
    one_by_one = []
    for values in test.select(known).to_dicts():
        row, faults = model.validate(values)
        assert faults == []
        one_by_one.append(model.decide(values, row, options)["indicative_limit"])

    assert len(in_training) > 1_000
    assert pl.Series(in_training).n_unique() > 50
    assert in_training == by_graph == in_batch == one_by_one
