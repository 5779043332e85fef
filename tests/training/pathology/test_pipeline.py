"""What a run over slides leaves behind, when it succeeds, is repeated, or fails."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

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
from training.pathology import holdout, recipe, slide_reader
from training.progress import ProgressReporter
from training.tracking.mlflow_registry import Registry


def held_bundle(home, version):
    return bundle.load_bundle(home.var / "bundles" / "tiny" / version, home.var / "keys" / "signing.pub.pem", SlideCard)


def material(home):
    return recipe.read(recipe.load(home.config))


def changed(home, name, **changes):
    """The config of the first run without what takes time and changes no answer, and with these lines changed."""
    text = home.config.read_text().replace("small = true", "small = false").replace("plots = true", "plots = false")
    for line, other in changes.items():
        text = re.sub(rf"(?m)^{line} = [0-9].*$", f"{line} = {other}", text)
    path = home.config.with_name(f"{name}.toml")
    path.write_text(text)
    return path


def test_the_bundle_reads_slides_and_its_card_says_what_it_was_made_from(slides_home):
    found = held_bundle(slides_home, slides_home.made.version)
    card = require_readable(found).card
    assert (card.product, card.model, card.side, card.mpp) == ("pathology", "tiny", 64, 1.0)
    assert card.simulated
    assert [one.code for one in card.classes] == ["NILM", "LSIL", "HSIL", "SCC"]
    tiles, slides = card.data
    assert (tiles.rows, slides.rows) == (300, 13 + 14 + 10)
    assert len(tiles.sha256) == len(slides.sha256) == len(slides.split_sha256) == 64
    assert "13 to learn, 14 to calibrate, 10 to test" in slides.split
    assert card.versions["torch"]
    assert ReadingPolicy.load(found.policy).version


def test_the_signed_card_tells_the_gates_verdict_and_what_its_pictures_are_drawn_from(slides_home):
    card = held_bundle(slides_home, slides_home.made.version).card
    assert card.verdict.passed == slides_home.made.verdict.passed
    assert {"sensitivity", "shortcut"} <= {check.name for check in card.verdict.checks}
    assert [curve.name for curve in card.plots.roc] == ["model", "tiles"]
    assert (card.plots.unit, card.plots.rows, card.plots.spread.what) == ("slides", 10, "probability")
    assert [curve.name for curve in card.plots.learning] == ["learned", "held"]


def test_the_graph_says_what_torch_says_and_how_far_a_tile_is_from_all_that_was_learned_from(slides_home):
    found = held_bundle(slides_home, slides_home.made.version)
    parity = found.card.metrics["parity"]
    assert set(parity) == {"tiles", "slides"}
    assert max(parity.values()) <= 1e-4
    known = material(slides_home).learn.images[:40]
    near = TileGraph(found.graph).run(known).distance
    noise = np.random.default_rng(0).integers(0, 256, known.shape, np.uint8)
    assert np.median(near) < found.card.familiar < TileGraph(found.graph).run(noise).distance.min()


def test_a_service_reads_the_slides_as_the_judge_did(slides_home):
    found = held_bundle(slides_home, slides_home.made.version)
    slides = material(slides_home).slides["test"]
    policy = ReadingPolicy.load(found.policy)
    read = list(slide_reader.read_slides(slides, TileGraph(found.graph), 64, 1.0, policy))
    answered, attention = holdout.predict_slides(found.card, SlideGraph(found.extra_graphs[SLIDE_GRAPH]), policy, read)
    seen = found.card.metrics
    at_risk = answered.positive_probability >= found.card.slide.point.threshold
    assert at_risk[answered.y == 1].mean() == pytest.approx(seen["sensitivity"]["value"])
    assert np.trace(np.array(seen["confusion"])) == (answered.class_probabilities.argmax(1) == answered.labels).sum()
    assert all(one.sum() == pytest.approx(1, abs=1e-4) for one in attention)


def test_the_report_has_its_pictures_its_claim_and_says_that_it_is_simulated(slides_home):
    told = slides_home.made.card_path.read_text()
    assert "模拟数据" in told
    assert "is not claimable: 9 positive patients" in told
    assert {path.stem for path in (slides_home.made.card_path.parent / "plots").glob("*.png")} == {
        "confusion",
        "roc",
        "calibration",
        "learning",
        "distances",
        "examples",
        "heatmap",
    }


def test_the_registry_tells_the_run_its_data_figures_and_files(slides_home):
    registry = Registry(slides_home.var)
    run = registry.client.get_run(slides_home.made.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["simulated"] == "true"
    assert run.data.metrics["tiles/auc"] == pytest.approx(slides_home.made.evaluation.tiles.metrics["auc"].value)
    digests = {tag.value for data in run.inputs.dataset_inputs for tag in data.tags if tag.key == "sha256"}
    assert digests == {data.sha256 for data in held_bundle(slides_home, slides_home.made.version).card.data}
    assert {file.path for file in registry.client.list_artifacts(slides_home.made.run_id)} == {"bundle", "report"}
    assert not list((slides_home.var / "checkpoints").glob("*/*"))


def test_too_few_slides_make_no_champion_and_the_gate_says_why(slides_home):
    assert not slides_home.made.verdict.passed
    assert any("59 without a miss" in why for why in slides_home.made.verdict.failures)


def test_the_command_trains_the_same_again_and_compares_it_with_the_champion_on_the_same_slides(slides_home):
    home, first = slides_home, slides_home.made
    pipeline.promote(Registry(home.var), home.var, "tiny", first.registry_version, first.version)
    done = CliRunner().invoke(
        app,
        ["pathology", "--config", str(changed(home, "again")), "--var", str(home.var), "--quiet"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert f"better than the champion {first.version}: AUC differs by +0.0000 [+0.0000, +0.0000]" in done.output
    assert bundle.read_alias(home.var / "bundles" / "tiny") == first.version
    version = re.search(r"bundle \S+/(\S+)", done.output).group(1)
    once, again = (held_bundle(home, one) for one in (first.version, version))
    tiles = material(home).learn.images[:20]
    before, after = (TileGraph(one.graph).run(tiles) for one in (once, again))
    np.testing.assert_array_equal(before.logits, after.logits)
    np.testing.assert_array_equal(before.distance, after.distance)
    assert once.card.slide == again.card.slide
    assert [data.sha256 for data in once.card.data] == [data.sha256 for data in again.card.data]


def test_a_run_that_fails_leaves_nothing_but_the_word_of_it(slides_home):
    def broken(*_):
        raise RuntimeError("the slides are gone")

    home = slides_home
    wrong = SimpleNamespace(**{**vars(recipe), "fit_attention": broken})
    before = {path.name for path in (home.var / "bundles" / "tiny").iterdir()}
    known = len(Registry(home.var).list_versions("tiny"))
    few = changed(home, "fails")
    with pytest.raises(RuntimeError, match="slides are gone"):
        pipeline.train(wrong, recipe.load(few), home.var, ProgressReporter(quiet=True))
    registry = Registry(home.var)
    assert {path.name for path in (home.var / "bundles" / "tiny").iterdir()} == before
    assert len(registry.list_versions("tiny")) == known
    experiment = registry.client.get_experiment_by_name("tiny")
    newest = registry.client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)[0]
    assert (newest.info.status, newest.data.tags["error"]) == ("FAILED", "RuntimeError: the slides are gone")


def test_where_torch_is_not_installed_the_command_says_how_to_install_it():
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['training', 'pathology', '--quiet'];"
        "from training.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "make .venv/.dev" in done.stderr
    assert "configs/locks/dev.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_trains_without_torch():
    code = "import sys; import training.credit_limit, training.pipeline; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_painted_slides_read_no_folder(slides_home, tmp_path):
    with pytest.raises(ConfigError, match="paints its slides itself"):
        recipe.load(slides_home.config, tmp_path)
