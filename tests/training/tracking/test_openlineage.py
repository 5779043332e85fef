"""A run emits OpenLineage events with its data sets, its bundle, its commit and its outcome."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from datasets.errors import DataError
from models import bundle
from models.card import DatasetInfo
from training import pipeline
from training.credit_limit import RECIPE
from training.progress import ProgressReporter
from training.tabular.pipeline import TabularPipeline
from training.tracking.openlineage import NAMESPACE, LineageEmitter

RUN = "0123456789abcdef0123456789abcdef"
DATA = DatasetInfo(name="own", rows=5, sha256="d" * 64, licence="none", simulated=True, authorisations=("G-1", "G-2"))


def events(var) -> list[dict]:
    return [json.loads(line) for line in (var / "lineage" / "events.ndjson").read_text().splitlines()]


def test_a_training_run_emits_its_start_and_its_completion_with_data_bundle_and_commit(home):
    start, complete = [
        event for event in events(home.var) if event["run"]["runId"].replace("-", "") == home.model.run_id
    ]
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    champion = bundle.load_bundle(home.model.bundle_dir, home.var / "keys" / "signing.pub.pem")
    [dataset], [output] = complete["inputs"], complete["outputs"]
    assert dataset["facets"]["version"]["datasetVersion"] == champion.card.data[0].sha256
    assert dataset["inputFacets"]["inputStatistics"]["rowCount"] == champion.card.data[0].rows
    assert output["facets"]["version"]["datasetVersion"] == home.model.version
    assert {"key": "digest", "value": champion.digest, "source": "signature"} in output["facets"]["tags"]["tags"]
    assert complete["job"] | {"facets": None} == {"namespace": NAMESPACE, "name": "credit_limit.tiny", "facets": None}
    assert complete["job"]["facets"]["sourceCodeLocation"]["version"] == champion.card.git_commit
    assert "@" not in complete["job"]["facets"]["sourceCodeLocation"]["url"]


def test_a_card_contains_the_histograms_from_which_drift_is_measured(home):
    card = bundle.load_bundle(home.model.bundle_dir, home.var / "keys" / "signing.pub.pem").card
    assert [histogram.name for histogram in card.drift.inputs] == [column.name for column in card.inputs]
    histograms = (*card.drift.inputs, card.drift.score)
    assert {sum(histogram.counts) for histogram in histograms} == {card.drift.rows}
    assert 0 < card.drift.rows < card.data[0].rows


def test_a_failed_run_emits_its_error(home, tmp_path):
    config = RECIPE.load(home.config, tmp_path / "missing.parquet")
    with pytest.raises(DataError), ProgressReporter(quiet=True) as reporter:
        pipeline.train(RECIPE, TabularPipeline, config, tmp_path, reporter)
    start, fail = events(tmp_path)
    assert (start["eventType"], fail["eventType"]) == ("START", "FAIL")
    assert "missing.parquet" in fail["run"]["facets"]["errorMessage"]["message"]


@pytest.fixture
def collector():
    requests = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()


def test_a_collector_receives_the_events_of_the_file(tmp_path, monkeypatch, collector):
    url, requests = collector
    monkeypatch.setenv("OPENLINEAGE_URL", url)
    with ProgressReporter(quiet=True) as reporter:
        emitter = LineageEmitter(tmp_path, reporter, RUN, "tiny", "credit_limit")
        emitter.started()
        emitter.completed([DATA], tmp_path / "tiny" / "v1", "b" * 64)
    assert [path for path, _ in requests] == ["/api/v1/lineage"] * 2
    assert [event["eventType"] for _, event in requests] == ["START", "COMPLETE"]
    tags = requests[1][1]["inputs"][0]["facets"]["tags"]["tags"]
    assert [tag["value"] for tag in tags if tag["key"] == "authorisation"] == ["G-1", "G-2"]
    assert len(events(tmp_path)) == 2


def test_an_unreachable_collector_does_not_stop_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    with ProgressReporter(quiet=True) as reporter:
        LineageEmitter(tmp_path, reporter, RUN, "tiny", "credit_limit").started()
    assert len(events(tmp_path)) == 1
