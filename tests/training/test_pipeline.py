"""What a training run leaves behind when it succeeds, falls short, or fails."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from models import bundle
from models.feature_encoder import encode
from models.trees.onnx_session import TabularSession
from training import pipeline
from training.__main__ import app
from training.config import ConfigError
from training.credit_limit import RECIPE
from training.progress import ProgressReporter
from training.tabular.pipeline import TabularPipeline
from training.tabular.recipe import TabularRecipe
from training.tracking.mlflow_registry import NotRegisteredError, Registry

QUICK = """
[judge]
resamples = 40
min_group_rows = 150
scorecard = false
unconstrained = false
unread = false
plots = false
"""


def retrain(home, name, recipe=RECIPE, trees=30):
    """Train another version after the first one, quickly."""
    text = home.config.read_text()
    head, rest = text.split("[judge]")
    text = head.replace("trees = 30", f"trees = {trees}") + QUICK + "\n[gate]" + rest.split("[gate]")[1]
    path = home.config.with_name(f"{name}.toml")
    path.write_text(text)
    return pipeline.train(recipe, TabularPipeline, RECIPE.load(path), home.var, ProgressReporter(quiet=True))


def load_bundle(home, version):
    return bundle.load_bundle(home.var / "bundles" / "tiny" / version, home.var / "keys" / "signing.pub.pem")


def test_the_first_model_becomes_the_champion_with_a_signed_bundle(home):
    assert home.model.verdict.passed, home.model.verdict.failures
    assert bundle.read_alias(home.var / "bundles" / "tiny") == home.model.version
    card = load_bundle(home, home.model.version).card
    assert (card.product, card.model, card.version) == ("credit_limit", "tiny", home.model.version)
    assert (home.var / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600


def test_the_card_describes_its_data_and_says_that_they_are_simulated(home):
    card = load_bundle(home, home.model.version).card
    assert card.simulated
    assert card.data[0].simulated
    assert card.data[0].rows == 3_000
    assert len(card.data[0].sha256) == 64
    assert card.data[0].split_sha256
    assert card.run_id == home.model.run_id
    assert "Simulated data" in home.model.card_path.read_text()
    assert {path.stem for path in (home.model.card_path.parent / "plots").glob("*.png")} >= {
        "roc",
        "calibration",
        "reasons",
    }


def test_the_signed_card_contains_the_gates_verdict_and_the_plot_data(home):
    card = load_bundle(home, home.model.version).card
    assert card.verdict.passed
    assert {check.name: check.found for check in card.verdict.checks} == {
        check.name: check.found for check in home.model.verdict.checks
    }
    plots = card.plots
    assert (plots.unit, plots.rows) == ("rows", home.model.evaluation.rows)
    curve = plots.roc[0]
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(home.model.evaluation.metrics["auc"].value, abs=0.005)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert all(group.low <= group.seen <= group.high for group in plots.reliability)
    assert sum(plots.spread.positive) == pytest.approx(1, abs=1e-4)
    assert len(plots.model_dump_json()) < 20_000, "the card must stay small"


def test_a_card_without_verdict_and_plots_can_still_be_read(home):
    card = load_bundle(home, home.model.version).card
    earlier = type(card).model_validate(card.model_dump(mode="json", exclude={"verdict", "plots"}))
    assert (earlier.verdict, earlier.plots) == (None, None)


def test_the_pd_reads_no_moral_group_and_no_audit_column(home):
    card = load_bundle(home, home.model.version).card
    inputs, decision_only = {column.name for column in card.inputs}, {column.name for column in card.also}
    assert not inputs & {"self_score", "law_abiding", "sex", "ethnicity", "age", "village_id", "true_pd"}
    assert {"law_abiding", "veto_codes", "age"} <= decision_only
    assert not decision_only & {"sex", "ethnicity", "religion", "health"}


def test_the_metrics_include_intervals_parity_and_what_moral_data_would_add(home):
    metrics = load_bundle(home, home.model.version).card.metrics
    assert metrics["auc"]["low"] < metrics["auc"]["value"] < metrics["auc"]["high"]
    assert metrics["parity"]["raw"] == 0
    assert set(metrics["beside"]) == {"scorecard", "unconstrained", "with_moral_data"}
    assert all(baseline["auc"]["value"] > 0.6 for baseline in metrics["beside"].values())
    assert {group["attribute"] for group in metrics["groups"]} >= {"sex", "age"}
    assert json.dumps(metrics, allow_nan=False)


def test_reasons_are_relative_to_the_reference_of_the_card(home):
    champion = load_bundle(home, home.model.version)
    card = champion.card
    frame = RECIPE.read(RECIPE.load(home.config)).frame.head(50)
    scores = TabularSession(champion.graph).run(encode(frame, card.inputs), reasons=True)
    raw = scores.contributions.sum(axis=1) + card.head.bias
    assert raw == pytest.approx(scores.raw, abs=1e-5)
    assert list(card.reference.points) == sorted(card.reference.points)


def test_the_registry_records_the_run_with_its_data_metrics_and_files(home):
    registry = Registry(home.var)
    registered = registry.find("tiny", "champion")
    assert (registered.bundle, registered.gate) == (home.model.version, "passed")
    run = registry.client.get_run(home.model.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["simulated"] == "true"
    assert run.data.metrics["auc"] == pytest.approx(home.model.evaluation.metrics["auc"].value)
    assert run.data.params["split.column"] == "village_id"
    assert {tag.key: tag.value for tag in run.inputs.dataset_inputs[0].tags}["sha256"]
    assert {file.path for file in registry.client.list_artifacts(home.model.run_id)} == {"bundle", "report"}
    with pytest.raises(NotRegisteredError, match="Known versions: "):
        registry.find("tiny", "77")


def test_a_worse_model_becomes_the_challenger_until_a_person_forces_its_promotion(home):
    worse = retrain(home, "worse", trees=1)
    assert not worse.verdict.passed
    assert any("better than the champion" in text and "AUC differs by -" in text for text in worse.verdict.failures)
    assert bundle.read_alias(home.var / "bundles" / "tiny") == home.model.version
    assert bundle.read_alias(home.var / "bundles" / "tiny", "challenger") == worse.version

    invoke = CliRunner().invoke
    refusal = invoke(app, ["promote", "tiny", worse.registry_version, "--var", str(home.var)])
    assert isinstance(refusal.exception, ConfigError)
    assert "--force --reason" in str(refusal.exception)
    invoke(
        app,
        ["promote", "tiny", worse.registry_version, "--force", "--reason", "a test", "--var", str(home.var)],
        catch_exceptions=False,
    )
    assert bundle.read_alias(home.var / "bundles" / "tiny") == worse.version
    reverted = invoke(app, ["promote", "tiny", home.model.version, "--var", str(home.var)], catch_exceptions=False)
    assert "is the champion" in reverted.output
    assert bundle.read_alias(home.var / "bundles" / "tiny") == home.model.version
    output = invoke(app, ["models", "--var", str(home.var)], catch_exceptions=False).output
    assert f"champion  {home.model.version}" in output
    assert "forced: a test" in output


def test_a_failed_run_leaves_only_the_record_of_its_failure(home):
    class BrokenRecipe(TabularRecipe):
        def verify(self, policy, columns):
            raise ValueError("the solver is missing")

    bundles_before = {path.name for path in (home.var / "bundles" / "tiny").iterdir()}
    registry = Registry(home.var)
    version_count = len(registry.list_versions("tiny"))
    with pytest.raises(ValueError, match="solver"):
        retrain(home, "fails", recipe=BrokenRecipe(**vars(RECIPE)), trees=2)
    assert {path.name for path in (home.var / "bundles" / "tiny").iterdir()} == bundles_before
    assert len(registry.list_versions("tiny")) == version_count
    experiment = registry.client.get_experiment_by_name("tiny")
    newest = registry.client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)[0]
    assert newest.info.status == "FAILED"
    assert "the solver is missing" in newest.data.tags["error"]


def test_a_users_own_table_is_trained_from_a_file_and_a_target(home, tmp_path):
    rng = np.random.default_rng(5)
    rows = 1_500
    income, trade = rng.lognormal(8, 0.7, rows), rng.choice(["farm", "shop", "工厂"], rows)
    risk = 1 / (1 + np.exp(1.5 * (np.log(income) - 8) + 2.0 * (trade == "shop") - 0.4))
    frame = pl.DataFrame(
        {
            "Kunde Nr.": [f"K{i:05}" for i in range(rows)],
            "Monthly income (€)": [None if i % 9 == 0 else round(value, 2) for i, value in enumerate(income)],
            "trade": trade,
            "branch": ["north"] * rows,
            "outcome": ["charged off" if default else "paid" for default in rng.random(rows) < risk],
        }
    )
    frame.write_csv(tmp_path / "odd.csv")
    path = tmp_path / "odd.toml"
    path.write_text(
        f'[table]\nfile = "{tmp_path}/odd.csv"\ntarget = "outcome"\npositive_labels = "charged off"\n{QUICK}'
    )
    model = pipeline.train(RECIPE, TabularPipeline, RECIPE.load(path), home.var, ProgressReporter(quiet=True))
    card = bundle.load_bundle(model.bundle_dir, home.var / "keys" / "signing.pub.pem").card
    assert {column.name for column in card.inputs} == {"Monthly income (€)", "trade"}
    assert model.evaluation.metrics["auc"].value > 0.65
    assert not card.simulated
    assert "it is left out of the model" in model.card_path.read_text()
