"""A simulated zone at two months' ends, answered by a small model: from register folders to reports."""

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
from models.scitech_risk.policy import BACKING
from models.scitech_risk.stress import resolve_trade
from models.scorecard.scaling import ScoreScale
from models.trees.estimator import BaggedTrees, EstimatorConfig
from models.trees.forest import merge_boosters
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
    inputs = [column for column in TABLE.indicators if column.kind != "text" and column.name not in BACKING
              and column.group not in (*BACKING_GROUPS, *GATE_GROUPS)]  # fmt: skip
    columns = order_levels(frame, inputs, TABLE.target.name)
    x, y = encode(frame, columns), frame[TABLE.target.name].to_numpy()
    estimator = BaggedTrees(EstimatorConfig(folds=2, trees=25, monotone="basic"))
    estimator.fit(x, y, directions=[column.direction for column in columns])
    forest, slope, intercept = merge_boosters(estimator.boosters_), estimator.slope_, estimator.intercept_
    graph = compile_graph(forest, slope=slope, intercept=intercept, scale=ScoreScale(), n_features=len(columns))
    scores = TabularSession(graph.SerializeToString()).run(x, reasons=True)
    parts = np.array_split(np.argsort(scores.points), 8)
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
        head=ScoreHead(slope=slope, intercept=intercept, bias=expected_raw_score(forest)),
        reference=ContributionReference(
            points=tuple(float(scores.points[part].mean()) for part in parts),
            contributions=tuple(tuple(scores.contributions[part].mean(axis=0).tolist()) for part in parts),
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
    told = pl.read_parquet_metadata(source / "companies.parquet")
    told = {name: value for name, value in told.items() if name.startswith("yuheng")}
    frame = pl.read_parquet(source / "companies.parquet").with_columns(**columns)
    frame.write_parquet(target / "companies.parquet", metadata=told)
    return target


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """var/, and registers of two months; the first has two faulty rows, the second a hostile id."""
    folder = tmp_path_factory.mktemp("portfolio")
    simulator.write(folder / "sound", COMPANIES, 5)
    simulator.write(folder / "second_sound", COMPANIES, 5, month=1)
    at = pl.int_range(pl.len())
    edit(folder / "sound", folder / "first",
         total_assets=pl.when(at.is_in([3, 9])).then(-5.0).otherwise("total_assets"))  # fmt: skip
    edit(folder / "second_sound", folder / "second",
         company_id=pl.when(at == 0).then(pl.lit(HOSTILE)).otherwise("company_id"))  # fmt: skip
    lost = pl.read_parquet(folder / "second_sound" / "companies.parquet")["company_id"][0]
    for name in ("history", "links"):
        path = folder / "second" / f"{name}.parquet"
        pl.read_parquet(path).filter(pl.col("company_id") != lost).write_parquet(path)
    publish(folder / "var", reader.read(folder / "sound").frame)
    return folder


@pytest.fixture(scope="module")
def first(home) -> run.PortfolioResult:
    return run.run_portfolio(asked(home, "first"), ProgressReporter(quiet=True))


@pytest.fixture(scope="module")
def second(home, first) -> run.PortfolioResult:
    return run.run_portfolio(
        asked(home, "second", previous=first.folder / run.ANSWERS_FILE), ProgressReporter(quiet=True)
    )


def asked(home: Path, name: str, **more) -> run.PortfolioRequest:
    return replace(run.PortfolioRequest(home / name, stress=ROOT / "configs/stress.toml", var=home / "var"), **more)


def test_every_company_is_answered_in_the_order_it_came(home, first):
    answers = pl.read_parquet(first.folder / run.ANSWERS_FILE)
    came = pl.read_parquet(home / "first" / "companies.parquet")
    assert answers["company_id"].equals(came["company_id"])
    assert answers["row"].to_list() == list(range(1, came.height + 1))
    assert answers["decision_id"].to_list() == [f"{first.run}-{row}" for row in answers["row"]]
    assert pl.read_parquet_metadata(first.folder / run.ANSWERS_FILE)["yuheng.simulated"] == "true"


def test_a_faulty_row_is_told_and_does_not_stop_the_others(first):
    answers = pl.read_parquet(first.folder / run.ANSWERS_FILE)
    bad = answers.filter(pl.col("error").is_not_null())
    assert bad["row"].to_list() == [4, 10]
    assert "total_assets is -5.0; it must be" in bad["error"][0]
    assert "应为" in bad["error_zh"][0]
    assert bad["decision"].is_null().all()
    assert answers.filter(pl.col("error").is_null())["decision"].is_not_null().all()
    assert first.figures["headline"]["faulty"] == 2


def test_a_fault_in_another_file_is_told_with_the_company_whose_it_is(home, tmp_path):
    folder = edit(home / "sound", tmp_path / "faulty")
    history = pl.read_parquet(folder / "history.parquet")
    whose = history["company_id"][50]
    cash = pl.when(pl.int_range(pl.len()) == 50).then(-1.0).otherwise("cash")
    history.with_columns(cash=cash).write_parquet(folder / "history.parquet")
    found = register_loader.load_register(folder)
    assert found.faulty["company_id"].to_list() == [whose]
    assert "history.parquet, row 51: cash is -1.0; it must be" in found.faulty["error"][0]
    assert found.frame.height == pl.read_parquet(folder / "companies.parquet").height - 1
    assert whose not in found.frame["company_id"]


def test_a_fault_that_is_nobodys_stops_the_run(home, tmp_path):
    folder = edit(home / "sound", tmp_path / "more", colour=pl.lit("red"))
    assert "colour is not in the contract" in refused(home, asked(home, "first", folder=folder))


def test_a_register_without_faults_is_read_as_its_reader_reads_it(home):
    found = register_loader.load_register(home / "sound")
    assert found.frame.equals(reader.read(home / "sound").frame)
    assert found.faulty.height == 0


def test_expected_loss_is_pd_times_severity_times_limit(first):
    answers = pl.read_parquet(first.folder / run.ANSWERS_FILE).drop_nulls("limit")
    severity = 0.60 * 0.75
    off = (answers["pd"] * severity * answers["limit"] - answers["expected_loss"]).abs()
    assert off.max() <= 0.005 + 1e-9
    blocked = answers.filter(pl.col("gate") == "block")
    assert blocked.height
    assert blocked["limit"].sum() == blocked["expected_loss"].sum() == 0


def test_report_figures_and_answers_tell_the_same_totals(second):
    answers = pl.read_parquet(second.folder / run.ANSWERS_FILE)
    told = json.loads((second.folder / run.FIGURES_FILE).read_text())
    assert told["headline"]["limit"] == answers["limit"].sum()
    assert told["headline"]["expected_loss"] == pytest.approx(answers["expected_loss"].sum())
    page = (second.folder / run.REPORT_FILE).read_text()
    assert f"<b>{answers.height:,}</b>" in page
    assert "SIMULATED" in page
    assert told["about"]["bundle"] in page


def test_a_hostile_id_does_not_run_in_the_report(second):
    page = (second.folder / run.REPORT_FILE).read_text()
    assert HOSTILE in pl.read_parquet(second.folder / run.ANSWERS_FILE)["company_id"].to_list()
    assert "<script" not in page


def test_the_second_month_migrates_from_the_first(second, first):
    moved, before = second.figures["migration"], pl.read_parquet(first.folder / run.ANSWERS_FILE)
    assert moved["new"] >= 1  # the hostile one at least
    assert moved["both"] + moved["gone"] == before["company_id"].drop_nulls().len()
    assert sum(map(sum, moved["matrix"])) == moved["both"]
    assert second.figures["previous"]["limit"] == first.figures["headline"]["limit"]


def test_a_shock_never_raises_the_sum_of_limits_and_never_lowers_the_loss_on_those_held(first, second):
    for done in (first, second):
        base, *shocks = done.figures["stress"]
        assert base["limit"] == done.figures["headline"]["limit"]
        assert base["loss_on_held"] == pytest.approx(done.figures["headline"]["expected_loss"], rel=1e-6)
        for row in shocks:
            assert row["limit"] <= base["limit"], row["code"]
            assert row["loss_on_held"] >= base["loss_on_held"], row["code"]


@pytest.mark.parametrize("code", ["revenue_down", "rate_up", "trade_shock"])
def test_a_shock_makes_no_company_look_safer(home, code):
    held = scoring.load_champion(home / "var", "scitech_risk")
    frame = reader.read(home / "sound").frame
    shock = next(shock for shock in stress.load_shocks(ROOT / "configs/stress.toml").shocks if shock.code == code)
    shock = resolve_trade(shock, "software")
    before, after = scoring.score_register(held, frame), scoring.score_under_shock(held, frame, shock, TABLE)
    assert (after["pd"] >= before["pd"]).all()
    assert (after["indicative_limit"] <= before["indicative_limit"]).all()
    assert (after["pd"] > before["pd"]).any()


def test_a_real_register_is_not_told_to_be_invented_because_the_model_was_trained_on_simulated_companies(home):
    real = edit(home / "sound", home / "real")
    for path in real.iterdir():
        pl.read_parquet(path).write_parquet(path)  # as a bank's own would be: it does not say that it is simulated
    done = run.run_portfolio(asked(home, "real"), ProgressReporter(quiet=True))
    page = (done.folder / "report.html").read_text()
    assert done.figures["headline"]["companies"] == COMPANIES
    assert 'class="simulated"' in page
    assert "trained on simulated companies" in page
    assert "no company in this register exists" not in page


def test_the_run_is_on_record_with_metrics_inputs_and_files(home, second):
    client = Registry(home / "var").client
    found = client.get_run(second.run)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["expected_loss"] == pytest.approx(second.figures["headline"]["expected_loss"])
    assert {"grade/A", "hhi_trades", "migration/share_up", "stress/rate_up/limit"} <= set(found.data.metrics)
    digests = {tag.value for one in found.inputs.dataset_inputs for tag in one.tags if tag.key == "sha256"}
    companies = (home / "second" / "companies.parquet").read_bytes()
    assert hashlib.sha256(companies).hexdigest() in digests
    assert {file.path.split("/")[-1] for file in client.list_artifacts(second.run, "portfolio")} == {
        run.ANSWERS_FILE, run.REPORT_FILE, run.FIGURES_FILE}  # fmt: skip


def refused(home: Path, asking: run.PortfolioRequest, kind=DataError) -> str:
    """What a run that must fail says; nothing of it may stay."""
    before = sorted(path for path in home.rglob("*") if "mlflow" not in path.name)
    with pytest.raises(kind) as said:
        run.run_portfolio(asking, ProgressReporter(quiet=True))
    assert sorted(path for path in home.rglob("*") if "mlflow" not in path.name) == before
    return str(said.value)


def test_a_previous_run_of_the_same_or_a_later_month_is_refused(home, second):
    said = refused(home, asked(home, "second", previous=second.folder / run.ANSWERS_FILE))
    assert "an earlier month is needed" in said
    assert "an earlier month is needed" in refused(
        home, asked(home, "first", previous=second.folder / run.ANSWERS_FILE)
    )


def test_a_previous_file_that_is_none_is_refused(home):
    said = refused(home, asked(home, "second", previous=home / "second" / "companies.parquet"))
    assert "--previous" in said
    assert "no such file" in refused(home, asked(home, "second", previous=home / "nothing.parquet"))


def test_a_company_told_twice_is_refused(home, tmp_path):
    first_id = pl.col("company_id").first()
    twice = edit(home / "sound", tmp_path / "twice",
                 company_id=pl.when(pl.int_range(pl.len()) == 1).then(first_id).otherwise("company_id"))  # fmt: skip
    assert "which another row has too" in refused(home, asked(home, "first", folder=twice))


def test_without_a_champion_or_its_key_it_says_how_to_get_one(home, tmp_path):
    assert "python -m training scitech_risk" in refused(home, asked(home, "first", var=tmp_path), NoChampionError)
    other = asked(home, "first", model="another")
    assert "no champion of another" in refused(home, other, NoChampionError)


def test_a_changed_bundle_does_not_answer(home, tmp_path):
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
    assert "signature" in refused(home, asked(home, "first", var=var), BundleError)


def test_a_folder_that_is_there_is_never_written_over(home, first):
    assert "never writes over another" in refused(home, asked(home, "first", out=first.folder))


def test_a_run_that_breaks_off_leaves_no_folder_and_is_marked_failed(home, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(run.report, "render", broken)
    out = tmp_path / "out" / "here"
    with pytest.raises(OSError, match="no space left"):
        run.run_portfolio(asked(home, "first", out=out), ProgressReporter(quiet=True))
    assert list(out.parent.iterdir()) == []
    client = Registry(home / "var").client
    experiment = client.get_experiment_by_name(run.EXPERIMENT)
    newest = client.search_runs([experiment.experiment_id], max_results=1)[0]
    assert newest.info.status == "FAILED"
    assert "no space left" in newest.data.tags["error"]


def test_pieces_of_any_size_give_the_same_answers(home):
    held = scoring.load_champion(home / "var", "scitech_risk")
    frame = reader.read(home / "sound").frame
    assert scoring.score_register(held, frame, chunk_rows=97).equals(scoring.score_register(held, frame))


def test_the_command_says_where_the_report_is(home, tmp_path):
    words = ["portfolio", str(home / "first"), "--var", str(home / "var"), "--out", str(tmp_path / "out"), "--quiet",
             "--stress", str(ROOT / "configs/stress.toml")]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert re.search(r"out.report\.html", done.output)
    assert (tmp_path / "out" / run.REPORT_FILE).is_file()
