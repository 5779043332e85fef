"""From tiles to a slide."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from models.pathology.neural import attention_pooling, export
from models.pathology.neural.attention_pooling import AttentionConfig
from models.pathology.onnx_sessions import SlideGraph

SMALL = AttentionConfig(embedding=16, hidden=16, epochs=20)


def slides(count, seed, positives=(1, 4)):
    """Bags of 20-60 tiles; a positive one hides a few tiles that are shifted in two of 16 directions."""
    rng = np.random.default_rng(seed)
    bags, labels, hidden = [], np.arange(count) % 2, []
    for label in labels:
        bag = rng.normal(size=(rng.integers(20, 60), 16)).astype(np.float32)
        marked = rng.permutation(len(bag))[: rng.integers(*positives)] if label else np.array([], int)
        bag[marked, :2] += 3
        bags.append(bag)
        hidden.append(marked)
    return bags, labels, hidden


@pytest.fixture(scope="module")
def model():
    return attention_pooling.fit_attention(*slides(120, seed=0)[:2], SMALL)


def test_a_few_tiles_decide_a_slide_and_attention_points_at_them(model):
    bags, labels, hidden = slides(100, seed=1)
    graph = SlideGraph(export.export_slide_graph(model))
    answers = [graph.run(bag) for bag in bags]
    assert roc_auc_score(labels, [logits[1] - logits[0] for logits, _ in answers]) > 0.95
    result = [
        attention.argmax() in marked for (_, attention), marked in zip(answers, hidden, strict=True) if len(marked)
    ]
    assert np.mean(result) > 0.8


def test_the_graph_agrees_with_torch_on_slides_of_one_and_of_many_tiles(model):
    bags = [np.random.default_rng(size).normal(size=(size, 16)).astype(np.float32) for size in (1, 2, 500)]
    assert export.check_slide_parity(model, export.export_slide_graph(model), bags) <= 1e-4


def test_the_order_of_the_tiles_has_no_say(model):
    bag = slides(2, seed=2)[0][1]
    turn = np.random.default_rng(0).permutation(len(bag))
    with torch.inference_mode():
        (logits, attention), (turned, moved) = model(torch.from_numpy(bag)), model(torch.from_numpy(bag[turn]))
    torch.testing.assert_close(logits, turned)
    torch.testing.assert_close(attention[turn], moved)
    assert float(attention.sum()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_numbers_and_leaves_others_alone():
    before = torch.random.get_rng_state()
    first, second = (attention_pooling.fit_attention(*slides(8, seed=3)[:2], SMALL).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert torch.equal(before, torch.random.get_rng_state())


def test_bags_and_labels_that_do_not_match_are_refused():
    bags, labels, _ = slides(4, seed=4)
    with pytest.raises(ValueError, match="4 slides and 3 labels"):
        attention_pooling.fit_attention(bags, labels[:3], SMALL)
    with pytest.raises(ValueError, match=r"Slides \[1\]: their embeddings are \[\(0, 16\)\]"):
        attention_pooling.fit_attention([bags[0], bags[1][:0], *bags[2:]], labels, SMALL)
    with pytest.raises(ValueError, match="labels run from 0 to 2"):
        attention_pooling.fit_attention(bags, labels * 2, SMALL)


def test_attention_finds_abnormal_cells_among_normal_ones(cells, embeddings):
    """Real cells in made-up slides of 15; learned on three folds, judged on the fourth."""
    rng = np.random.default_rng(0)

    def deal(rows, count):
        normal, abnormal = (rows[cells.label2[rows] == label] for label in (0, 1))
        bags, marks = [], []
        for turn in range(count):
            bad = rng.choice(abnormal, 3 * (turn % 2), replace=False)
            selected = np.concatenate([bad, rng.choice(normal, 15 - len(bad), replace=False)])
            bags.append(embeddings[selected])
            marks.append(cells.label2[selected])
        return bags, np.arange(count) % 2, marks

    _, learn, judge = next(cells.cross_validation_folds())
    model = attention_pooling.fit_attention(*deal(learn, 150)[:2], AttentionConfig(epochs=8))
    bags, labels, marks = deal(judge, 100)
    with torch.inference_mode():
        answers = [model(torch.from_numpy(bag)) for bag in bags]
    assert roc_auc_score(labels, [float(logits[1] - logits[0]) for logits, _ in answers]) > 0.85
    pairs = [(mark, attention.numpy()) for mark, (_, attention) in zip(marks, answers, strict=True) if mark.any()]
    assert np.mean([roc_auc_score(mark, weight) for mark, weight in pairs]) > 0.6  # 0.5: blind


def test_a_slide_shown_in_parts_gets_the_answer_of_the_whole():
    torch.manual_seed(3)
    model = attention_pooling.GatedAttention(AttentionConfig(embedding=16)).eval()
    served = SlideGraph(export.export_slide_graph(model))
    bag = np.random.default_rng(5).normal(0, 3, (100, 16)).astype(np.float32)
    logits, attention = served.run(bag)
    parts, shares = served.run_chunks([bag[:1], bag[1:60], bag[60:]])
    np.testing.assert_allclose(parts, logits, atol=1e-5)
    np.testing.assert_allclose(shares, attention, atol=1e-6)


def test_attention_begins_with_what_is_known_of_tiles():
    """A slide of one tile is judged as that tile is, before anything is learned from slides."""
    bags, labels = slides(8, seed=3)[:2]
    head = torch.nn.Linear(bags[0].shape[1], SMALL.classes)
    model = attention_pooling.fit_attention(bags, labels, SMALL.model_copy(update={"learning_rate": 1e-12}), head)
    with torch.no_grad():
        for tile in torch.from_numpy(bags[0][:4]):
            torch.testing.assert_close(model(tile[None])[0], head(tile), atol=1e-4, rtol=1e-4)
