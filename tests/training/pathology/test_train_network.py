"""A network is learned the same way twice, goes on where it was broken off, and stops when it learns nothing more."""

import numpy as np
import pytest
import torch

from models.pathology.neural.network import NetConfig, TileNet
from training.pathology import train_network as module
from training.pathology.augment import AugmentConfig, augment, symmetries
from training.pathology.train_network import NetworkTrainingConfig, predict, resolve_device, train

NET = NetConfig(classes=2, side=32, imagenet=False)
QUICK = NetworkTrainingConfig(epochs=3, batch_size=8, frozen_blocks=0, threads=1, patience=0, device="cpu")


@pytest.fixture(scope="module")
def tiles():
    """(40, 32, 32, 3) dark and light ones."""
    rng = np.random.default_rng(3)
    labels = np.arange(40) % 2
    shade = np.where(labels, 90, 190)[:, None, None, None]
    return (shade + rng.integers(-20, 20, (40, 32, 32, 3))).astype(np.uint8), labels.astype(np.intp)


def weights(learned):
    return torch.cat([value.flatten().float() for value in learned.net.state_dict().values()])


def test_one_seed_gives_one_network_and_another_seed_another(tiles):
    first, second = train(*tiles, QUICK, NET), train(*tiles, QUICK, NET)
    assert torch.equal(weights(first), weights(second))
    other = train(*tiles, QUICK.model_copy(update={"seed": 1}), NET)
    assert not torch.equal(weights(first), weights(other))


def test_a_run_broken_off_and_resumed_is_the_unbroken_run(tiles, tmp_path):
    whole = train(*tiles, QUICK, NET, validation=tiles)

    class Broken(Exception):
        pass

    def tick(done, of):
        if done == 2:
            raise Broken  # before this epoch's checkpoint

    with pytest.raises(Broken):
        train(*tiles, QUICK, NET, validation=tiles, checkpoint_dir=tmp_path, progress=tick)
    resumed = train(*tiles, QUICK, NET, validation=tiles, checkpoint_dir=tmp_path)
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.history == resumed.history


def test_it_stops_when_the_held_rows_gain_nothing_and_keeps_the_best(tiles, monkeypatch):
    told = iter([0.5, 0.4, 0.6, 0.7, 0.8])
    kept = []

    def loss_of(net, *_):
        kept.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(told)

    monkeypatch.setattr(module, "mean_class_loss", loss_of)
    found = train(*tiles, QUICK.model_copy(update={"epochs": 9, "patience": 2}), NET, validation=tiles)
    assert (len(found.history), found.best_epoch) == (4, 1)
    assert all(torch.equal(value, kept[1][name]) for name, value in found.net.state_dict().items())


def test_it_learns_what_can_be_learned(tiles):
    found = train(*tiles, QUICK.model_copy(update={"epochs": 8, "mixup": 0.0}), NetConfig(classes=2, side=32))
    assert found.history[-1].train_loss < 0.9 * found.history[0].train_loss
    logits, embedding = predict(found.net, tiles[0], symmetry_count=2)
    assert (logits.shape, embedding.shape) == ((40, 2), (40, 1280))


def test_a_short_run_takes_on_the_statistics_of_its_own_tiles(tiles):
    """With Lite0's own momentum the network was used with ImageNet's long after it had learned other pictures."""
    net = NetConfig(classes=2, side=32)
    found = train(*tiles, QUICK.model_copy(update={"epochs": 6, "ema_decay": 0.0}), net).net
    conv, norm = found.features[0][0], found.features[0][1]
    with torch.inference_mode():
        pixels = (torch.from_numpy(tiles[0]).permute(0, 3, 1, 2).float() - found.mean) / found.deviation
        own = conv(pixels).mean((0, 2, 3))
    began = TileNet(net).features[0][1].running_mean
    assert (norm.running_mean - own).abs().mean() < 0.5 * (began - own).abs().mean()


def test_it_leaves_random_numbers_and_threads_as_they_were(tiles):
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train(*tiles, QUICK.model_copy(update={"epochs": 1}), NET)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_labels_and_tiles_that_do_not_fit_are_refused(tiles):
    with pytest.raises(ValueError, match="0 to 1 are needed"):
        train(tiles[0], tiles[1] + 1, QUICK, NET)
    with pytest.raises(ValueError, match="as many of each"):
        train(tiles[0], tiles[1][:-1], QUICK, NET)


def test_augmented_tiles_keep_their_range_and_white_stays_white():
    generator = torch.Generator().manual_seed(1)
    white = torch.full((6, 32, 32, 3), 255, dtype=torch.uint8)
    assert augment(white, AugmentConfig(), generator).min() > 254.99
    noise = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    found = augment(noise, AugmentConfig(), generator)
    assert found.shape == (6, 3, 32, 32)
    assert found.min() >= 0
    assert found.max() < 255.01


def test_without_augmentation_the_pixels_are_the_tile():
    noise = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    still = AugmentConfig(turn=False, zoom_range=(1.0, 1.0), stain=0.0, blur=0.0)
    found = augment(noise, still, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, noise.permute(0, 3, 1, 2).float(), atol=0.6, rtol=0)


def test_the_eight_symmetries_are_eight():
    tile = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    assert len({each.numpy().tobytes() for each in symmetries(tile, 8)}) == 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_told():
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ValueError, match="torch finds none"):
        resolve_device("cuda")
