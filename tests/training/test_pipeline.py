"""What a training run leaves behind, when it succeeds, falls short, or fails."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from models import bundle
from models.feature_encoder import encode
from models.trees.onnx_session import TabularSession
from training import credit_limit, pipeline
from training.__main__ import app
from training.config import ConfigError
from training.progress import ProgressReporter
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


def again(home, name, recipe=credit_limit, trees=30):
    """Train once more beside the first model, quickly."""
    text = home.config.read_text()
    head, rest = text.split("[judge]")
    text = head.replace("trees = 30", f"trees = {trees}") + QUICK + "\n[gate]" + rest.split("[gate]")[1]
    path = home.config.with_name(f"{name}.toml")
    path.write_text(text)
    return pipeline.train(recipe, credit_limit.load(path), home.var, ProgressReporter(quiet=True))


def held(home, version):
    return bundle.load_bundle(home.var / "bundles" / "tiny" / version, home.var / "keys" / "signing.pub.pem")


def test_the_first_model_becomes_the_champion_with_a_signed_bundle(home):
    assert home.made.verdict.passed, home.made.verdict.failures
    assert bundle.read_alias(home.var / "bundles" / "tiny") == home.made.version
    found = held(home, home.made.version)
    assert (found.card.product, found.card.model, found.card.version) == ("credit_limit", "tiny", home.made.version)
    assert (home.var / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600


def test_the_card_says_that_its_data_are_simulated_and_what_they_were(home):
    card = held(home, home.made.version).card
    assert card.simulated
    assert card.data[0].simulated
    assert card.data[0].rows == 3_000
    assert len(card.data[0].sha256) == 64
    assert card.data[0].split_sha256
    assert card.run_id == home.made.run_id
    assert "Simulated data" in home.made.card_path.read_text()
    assert {path.stem for path in (home.made.card_path.parent / "plots").glob("*.png")} >= {
        "roc",
        "calibration",
        "reasons",
    }


def test_the_signed_card_tells_the_gates_verdict_and_what_its_pictures_are_drawn_from(home):
    card = held(home, home.made.version).card
    assert card.verdict.passed
    assert {check.name: check.found for check in card.verdict.checks} == {
        check.name: check.found for check in home.made.verdict.checks
    }
    plots = card.plots
    assert (plots.unit, plots.rows) == ("rows", home.made.evaluation.rows)
    ours = plots.roc[0]
    assert np.trapezoid(ours.y, ours.x) == pytest.approx(home.made.evaluation.metrics["auc"].value, abs=0.005)
    assert (ours.x[0], ours.y[0], ours.x[-1], ours.y[-1]) == (0, 0, 1, 1)
    assert all(group.low <= group.seen <= group.high for group in plots.reliability)
    assert sum(plots.spread.positive) == pytest.approx(1, abs=1e-4)
    assert len(plots.model_dump_json()) < 20_000, "a card stays small"


def test_a_card_from_before_it_told_the_verdict_is_read_still(home):
    card = held(home, home.made.version).card
    before = card.model_dump(mode="json", exclude={"verdict", "plots"})
    assert (type(card).model_validate(before).verdict, type(card).model_validate(before).plots) == (None, None)


def test_the_pd_reads_no_moral_group_and_no_audit_column(home):
    card = held(home, home.made.version).card
    read, known = {column.name for column in card.inputs}, {column.name for column in card.also}
    assert not read & {"self_score", "law_abiding", "sex", "ethnicity", "age", "village_id", "true_pd"}
    assert {"law_abiding", "veto_codes", "age"} <= known
    assert not known & {"sex", "ethnicity", "religion", "health"}


def test_the_figures_hold_intervals_parity_and_what_moral_data_would_add(home):
    metrics = held(home, home.made.version).card.metrics
    assert metrics["auc"]["low"] < metrics["auc"]["value"] < metrics["auc"]["high"]
    assert metrics["parity"]["raw"] == 0
    assert set(metrics["beside"]) == {"scorecard", "unconstrained", "with_moral_data"}
    assert all(other["auc"]["value"] > 0.6 for other in metrics["beside"].values())
    assert {group["attribute"] for group in metrics["groups"]} >= {"sex", "age"}
    assert json.dumps(metrics, allow_nan=False)


def test_reasons_are_measured_from_the_reference_of_the_card(home):
    found = held(home, home.made.version)
    card = found.card
    frame = credit_limit.read(credit_limit.load(home.config)).frame.head(50)
    scores = TabularSession(found.graph).run(encode(frame, card.inputs), reasons=True)
    raw = scores.contributions.sum(axis=1) + card.head.bias
    assert raw == pytest.approx(scores.raw, abs=1e-5)
    assert list(card.reference.points) == sorted(card.reference.points)


def test_the_registry_tells_the_run_its_data_figures_and_files(home):
    registry = Registry(home.var)
    found = registry.find("tiny", "champion")
    assert (found.bundle, found.gate) == (home.made.version, "passed")
    run = registry.client.get_run(home.made.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["simulated"] == "true"
    assert run.data.metrics["auc"] == pytest.approx(home.made.evaluation.metrics["auc"].value)
    assert run.data.params["split.column"] == "village_id"
    assert {tag.key: tag.value for tag in run.inputs.dataset_inputs[0].tags}["sha256"]
    assert {file.path for file in registry.client.list_artifacts(home.made.run_id)} == {"bundle", "report"}
    with pytest.raises(NotRegisteredError, match="Known: "):
        registry.find("tiny", "77")


def test_a_worse_model_is_a_challenger_and_is_told_why_until_a_person_insists(home):
    worse = again(home, "worse", trees=1)
    assert not worse.verdict.passed
    assert any("better than the champion" in why and "AUC differs by -" in why for why in worse.verdict.failures)
    assert bundle.read_alias(home.var / "bundles" / "tiny") == home.made.version
    assert bundle.read_alias(home.var / "bundles" / "tiny", "challenger") == worse.version

    ask = CliRunner().invoke
    refused = ask(app, ["promote", "tiny", worse.registry_version, "--var", str(home.var)])
    assert isinstance(refused.exception, ConfigError)
    assert "--force --reason" in str(refused.exception)
    ask(
        app,
        ["promote", "tiny", worse.registry_version, "--force", "--reason", "a test", "--var", str(home.var)],
        catch_exceptions=False,
    )
    assert bundle.read_alias(home.var / "bundles" / "tiny") == worse.version
    back = ask(app, ["promote", "tiny", home.made.version, "--var", str(home.var)], catch_exceptions=False)
    assert "is the champion" in back.output
    assert bundle.read_alias(home.var / "bundles" / "tiny") == home.made.version
    told = ask(app, ["models", "--var", str(home.var)], catch_exceptions=False).output
    assert f"champion  {home.made.version}" in told
    assert "forced: a test" in told


def test_a_run_that_fails_leaves_nothing_but_the_word_of_it(home):
    def broken(policy, columns):
        raise ValueError("the solver is not there")

    recipe = SimpleNamespace(**{**vars(credit_limit), "verify": broken})
    before = {path.name for path in (home.var / "bundles" / "tiny").iterdir()}
    registry = Registry(home.var)
    known = len(registry.list_versions("tiny"))
    with pytest.raises(ValueError, match="solver"):
        again(home, "fails", recipe=recipe, trees=2)
    assert {path.name for path in (home.var / "bundles" / "tiny").iterdir()} == before
    assert len(registry.list_versions("tiny")) == known
    experiment = registry.client.get_experiment_by_name("tiny")
    newest = registry.client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)[0]
    assert newest.info.status == "FAILED"
    assert "the solver is not there" in newest.data.tags["error"]


def test_a_table_that_nobody_here_has_seen_is_trained_from_a_file_and_a_target(home, tmp_path):
    rng = np.random.default_rng(5)
    rows = 1_500
    income, kind = rng.lognormal(8, 0.7, rows), rng.choice(["farm", "shop", "工厂"], rows)
    risk = 1 / (1 + np.exp(1.5 * (np.log(income) - 8) + 2.0 * (kind == "shop") - 0.4))
    frame = pl.DataFrame(
        {
            "Kunde Nr.": [f"K{i:05}" for i in range(rows)],
            "Monthly income (€)": [None if i % 9 == 0 else round(value, 2) for i, value in enumerate(income)],
            "trade": kind,
            "branch": ["north"] * rows,
            "outcome": ["charged off" if default else "paid" for default in rng.random(rows) < risk],
        }
    )
    frame.write_csv(tmp_path / "odd.csv")
    path = tmp_path / "odd.toml"
    path.write_text(f'[table]\nfile = "{tmp_path}/odd.csv"\ntarget = "outcome"\nbad = "charged off"\n{QUICK}')
    made = pipeline.train(credit_limit, credit_limit.load(path), home.var, ProgressReporter(quiet=True))
    found = bundle.load_bundle(made.bundle_dir, home.var / "keys" / "signing.pub.pem")
    assert {column.name for column in found.card.inputs} == {"Monthly income (€)", "trade"}
    assert made.evaluation.metrics["auc"].value > 0.65
    assert not found.card.simulated
    assert "it is left out of the model" in made.card_path.read_text()
