"""The graph against LightGBM: raw score to the last bit, reasons to 1e-5, on any value a float32 can hold."""

import lightgbm as lgb
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scorecard.scaling import ScoreScale, sigmoid
from models.trees.forest import extract_leaves, merge_boosters
from models.trees.onnx_graph import compile_graph, expected_raw_score

SLOPE, INTERCEPT, SCALE = 1.07, -0.13, ScoreScale()
INF = np.float32(np.inf)


def grow(rows=3000, features=6, trees=40, bag=1, seed=0, missing=0.1, coarse=False, **params):
    """A merged bag of boosters on data with interactions, missing values and, if coarse, few distinct values."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    if coarse:
        x = np.round(x * 2) / 2
    z = x[:, 0] + x[:, 1] * x[:, 2] - np.abs(x[:, features - 1]) + rng.logistic(size=rows)
    y = (z > 0).astype(int)
    x[rng.random(x.shape) < missing] = np.nan
    settings = {"objective": "binary", "max_depth": 3, "num_leaves": 8, "verbose": -1, "num_threads": 1} | params
    draws = [rng.integers(0, rows, rows) for _ in range(bag)]
    return merge_boosters([lgb.train(settings, lgb.Dataset(x[draw], y[draw]), trees) for draw in draws]), x


def session(forest):
    model = compile_graph(
        forest, slope=SLOPE, intercept=INTERCEPT, scale=SCALE, n_features=forest.num_feature()
    ).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ask(graph, x, reasons=True):
    """(pd, points, raw, contributions) of the rows."""
    return graph.run(["pd", "points", "raw", "contributions"], {"x": x, "with_reasons": np.array(reasons)})


def agrees_with_lightgbm(forest, graph, x):
    pd, points, raw, contributions = ask(graph, x)
    native = forest.predict(x, raw_score=True, num_threads=1)
    assert raw.dtype == np.float32
    assert np.array_equal(raw.astype(np.float64), native)  # bit for bit
    log_odds = SLOPE * native + INTERCEPT
    assert np.abs(pd - sigmoid(log_odds)).max() <= 1e-15
    assert np.array_equal(points, SCALE.points(log_odds))
    theirs = forest.predict(x, pred_contrib=True, num_threads=1)
    assert np.abs(contributions - theirs[:, :-1]).max() <= 1e-5
    assert np.abs(contributions.sum(axis=1, dtype=np.float64) + expected_raw_score(forest) - native).max() <= 1e-5


def thresholds(forest):
    """feature -> the thresholds asked of it, float32."""
    requested = {}
    for tree in extract_leaves(forest):
        for leaf in tree:
            for feature, condition in leaf.conditions.items():
                requested.setdefault(feature, set()).update({condition.low, condition.high} - {-np.inf, np.inf})
    return {feature: np.float32(sorted(values)) for feature, values in requested.items()}


def at_and_beside(values):
    """The values and the float32 to either side of each; beyond the largest lies infinity."""
    with np.errstate(over="ignore"):
        return np.concatenate([values, np.nextafter(values, -INF), np.nextafter(values, INF)])


def edge_rows(forest, x, seed=0):
    """Rows in which each threshold of each feature occurs, and the float32 to either side of it."""
    rng = np.random.default_rng(seed)
    rows = []
    for feature, edges in thresholds(forest).items():
        values = at_and_beside(edges)
        some = x[rng.integers(0, len(x), len(values))].copy()
        some[:, feature] = values
        rows.append(some)
    return np.concatenate(rows)


def strange_rows(forest, n=2000, seed=0):
    """Rows mixed from missing, infinite, unseen, zero, tiny and threshold values in each feature."""
    rng = np.random.default_rng(seed)
    odd = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-35, -1e-35, 1e-40, -1e-45, 1234.5])
    requested = thresholds(forest)
    columns = []
    for feature in range(forest.num_feature()):
        edges = requested.get(feature, np.float32([]))
        columns.append(rng.choice(np.concatenate([odd, at_and_beside(edges)]), n))
    return np.stack(columns, axis=1)


FORESTS = {
    "a bag of three": {"bag": 3},
    "monotone": {"monotone_constraints": [1, 0, 0, 0, 0, -1], "monotone_constraints_method": "advanced"},
    "depth two": {"max_depth": 2},
    "stumps": {"max_depth": 1},
    "nothing missing in training": {"missing": 0.0},
    "mostly missing": {"missing": 0.6, "coarse": True},
    "few distinct values": {"coarse": True, "missing": 0.02},
    "three features asked again and again": {"features": 3, "trees": 80, "max_bin": 31},
    "bagging within the booster": {"bagging_freq": 1, "bagging_fraction": 0.5, "feature_fraction": 0.5},
    "unbalanced weights": {"scale_pos_weight": 5.0, "learning_rate": 0.3},
}


@pytest.fixture(scope="module", params=FORESTS, ids=str)
def grown(request):
    forest, x = grow(**FORESTS[request.param])
    return forest, session(forest), x


def test_score_and_reasons_are_lightgbms(grown):
    agrees_with_lightgbm(*grown)


def test_score_and_reasons_are_lightgbms_at_each_threshold_and_beside_it(grown):
    forest, graph, x = grown
    agrees_with_lightgbm(forest, graph, edge_rows(forest, x))


def test_score_and_reasons_are_lightgbms_on_missing_infinite_and_unseen_values(grown):
    forest, graph, _ = grown
    agrees_with_lightgbm(forest, graph, strange_rows(forest))


def test_the_score_is_the_same_whether_reasons_are_wanted_or_not(grown):
    _, graph, x = grown
    *with_reasons, contributions = ask(graph, x[:257], reasons=True)
    *alone, none = ask(graph, x[:257], reasons=False)
    for expected, actual in zip(with_reasons, alone, strict=True):
        assert np.array_equal(expected, actual)
    assert contributions.shape == (257, x.shape[1])
    assert none.shape == (0, x.shape[1])


def test_one_row_alone_scores_as_among_others(grown):
    _, graph, x = grown
    together = ask(graph, x[:200])
    for row in range(200):
        for alone, among in zip(ask(graph, x[row : row + 1])[:3], together[:3], strict=True):
            assert alone[0] == among[row]


def test_no_rows_give_no_answers(grown):
    _, graph, x = grown
    pd, points, raw, contributions = ask(graph, x[:0])
    assert (pd.shape, points.shape, raw.shape, contributions.shape) == ((0,), (0,), (0,), (0, x.shape[1]))


def test_a_hundred_thousand_rows_agree():
    forest, x = grow(trees=6, bag=3, learning_rate=0.2)
    graph = session(forest)
    rng = np.random.default_rng(1)
    rows = rng.normal(scale=1.5, size=(100_000, x.shape[1])).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    agrees_with_lightgbm(forest, graph, rows)
    batch = ask(graph, rows, reasons=False)
    for row in (0, 1, 49_999, 99_999):
        for alone, among in zip(ask(graph, rows[row : row + 1], reasons=False)[:3], batch[:3], strict=True):
            assert alone[0] == among[row]


def test_threads_change_no_bit():
    forest, x = grow(trees=60)
    model = compile_graph(forest, slope=SLOPE, intercept=INTERCEPT, scale=SCALE, n_features=x.shape[1])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    two = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for expected, actual in zip(ask(session(forest), x)[:3], ask(two, x)[:3], strict=True):
        assert np.array_equal(expected, actual)


@given(
    seed=st.integers(0, 2**20),
    depth=st.integers(1, 3),
    missing=st.sampled_from([0.0, 0.05, 0.5]),
    coarse=st.booleans(),
    bag=st.integers(1, 3),
    max_bin=st.sampled_from([3, 15, 255]),
    extra=st.booleans(),
)
@settings(max_examples=25)
def test_any_small_forest_agrees(seed, depth, missing, coarse, bag, max_bin, extra):
    params = {"max_depth": depth, "max_bin": max_bin, "extra_trees": extra, "extra_seed": seed, "min_data_in_leaf": 1}
    forest, x = grow(rows=300, features=4, trees=8, bag=bag, seed=seed, missing=missing, coarse=coarse, **params)
    agrees_with_lightgbm(forest, session(forest), np.concatenate([x, edge_rows(forest, x), strange_rows(forest, 200)]))


@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0, 2])), min_size=1, max_size=60))
@settings(max_examples=12)
def test_missing_values_may_go_either_way_at_each_question(flips):
    """Also directions that no number would take: left at a low threshold and right at a higher one."""
    forest, x = grow(rows=500, features=3, trees=10, max_bin=15)
    text = [line for line in forest.model_to_string().splitlines() if not line.startswith("tree_sizes=")]
    lines = [number for number, line in enumerate(text) if line.startswith("decision_type=")]
    for where, left in flips:
        line = lines[where % len(lines)]
        kinds = text[line].partition("=")[2].split()
        kinds[where // len(lines) % len(kinds)] = str(8 + left)  # 8: missing is NaN; 2: it goes left
        text[line] = "decision_type=" + " ".join(kinds)
    turned = lgb.Booster(model_str="\n".join(text) + "\n")
    agrees_with_lightgbm(turned, session(turned), np.concatenate([x, strange_rows(turned, 500)]))


def test_a_forest_without_questions_gives_its_constant_and_no_reasons():
    forest, x = grow(min_data_in_leaf=5000)
    agrees_with_lightgbm(forest, session(forest), x[:10])
    assert not ask(session(forest), x[:10])[3].any()


def test_many_questions_about_one_set_of_features_are_shared_out_over_tables():
    forest, x = grow(rows=6000, features=3, trees=120, max_bin=255, extra_trees=True)
    assert sum(map(len, thresholds(forest).values())) > 150  # one table would have far too many cells
    agrees_with_lightgbm(forest, session(forest), np.concatenate([x[:1000], edge_rows(forest, x)]))


def test_the_bias_is_lightgbms_expected_value():
    forest, x = grow(bag=3)
    assert expected_raw_score(forest) == pytest.approx(forest.predict(x[:1], pred_contrib=True)[0, -1], abs=1e-12)


def test_the_same_forest_gives_the_same_bytes():
    forest, _ = grow()
    first, second = (
        compile_graph(forest, slope=1.0, intercept=0.0, scale=SCALE, n_features=6).SerializeToString() for _ in "ab"
    )
    assert first == second


def test_a_wrong_number_of_features_is_refused():
    forest, _ = grow(trees=2)
    with pytest.raises(ValueError, match="trained on 6 features, and the graph is to take 7"):
        compile_graph(forest, slope=1.0, intercept=0.0, scale=SCALE, n_features=7)
