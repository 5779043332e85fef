"""Two months of a simulated zone, answered by a small model: from register folders to reports."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from datasets.errors import DataError
from datasets.scitech_risk.register import reader, simulator
from datasets.scitech_risk.register.schema import TABLE
from models import bundle
from models.bundle import BundleError
from models.card import Card, ContributionReference, ScoreHead
from models.feature_encoder import encode, order_levels
from models.scitech_risk.limit_formula import BACKING_GROUPS, GATE_GROUPS
from models.scitech_risk.policy import BACKING, Policy
from models.scitech_risk.stress import resolve_trade
from models.scorecard.scaling import ScoreScale
from models.scorecard.unknown_inputs import assumed_codes, assumed_values
from models.trees.estimator import BaggedTrees, EstimatorConfig
from models.trees.forest import assume_values, merge_boosters
from models.trees.onnx_graph import compile_graph, expected_raw_score
from models.trees.onnx_session import TabularSession
from tests.paths import ROOT
from training.__main__ import app
from training.portfolio import register_loader, run, scoring, stress
from training.portfolio.scoring import NoChampionError
from training.progress import ProgressReporter
from training.tracking.mlflow_registry import Registry

POLICY = (ROOT / "configs/policies/scitech_risk.toml").read_bytes()
HOSTILE = "<script>alert(1)</script>"
COMPANIES = 700


def publish(var: Path, frame: pl.DataFrame) -> None:
    """A small champion, trained on the register itself."""
    inputs = [
        column
        for column in TABLE.indicators
        if column.kind != "text" and column.name not in BACKING and column.group not in (*BACKING_GROUPS, *GATE_GROUPS)
    ]
    columns = order_levels(frame, inputs, TABLE.target.name)
    x, y = encode(frame, columns), frame[TABLE.target.name].to_numpy()
    estimator = BaggedTrees(EstimatorConfig(folds=2, trees=25, monotone="basic"))
    estimator.fit(x, y, directions=[column.direction for column in columns])
    assumed = assumed_values(columns, Policy.load(POLICY).unknown)
    forest = assume_values(merge_boosters(estimator.boosters_), assumed_codes(columns, assumed))
    slope, intercept = estimator.slope_, estimator.intercept_
    graph = compile_graph(forest, slope=slope, intercept=intercept, scale=ScoreScale(), n_features=len(columns))
    scores = TabularSession(graph.SerializeToString()).run(x, reasons=True)
    knots = np.array_split(np.argsort(scores.points), 8)
    card = Card(
        product="scitech_risk",
        model="scitech_risk",
        version="1",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="tests",
        not_for="anything else",
        inputs=columns,
        also=tuple(column for column in TABLE.indicators if column not in inputs),
        target=TABLE.target.name,
        assumed=assumed,
        head=ScoreHead(slope=slope, intercept=intercept, bias=expected_raw_score(forest)),
        reference=ContributionReference(
            points=tuple(float(scores.points[rows].mean()) for rows in knots),
            contributions=tuple(tuple(scores.contributions[rows].mean(axis=0).tolist()) for rows in knots),
        ),
    )
    private, _ = bundle.create_signing_keys(var / "keys")
    folder = var / "bundles" / "scitech_risk"
    bundle.write_bundle(folder / "1", graph=graph.SerializeToString(), card=card, policy=POLICY, private_key=private)
    bundle.set_alias(folder, "champion", "1")


def edit(source: Path, target: Path, **columns) -> Path:
    """A copy of a register with columns of its companies changed."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    metadata = pl.read_parquet_metadata(source / "companies.parquet")
    metadata = {name: value for name, value in metadata.items() if name.startswith("yuheng")}
    frame = pl.read_parquet(source / "companies.parquet").with_columns(**columns)
    frame.write_parquet(target / "companies.parquet", metadata=metadata)
    return target


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """var/ and registers of two months; the first has two invalid rows, the second a hostile id."""
    folder = tmp_path_factory.mktemp("portfolio")
    simulator.write(folder / "valid", COMPANIES, 5)
    simulator.write(folder / "second_valid", COMPANIES, 5, month=1)
    index = pl.int_range(pl.len())
    edit(
        folder / "valid",
        folder / "first",
        total_assets=pl.when(index.is_in([3, 9])).then(-5.0).otherwise("total_assets"),
    )
    edit(
        folder / "second_valid",
        folder / "second",
        company_id=pl.when(index == 0).then(pl.lit(HOSTILE)).otherwise("company_id"),
    )
    replaced_id = pl.read_parquet(folder / "second_valid" / "companies.parquet")["company_id"][0]
    for name in ("history", "links"):
        path = folder / "second" / f"{name}.parquet"
        pl.read_parquet(path).filter(pl.col("company_id") != replaced_id).write_parquet(path)
    publish(folder / "var", reader.read(folder / "valid").frame)
    return folder


