"""What a run over slides leaves behind when it succeeds, is repeated, or fails."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from models import bundle
from models.bundle import SLIDE_GRAPH
from models.pathology.card import SlideCard, require_readable
from models.pathology.onnx_sessions import SlideGraph, TileGraph
from models.pathology.policy import ReadingPolicy
from training import pipeline
from training.__main__ import app
from training.config import ConfigError
from training.pathology import recipe, slide_reader
from training.pathology.evaluation import holdout
from training.pathology.pipeline import PathologyPipeline
from training.progress import ProgressReporter
from training.tracking.mlflow_registry import Registry


def load_bundle(home, version):
    return bundle.load_bundle(home.var / "bundles" / "tiny" / version, home.var / "keys" / "signing.pub.pem", SlideCard)


def training_data(home):
    return recipe.read(recipe.load(home.config))


def write_quick_config(home, name):
    """Write the config of the first run without what takes time and does not change the model."""
    text = home.config.read_text().replace("small = true", "small = false").replace("plots = true", "plots = false")
    path = home.config.with_name(f"{name}.toml")
    path.write_text(text)
    return path


def test_the_bundle_reads_slides_and_its_card_describes_its_data(slides_home):
    trained = load_bundle(slides_home, slides_home.model.version)
    card = require_readable(trained).card
    assert (card.product, card.model, card.side, card.mpp) == ("pathology", "tiny", 64, 1.0)
    assert card.simulated
    assert [tile_class.code for tile_class in card.classes] == ["NILM", "LSIL", "HSIL", "SCC"]
    tiles, slides = card.data
    assert (tiles.rows, slides.rows) == (300, 13 + 14 + 10)
    assert len(tiles.sha256) == len(slides.sha256) == len(slides.split_sha256) == 64
    assert "13 to learn, 14 to calibrate, 10 to test" in slides.split
    assert card.versions["torch"]
    assert ReadingPolicy.load(trained.policy).version


def test_the_signed_card_contains_the_gates_verdict_and_the_plot_data(slides_home):
    card = load_bundle(slides_home, slides_home.model.version).card
    assert card.verdict.passed == slides_home.model.verdict.passed
    assert {"sensitivity", "shortcut"} <= {check.name for check in card.verdict.checks}
    assert [curve.name for curve in card.plots.roc] == ["model", "tiles"]
    assert (card.plots.unit, card.plots.rows, card.plots.spread.what) == ("slides", 10, "probability")
    assert [curve.name for curve in card.plots.learning] == ["learned", "held"]


def test_the_graph_agrees_with_torch_and_computes_the_distance_from_the_training_tiles(slides_home):
    trained = load_bundle(slides_home, slides_home.model.version)
    parity = trained.card.metrics["parity"]
    assert set(parity) == {"tiles", "slides"}
    assert max(parity.values()) <= 1e-4
    training_tiles = training_data(slides_home).learn.images[:40]
    distances = TileGraph(trained.graph).run(training_tiles).distance
    noise = np.random.default_rng(0).integers(0, 256, training_tiles.shape, np.uint8)
    assert np.median(distances) < trained.card.familiar < TileGraph(trained.graph).run(noise).distance.min()


def test_a_service_reads_the_slides_as_the_evaluation_did(slides_home):
    trained = load_bundle(slides_home, slides_home.model.version)
    slides = training_data(slides_home).slides["test"]
    policy = ReadingPolicy.load(trained.policy)
    features = list(slide_reader.read_slides(slides, TileGraph(trained.graph), 64, 1.0, policy))
    graph = SlideGraph(trained.extra_graphs[SLIDE_GRAPH])
    predictions, attention = holdout.predict_slides(trained.card, graph, policy, features)
    metrics = trained.card.metrics
    is_flagged = predictions.positive_probability >= trained.card.slide.point.threshold
    assert is_flagged[predictions.y == 1].mean() == pytest.approx(metrics["sensitivity"]["value"])
    correct = predictions.class_probabilities.argmax(1) == predictions.labels
    assert np.trace(np.array(metrics["confusion"])) == correct.sum()
    assert all(weights.sum() == pytest.approx(1, abs=1e-4) for weights in attention)


def test_the_model_card_has_its_plots_and_its_claim_and_says_that_the_data_are_simulated(slides_home):
    text = slides_home.model.card_path.read_text()
    assert "模拟数据" in text
    assert not slides_home.model.evaluation.claimable, "nine positive patients are too few for a claim"
    assert slides_home.model.evaluation.claim in text
    assert {path.stem for path in (slides_home.model.card_path.parent / "plots").glob("*.png")} == {
        "confusion",
        "roc",
        "calibration",
        "learning",
        "distances",
        "examples",
        "heatmap",
    }


def test_the_registry_records_the_run_with_its_data_metrics_and_files(slides_home):
    registry, model = Registry(slides_home.var), slides_home.model
    run = registry.client.get_run(model.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["simulated"] == "true"
    assert run.data.metrics["tiles/auc"] == pytest.approx(model.evaluation.tiles.metrics["auc"].value)
    digests = {tag.value for data in run.inputs.dataset_inputs for tag in data.tags if tag.key == "sha256"}
    assert digests == {data.sha256 for data in load_bundle(slides_home, model.version).card.data}
    assert {file.path for file in registry.client.list_artifacts(model.run_id)} == {"bundle", "report"}
    assert not list((slides_home.var / "checkpoints").glob("*/*"))


def test_a_model_evaluated_on_too_few_slides_is_refused_and_the_gate_says_why(slides_home):
    assert not slides_home.model.verdict.passed
    assert any(slides_home.model.evaluation.claim in failure for failure in slides_home.model.verdict.failures)


def test_the_command_trains_the_same_model_again_and_compares_it_with_the_champion(slides_home):
    home, first = slides_home, slides_home.model
    pipeline.promote(Registry(home.var), home.var, "tiny", first.registry_version, first.version)
    result = CliRunner().invoke(
        app,
        ["pathology", "--config", str(write_quick_config(home, "again")), "--var", str(home.var), "--quiet"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert f"better than the champion {first.version}: AUC differs by +0.0000 [+0.0000, +0.0000]" in result.output
    assert bundle.read_alias(home.var / "bundles" / "tiny") == first.version
    version = re.search(r"bundle \S+/(\S+)", result.output).group(1)
    bundles = [load_bundle(home, name) for name in (first.version, version)]
    tiles = training_data(home).learn.images[:20]
    outputs = [TileGraph(trained.graph).run(tiles) for trained in bundles]
    np.testing.assert_array_equal(outputs[0].logits, outputs[1].logits)
    np.testing.assert_array_equal(outputs[0].distance, outputs[1].distance)
    assert bundles[0].card.slide == bundles[1].card.slide
    digests = [[data.sha256 for data in trained.card.data] for trained in bundles]
    assert digests[0] == digests[1]


def test_a_failed_run_leaves_only_the_record_of_its_failure(slides_home, monkeypatch):
    def fail(*_):
        raise RuntimeError("the slides are gone")

    home = slides_home
    monkeypatch.setattr(recipe, "fit_attention", fail)
    bundles_before = {path.name for path in (home.var / "bundles" / "tiny").iterdir()}
    version_count = len(Registry(home.var).list_versions("tiny"))
    config = recipe.load(write_quick_config(home, "fails"))
    with pytest.raises(RuntimeError, match="slides are gone"):
        pipeline.train(recipe, PathologyPipeline, config, home.var, ProgressReporter(quiet=True))
    registry = Registry(home.var)
    assert {path.name for path in (home.var / "bundles" / "tiny").iterdir()} == bundles_before
    assert len(registry.list_versions("tiny")) == version_count
    experiment = registry.client.get_experiment_by_name("tiny")
    newest = registry.client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)[0]
    assert (newest.info.status, newest.data.tags["error"]) == ("FAILED", "RuntimeError: the slides are gone")


def test_where_torch_is_not_installed_the_command_says_how_to_install_it():
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['training', 'pathology', '--quiet'];"
        "from training.__main__ import main; sys.exit(main())"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert completed.returncode == 2
    assert "make .venv/.dev" in completed.stderr
    assert "configs/locks/dev.txt" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_a_tabular_model_trains_without_torch():
    code = "import sys; import training.credit_limit, training.tabular.pipeline; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_config_with_simulated_slides_accepts_no_data_folder(slides_home, tmp_path):
    with pytest.raises(ConfigError, match="simulates its slides"):
        recipe.load(slides_home.config, tmp_path)
