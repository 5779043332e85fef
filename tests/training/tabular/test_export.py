"""A graph that does not compute what the model does is never exported."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from datasets.schema import ColumnSchema
from models.trees.forest import merge_boosters
from models.trees.onnx_session import TabularSession
from training.tabular.export import ParityError, export, fit_reference, verify_parity
from training.tabular.fit import FittedModel


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    y = (np.nan_to_num(x).sum(axis=1) + rng.normal(size=600) > 1).astype(float)
    params = {"objective": "binary", "max_depth": 3, "num_leaves": 8, "verbosity": -1, "num_threads": 1}
    bag = [lightgbm.train({**params, "seed": i}, lightgbm.Dataset(x, y), 8) for i in range(2)]
    columns = tuple(ColumnSchema(name=name) for name in "abc")
    return FittedModel(columns, x, merge_boosters(bag), slope=1.1, intercept=-0.2)


def test_the_graph_agrees_with_the_model_at_every_threshold_and_for_extreme_values(fit):
    differences = verify_parity(fit, TabularSession(export(fit).graph), fit.x)
    assert differences["raw"] == 0
    assert differences["pd"] < 1e-12
    assert differences["contributions"] < 1e-5


def test_a_graph_with_another_head_is_refused(fit):
    other = FittedModel(fit.columns, fit.x, fit.forest, slope=1.1001, intercept=-0.2)
    with pytest.raises(ParityError, match=r"pd differs by .*, at most 1e-06"):
        verify_parity(fit, TabularSession(export(other).graph), fit.x)


def test_the_reference_ascends_from_the_lowest_score_to_the_highest(fit):
    scores = TabularSession(export(fit).graph).run(fit.x, reasons=True)
    reference = fit_reference(scores.points, scores.contributions)
    assert list(reference.points) == sorted(set(reference.points))
    assert len(reference.contributions[0]) == 3
    assert np.sum(reference.contributions[0]) > np.sum(reference.contributions[-1])  # low scores have high raw scores