@pytest.fixture(scope="module")
def first(home) -> run.PortfolioResult:
    return run.run_portfolio(make_request(home, "first"), ProgressReporter(quiet=True))


@pytest.fixture(scope="module")
def second(home, first) -> run.PortfolioResult:
    return run.run_portfolio(
        make_request(home, "second", previous=first.folder / run.ANSWERS_FILE), ProgressReporter(quiet=True)
    )


def make_request(home: Path, name: str, **changes) -> run.PortfolioRequest:
    return replace(run.PortfolioRequest(home / name, stress=ROOT / "configs/stress.toml", var=home / "var"), **changes)


def test_every_company_is_answered_in_the_order_of_the_file(home, first):
    answers = pl.read_parquet(first.folder / run.ANSWERS_FILE)
    companies = pl.read_parquet(home / "first" / "companies.parquet")
    assert answers["company_id"].equals(companies["company_id"])
    assert answers["row"].to_list() == list(range(1, companies.height + 1))
    assert answers["decision_id"].to_list() == [f"{first.run_id}-{row}" for row in answers["row"]]
    assert pl.read_parquet_metadata(first.folder / run.ANSWERS_FILE)["yuheng.simulated"] == "true"


def test_an_invalid_row_is_reported_and_does_not_stop_the_others(first):
    answers = pl.read_parquet(first.folder / run.ANSWERS_FILE)
    faulty = answers.filter(pl.col("error").is_not_null())
    assert faulty["row"].to_list() == [4, 10]
    assert "total_assets is -5.0; it must be" in faulty["error"][0]
    assert "应为" in faulty["error_zh"][0]
    assert faulty["decision"].is_null().all()
    assert answers.filter(pl.col("error").is_null())["decision"].is_not_null().all()
    assert first.figures["headline"]["faulty"] == 2


def test_an_error_in_another_file_is_reported_with_its_company(home, tmp_path):
    folder = edit(home / "valid", tmp_path / "faulty")
    history = pl.read_parquet(folder / "history.parquet")
    company = history["company_id"][50]
    cash = pl.when(pl.int_range(pl.len()) == 50).then(-1.0).otherwise("cash")
    history.with_columns(cash=cash).write_parquet(folder / "history.parquet")
    loaded = register_loader.load_register(folder)
    assert loaded.faulty["company_id"].to_list() == [company]
    assert "history.parquet, row 51: cash is -1.0; it must be" in loaded.faulty["error"][0]
    assert loaded.frame.height == pl.read_parquet(folder / "companies.parquet").height - 1
    assert company not in loaded.frame["company_id"]


def test_an_error_that_belongs_to_no_company_stops_the_run(home, tmp_path):
    folder = edit(home / "valid", tmp_path / "more", colour=pl.lit("red"))
    assert "colour is not in the contract" in error_of(home, make_request(home, "first", folder=folder))


def test_a_register_without_errors_is_read_as_by_its_own_reader(home):
    loaded = register_loader.load_register(home / "valid")
    assert loaded.frame.equals(reader.read(home / "valid").frame)
    assert loaded.faulty.height == 0


