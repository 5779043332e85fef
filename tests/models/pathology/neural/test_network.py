"""The network over tiles, and the graph that a service runs in its place."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from models.pathology.neural import export, network, quantization
from models.pathology.neural.network import EMBEDDING_SIZE, NetConfig, TileNet
from models.pathology.onnx_sessions import TileGraph

BACKBONES = [
    pytest.param(
        backbone,
        # installed without what it declares to need, so no lock file can hold it
        marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"),
    )
    for backbone, (package, _, _) in network.WEIGHT_PACKAGES.items()
]


@pytest.fixture(scope="module", params=BACKBONES)
def net(request):
    torch.manual_seed(0)
    return TileNet(NetConfig(backbone=request.param, side=96)).eval()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_packaged_weights_know_a_palace_and_a_daisy(backbone):
    """ImageNet's own head put back: wrong padding, order or scale of the layers would not name these pictures."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    packed = torch.load(network.weights_file(backbone), weights_only=True)
    head = "_fc" if backbone == "efficientnet_lite0" else "classifier.1"
    net = TileNet(NetConfig(backbone=backbone, side=224, classes=1_000)).eval()
    net.head.load_state_dict({name: packed[f"{head}.{name}"] for name in ("weight", "bias")})
    middles = [Image.fromarray(image).crop((107, 0, 534, 427)) for image in load_sample_images().images]
    pictures = np.stack([np.asarray(picture.resize((224, 224))) for picture in middles])
    with torch.inference_mode():
        palace, flower = net(torch.from_numpy(pictures))[0].topk(3).indices.tolist()
    assert 698 in palace  # palace
    assert 985 in flower or 947 in flower  # daisy; MobileNetV2 sees the cap of a mushroom


def test_the_graph_says_what_torch_says_on_real_cells(net, tiles):
    difference = export.check_tile_parity(net, export.export_tile_graph(net), tiles[::30])
    assert difference <= export.TOLERANCE


def test_the_graph_takes_any_number_of_tiles_and_refuses_another_size(frozen, tiles):
    graph = TileGraph(frozen)
    together, alone = graph.run(tiles[:33]), [graph.run(tiles[row : row + 1]) for row in range(33)]
    assert together.embedding.shape == (33, EMBEDDING_SIZE)
    np.testing.assert_allclose(together.logits, np.concatenate([output.logits for output in alone]), atol=1e-4)
    np.testing.assert_allclose(together.probabilities.sum(1), 1)
    for wrong in (tiles[:2, :64, :64], tiles[:2].astype(np.float32), tiles[:0], tiles[0]):
        with pytest.raises(ValueError, match=r"\(n, 96, 96, 3\) uint8 RGB"):
            graph.run(wrong)


def test_a_graph_that_says_something_else_is_not_exported(net, tiles):
    graph = export.export_tile_graph(net)
    before = net.head.bias.detach().clone()
    with torch.no_grad():
        net.head.bias += 0.01
    with pytest.raises(export.ParityError, match="differ by 1.0e-02"):
        export.check_tile_parity(net, graph, tiles[:4])
    with torch.no_grad():
        net.head.bias.copy_(before)


def test_frozen_blocks_keep_their_weights_and_statistics(tiles):
    net = TileNet(NetConfig(side=96))
    net.freeze(3)
    net.train()
    before = {name: value.clone() for name, value in net.features[:3].state_dict().items()}
    optimiser = torch.optim.SGD((parameter for parameter in net.parameters() if parameter.requires_grad), 0.1)
    logits, _ = net(torch.from_numpy(tiles[:4]))
    logits.sum().backward()
    optimiser.step()
    after = net.features[:3].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    changed = [name for name, value in net.features[3:].state_dict().items() if "running_mean" in name]
    assert changed
    fresh = TileNet(NetConfig(side=96)).features[3:].state_dict()
    assert not any(torch.equal(net.features[3:].state_dict()[name], fresh[name]) for name in changed)


def test_int8_is_offered_only_where_faster_and_no_worse():
    assert export.Int8Comparison(speed=1.4, auc=0.98, auc_int8=0.976, max_probability_difference=0.1).acceptable
    assert not export.Int8Comparison(speed=0.9, auc=0.98, auc_int8=0.98, max_probability_difference=0.0).acceptable
    assert not export.Int8Comparison(speed=1.4, auc=0.98, auc_int8=0.975, max_probability_difference=0.1).acceptable


def test_int8_is_a_third_of_the_size_and_judged_on_real_cells(frozen, cells, tiles):
    small = quantization.quantize(frozen, tiles[cells.folds != 0][::20])
    holdout = np.flatnonzero(cells.folds == 0)[::4]
    verdict = export.compare_int8(frozen, small, tiles[holdout], cells.label2[holdout], np.array([3, 4, 5, 6]))
    assert len(small) < 0.4 * len(frozen)
    assert verdict.speed > 0
    assert 0 <= verdict.auc_int8 <= 1


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setitem(network.WEIGHT_PACKAGES, "mobilenet_v2", ("no_such_package", "x.pth", ""))
    with pytest.raises(ModuleNotFoundError, match="no-such-package carries.*imagenet = false"):
        TileNet(NetConfig(backbone="mobilenet_v2"))
    assert TileNet(NetConfig(backbone="mobilenet_v2", imagenet=False)).head.out_features == 7
