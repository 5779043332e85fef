"""A run is told as OpenLineage events: its data sets, its bundle, its commit, and how it ended."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from datasets.errors import DataError
from models import bundle
from models.card import DatasetInfo
from training import credit_limit, pipeline
from training.progress import ProgressReporter
from training.tracking.openlineage import NAMESPACE, LineageEmitter

RUN = "0123456789abcdef0123456789abcdef"
DATA = DatasetInfo(name="own", rows=5, sha256="d" * 64, licence="none", simulated=True, authorisations=("G-1", "G-2"))


def events(var) -> list[dict]:
    return [json.loads(line) for line in (var / "lineage" / "events.ndjson").read_text().splitlines()]


def test_a_training_run_began_and_was_done_with_its_data_its_bundle_and_its_commit(home):
    mine = [one for one in events(home.var) if one["run"]["runId"].replace("-", "") == home.made.run_id]
    assert [one["eventType"] for one in mine] == ["START", "COMPLETE"]
    done = mine[1]
    held = bundle.load_bundle(home.made.bundle_dir, home.var / "keys" / "signing.pub.pem")
    [data], [made] = done["inputs"], done["outputs"]
    assert data["facets"]["version"]["datasetVersion"] == held.card.data[0].sha256
    assert data["inputFacets"]["inputStatistics"]["rowCount"] == held.card.data[0].rows
    assert made["facets"]["version"]["datasetVersion"] == home.made.version
    assert {"key": "digest", "value": held.digest, "source": "signature"} in made["facets"]["tags"]["tags"]
    assert done["job"] | {"facets": None} == {"namespace": NAMESPACE, "name": "credit_limit.tiny", "facets": None}
    assert done["job"]["facets"]["sourceCodeLocation"]["version"] == held.card.git_commit
    assert "@" not in done["job"]["facets"]["sourceCodeLocation"]["url"]


def test_a_card_holds_the_spread_from_which_drift_is_measured(home):
    card = bundle.load_bundle(home.made.bundle_dir, home.var / "keys" / "signing.pub.pem").card
    assert [one.name for one in card.drift.inputs] == [column.name for column in card.inputs]
    assert {sum(one.counts) for one in (*card.drift.inputs, card.drift.score)} == {card.drift.rows}
    assert 0 < card.drift.rows < card.data[0].rows


def test_a_run_that_fails_says_why(home, tmp_path, monkeypatch):
    def fails(*_):
        raise DataError("no rows today")

    monkeypatch.setattr(credit_limit, "read", fails)
    with pytest.raises(DataError), ProgressReporter(quiet=True) as watch:
        pipeline.train(credit_limit, credit_limit.load(home.config), tmp_path, watch)
    told = events(tmp_path)
    assert [one["eventType"] for one in told] == ["START", "FAIL"]
    assert "no rows today" in told[1]["run"]["facets"]["errorMessage"]["message"]


@pytest.fixture
def collector():
    taken = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()


def test_a_collector_gets_what_the_file_gets(tmp_path, monkeypatch, collector):
    url, taken = collector
    monkeypatch.setenv("OPENLINEAGE_URL", url)
    with ProgressReporter(quiet=True) as watch:
        told = LineageEmitter(tmp_path, watch, RUN, "tiny", "credit_limit")
        told.started()
        told.completed([DATA], tmp_path / "tiny" / "v1", "b" * 64)
    assert [path for path, _ in taken] == ["/api/v1/lineage"] * 2
    assert [event["eventType"] for _, event in taken] == ["START", "COMPLETE"]
    tags = taken[1][1]["inputs"][0]["facets"]["tags"]["tags"]
    assert [tag["value"] for tag in tags if tag["key"] == "authorisation"] == ["G-1", "G-2"]
    assert len(events(tmp_path)) == 2


def test_a_collector_that_is_away_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    with ProgressReporter(quiet=True) as watch:
        LineageEmitter(tmp_path, watch, RUN, "tiny", "credit_limit").started()
    assert len(events(tmp_path)) == 1