def test_expected_loss_is_pd_times_severity_times_limit(first):
    answers = pl.read_parquet(first.folder / run.ANSWERS_FILE).drop_nulls("limit")
    severity = 0.60 * 0.75
    deviation = (answers["pd"] * severity * answers["limit"] - answers["expected_loss"]).abs()
    assert deviation.max() <= 0.005 + 1e-9
    blocked = answers.filter(pl.col("gate") == "block")
    assert blocked.height
    assert blocked["limit"].sum() == blocked["expected_loss"].sum() == 0


def test_report_figures_and_answers_have_the_same_totals(second):
    answers = pl.read_parquet(second.folder / run.ANSWERS_FILE)
    document = json.loads((second.folder / run.FIGURES_FILE).read_text())
    assert document["headline"]["limit"] == answers["limit"].sum()
    assert document["headline"]["expected_loss"] == pytest.approx(answers["expected_loss"].sum())
    page = (second.folder / run.REPORT_FILE).read_text()
    assert f"<b>{answers.height:,}</b>" in page
    assert "SIMULATED" in page
    assert document["about"]["bundle"] in page


def test_a_hostile_id_is_escaped_in_the_report(second):
    page = (second.folder / run.REPORT_FILE).read_text()
    assert HOSTILE in pl.read_parquet(second.folder / run.ANSWERS_FILE)["company_id"].to_list()
    assert "<script" not in page


def test_the_second_month_migrates_from_the_first(second, first):
    migration, previous = second.figures["migration"], pl.read_parquet(first.folder / run.ANSWERS_FILE)
    assert migration["new"] >= 1  # at least the hostile one
    assert migration["both"] + migration["gone"] == previous["company_id"].drop_nulls().len()
    assert sum(map(sum, migration["matrix"])) == migration["both"]
    assert second.figures["previous"]["limit"] == first.figures["headline"]["limit"]


def test_a_shock_never_raises_the_sum_of_limits_and_never_lowers_the_loss_on_current_limits(first, second):
    for result in (first, second):
        base, *shocks = result.figures["stress"]
        assert base["limit"] == result.figures["headline"]["limit"]
        assert base["loss_on_held"] == pytest.approx(result.figures["headline"]["expected_loss"], rel=1e-6)
        for row in shocks:
            assert row["limit"] <= base["limit"], row["code"]
            assert row["loss_on_held"] >= base["loss_on_held"], row["code"]


@pytest.mark.parametrize("code", ["revenue_down", "rate_up", "trade_shock"])
def test_a_shock_never_lowers_a_pd_or_raises_a_limit(home, code):
    champion = scoring.load_champion(home / "var", "scitech_risk")
    frame = reader.read(home / "valid").frame
    shock = next(shock for shock in stress.load_shocks(ROOT / "configs/stress.toml").shocks if shock.code == code)
    shock = resolve_trade(shock, "software")
    before, after = scoring.score_register(champion, frame), scoring.score_under_shock(champion, frame, shock, TABLE)
    assert (after["pd"] >= before["pd"]).all()
    assert (after["indicative_limit"] <= before["indicative_limit"]).all()
    assert (after["pd"] > before["pd"]).any()


def test_a_real_register_answered_by_a_model_of_simulated_companies_is_not_called_simulated(home):
    real = edit(home / "valid", home / "real")
    for path in real.iterdir():
        pl.read_parquet(path).write_parquet(path)  # without the mark of simulated data, like a bank's own
    result = run.run_portfolio(make_request(home, "real"), ProgressReporter(quiet=True))
    page = (result.folder / "report.html").read_text()
    assert result.figures["headline"]["companies"] == COMPANIES
    assert 'class="simulated"' in page
    assert "trained on simulated companies" in page
    assert "no company in this register exists" not in page


def test_the_run_is_recorded_with_metrics_inputs_and_files(home, second):
    client = Registry(home / "var").client
    recorded = client.get_run(second.run_id)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics["expected_loss"] == pytest.approx(second.figures["headline"]["expected_loss"])
    assert {"grade/A", "hhi_trades", "migration/share_up", "stress/rate_up/limit"} <= set(recorded.data.metrics)
    digests = {tag.value for dataset in recorded.inputs.dataset_inputs for tag in dataset.tags if tag.key == "sha256"}
    companies = (home / "second" / "companies.parquet").read_bytes()
    assert hashlib.sha256(companies).hexdigest() in digests
    assert {file.path.split("/")[-1] for file in client.list_artifacts(second.run_id, "portfolio")} == {
        run.ANSWERS_FILE,
        run.REPORT_FILE,
        run.FIGURES_FILE,
    }


