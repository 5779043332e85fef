"""Training is deterministic, resumes after an interruption, and stops when the validation loss no longer falls."""

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
    """(40, 32, 32, 3) dark and light tiles, and their labels."""
    rng = np.random.default_rng(3)
    labels = np.arange(40) % 2
    shade = np.where(labels, 90, 190)[:, None, None, None]
    return (shade + rng.integers(-20, 20, (40, 32, 32, 3))).astype(np.uint8), labels.astype(np.intp)


def weights(trained):
    return torch.cat([value.flatten().float() for value in trained.net.state_dict().values()])


def test_the_seed_determines_the_network(tiles):
    first, second = train(*tiles, QUICK, NET), train(*tiles, QUICK, NET)
    assert torch.equal(weights(first), weights(second))
    other = train(*tiles, QUICK.model_copy(update={"seed": 1}), NET)
    assert not torch.equal(weights(first), weights(other))


def test_a_resumed_run_equals_an_uninterrupted_one(tiles, tmp_path):
    uninterrupted = train(*tiles, QUICK, NET, validation=tiles)

    class InterruptionError(Exception):
        pass

    def interrupt(completed, total):
        if completed == 2:
            raise InterruptionError  # before the checkpoint of this epoch

    with pytest.raises(InterruptionError):
        train(*tiles, QUICK, NET, validation=tiles, checkpoint_dir=tmp_path, progress=interrupt)
    resumed = train(*tiles, QUICK, NET, validation=tiles, checkpoint_dir=tmp_path)
    assert torch.equal(weights(uninterrupted), weights(resumed))
    assert uninterrupted.history == resumed.history


def test_training_stops_early_and_returns_the_weights_of_the_best_epoch(tiles, monkeypatch):
    losses = iter([0.5, 0.4, 0.6, 0.7, 0.8])
    weights_by_epoch = []

    def fake_loss(net, *_):
        weights_by_epoch.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(module, "mean_class_loss", fake_loss)
    trained = train(*tiles, QUICK.model_copy(update={"epochs": 9, "patience": 2}), NET, validation=tiles)
    assert (len(trained.history), trained.best_epoch) == (4, 1)
    assert all(torch.equal(value, weights_by_epoch[1][name]) for name, value in trained.net.state_dict().items())


def test_the_training_loss_falls_on_separable_tiles(tiles):
    trained = train(*tiles, QUICK.model_copy(update={"epochs": 8, "mixup": 0.0}), NetConfig(classes=2, side=32))
    assert trained.history[-1].train_loss < 0.9 * trained.history[0].train_loss
    logits, embedding = predict(trained.net, tiles[0], symmetry_count=2)
    assert (logits.shape, embedding.shape) == ((40, 2), (40, 1280))


def test_a_short_run_adopts_the_batch_statistics_of_its_own_tiles(tiles):
    """With Lite0's own momentum the statistics were still ImageNet's long after training on other images."""
    net = NetConfig(classes=2, side=32)
    trained = train(*tiles, QUICK.model_copy(update={"epochs": 6, "ema_decay": 0.0}), net).net
    conv, norm = trained.features[0][0], trained.features[0][1]
    with torch.inference_mode():
        pixels = (torch.from_numpy(tiles[0]).permute(0, 3, 1, 2).float() - trained.mean) / trained.deviation
        mean = conv(pixels).mean((0, 2, 3))
    initial_mean = TileNet(net).features[0][1].running_mean
    assert (norm.running_mean - mean).abs().mean() < 0.5 * (initial_mean - mean).abs().mean()


def test_training_restores_the_random_state_and_the_number_of_threads(tiles):
    random_state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train(*tiles, QUICK.model_copy(update={"epochs": 1}), NET)
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_labels_and_tiles_that_do_not_fit_are_refused(tiles):
    with pytest.raises(ValueError, match="0 to 1 are expected"):
        train(tiles[0], tiles[1] + 1, QUICK, NET)
    with pytest.raises(ValueError, match="one label each"):
        train(tiles[0], tiles[1][:-1], QUICK, NET)


def test_augmented_tiles_keep_their_range_and_white_stays_white():
    generator = torch.Generator().manual_seed(1)
    white = torch.full((6, 32, 32, 3), 255, dtype=torch.uint8)
    assert augment(white, AugmentConfig(), generator).min() > 254.99
    noise = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    pixels = augment(noise, AugmentConfig(), generator)
    assert pixels.shape == (6, 3, 32, 32)
    assert pixels.min() >= 0
    assert pixels.max() < 255.01


def test_without_augmentation_the_pixels_are_the_tile():
    noise = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    unchanged = AugmentConfig(turn=False, zoom_range=(1.0, 1.0), stain=0.0, blur=0.0)
    pixels = augment(noise, unchanged, torch.Generator().manual_seed(1))
    torch.testing.assert_close(pixels, noise.permute(0, 3, 1, 2).float(), atol=0.6, rtol=0)


def test_the_eight_symmetries_differ():
    tile = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    assert len({view.numpy().tobytes() for view in symmetries(tile, 8)}) == 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_refused_in_a_sentence():
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        resolve_device("cuda")