def error_of(home: Path, request: run.PortfolioRequest, kind=DataError) -> str:
    """The message of a run that must fail and leave no folder."""
    before = sorted(path for path in home.rglob("*") if "mlflow" not in path.name)
    with pytest.raises(kind) as error:
        run.run_portfolio(request, ProgressReporter(quiet=True))
    assert sorted(path for path in home.rglob("*") if "mlflow" not in path.name) == before
    return str(error.value)


def test_a_previous_run_of_the_same_or_a_later_month_is_refused(home, second):
    message = error_of(home, make_request(home, "second", previous=second.folder / run.ANSWERS_FILE))
    assert "a month before the register's" in message
    assert "a month before the register's" in error_of(
        home, make_request(home, "first", previous=second.folder / run.ANSWERS_FILE)
    )


def test_a_previous_file_that_is_no_run_is_refused(home):
    message = error_of(home, make_request(home, "second", previous=home / "second" / "companies.parquet"))
    assert "--previous" in message
    assert "no such file" in error_of(home, make_request(home, "second", previous=home / "nothing.parquet"))


def test_a_duplicate_company_is_refused(home, tmp_path):
    first_id = pl.col("company_id").first()
    duplicated = edit(
        home / "valid",
        tmp_path / "twice",
        company_id=pl.when(pl.int_range(pl.len()) == 1).then(first_id).otherwise("company_id"),
    )
    assert "which another row has too" in error_of(home, make_request(home, "first", folder=duplicated))


def test_without_a_champion_the_error_says_how_to_train_one(home, tmp_path):
    assert "python -m training scitech_risk" in error_of(
        home, make_request(home, "first", var=tmp_path), NoChampionError
    )
    other = make_request(home, "first", model="another")
    assert "no champion of another" in error_of(home, other, NoChampionError)


def test_a_tampered_bundle_is_refused(home, tmp_path):
    var = tmp_path / "var"
    for path in (home / "var").rglob("*"):
        if path.is_file() and "ml" not in path.relative_to(home / "var").parts[0]:
            copy = var / path.relative_to(home / "var")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    graph = var / "bundles/scitech_risk/1/model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(bytes(content))
    assert "signature" in error_of(home, make_request(home, "first", var=var), BundleError)


def test_an_existing_folder_is_never_overwritten(home, first):
    assert "never overwrites another" in error_of(home, make_request(home, "first", out=first.folder))


def test_an_interrupted_run_leaves_no_folder_and_is_marked_as_failed(home, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(run.report, "render", fail)
    out = tmp_path / "out" / "here"
    with pytest.raises(OSError, match="no space left"):
        run.run_portfolio(make_request(home, "first", out=out), ProgressReporter(quiet=True))
    assert list(out.parent.iterdir()) == []
    client = Registry(home / "var").client
    experiment = client.get_experiment_by_name(run.EXPERIMENT)
    newest = client.search_runs([experiment.experiment_id], max_results=1)[0]
    assert newest.info.status == "FAILED"
    assert "no space left" in newest.data.tags["error"]


def test_the_answers_do_not_depend_on_the_chunk_size(home):
    champion = scoring.load_champion(home / "var", "scitech_risk")
    frame = reader.read(home / "valid").frame
    assert scoring.score_register(champion, frame, chunk_rows=97).equals(scoring.score_register(champion, frame))


def test_the_command_prints_where_the_report_is(home, tmp_path):
    arguments = [
        "portfolio",
        str(home / "first"),
        "--var",
        str(home / "var"),
        "--out",
        str(tmp_path / "out"),
        "--quiet",
        "--stress",
        str(ROOT / "configs/stress.toml"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"out.report\.html", result.output)
    assert (tmp_path / "out" / run.REPORT_FILE).is_file()
