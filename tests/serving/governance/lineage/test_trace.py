"""Traces from a decision to its data and authorisations, from a subject to models and services, and erasures."""

from __future__ import annotations

import json
import shutil

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from datasets.credit_limit.county import schema
from models.card import DatasetInfo
from serving.__main__ import app
from serving.core.audit.authenticator import open_log_store
from serving.core.db import lookup
from serving.core.db.schema import INDICATORS, SUBJECT_KEYS
from serving.core.security import keys
from serving.core.security.errors import KeyFileError
from serving.governance.lineage import erasure, trace
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import Made, environment, put_subject, run_inside, settings_for, vault_of

URL = "/v1/credit-limits"
DATA = DatasetInfo(name="county", rows=3_000, sha256="d" * 64, simulated=True, authorisations=("G-1",))
HOUSEHOLD = "H-MARKED-17"


@pytest.fixture
def bundles(made, tmp_path):
    """Bundles whose cards name a run, a commit and a data set."""
    card = made.card.model_copy(update={"run_id": "r" * 32, "git_commit": "c" * 40, "data": (DATA,)})
    traced = Made(made.private, made.public, made.graph, card)
    traced.publish(tmp_path / "bundles", "0", champion=False)
    traced.publish(tmp_path / "bundles", "1")
    return tmp_path / "bundles"


@pytest.fixture
def settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path)


@pytest.fixture
def engine(settings):
    opened = open_log_store(settings, 0.3)
    yield opened
    opened.dispose()


def put(engine, settings, applicant, subject=HOUSEHOLD):
    put_subject(engine, settings, schema.TABLE, subject, applicant)


def named(settings, subject=HOUSEHOLD):
    """What the store calls a household."""
    return vault_of(settings).pseudonym("credit_limit", subject)


def decided(settings, payload):
    async def story(client, gateway):
        answer = await client.post(URL, json=payload)
        assert answer.status_code == 200, answer.text
        return answer.json()["decision_id"]

    return run_inside(settings, story)


def back(engine, settings, decision):
    with engine.connect() as connection:
        return trace.trace_decision(connection, settings, lookup.find(connection, decision))


def forward(engine, settings, subject=HOUSEHOLD, product="credit_limit", **more):
    with engine.connect() as connection:
        return trace.trace_subject(connection, settings, product, subject, **more)


def kinds(link):
    return [link.kind, *(kind for inner in link.links for kind in kinds(inner))]


def test_a_decision_leads_to_model_run_commit_data_and_authorisation(settings, engine, applicant):
    root = back(engine, settings, decided(settings, {"indicators": applicant}))
    assert kinds(root) == ["decision", "model", "run", "commit", "data", "authorisation"]
    [model] = root.links
    assert (model.name, model.detail["live"]) == ("credit_limit 1", True)
    assert [node.kind for node in root.missing_nodes()] == ["authorisation"], "no grant G-1 is in the store"


def test_a_row_of_a_batch_is_traced_like_a_single_decision(settings, engine, applicant):
    async def story(client, gateway):
        body = "\n".join(json.dumps(applicant) for _ in range(3))
        head = {"content-type": "application/x-ndjson"}
        answer = await client.post(f"{URL}/batch", content=body, headers=head)
        assert answer.status_code == 200, answer.text
        return answer.headers["batch-id"]

    batch = run_inside(settings, story)
    assert "run" in kinds(back(engine, settings, f"{batch}-3"))
    with engine.connect() as connection:
        assert lookup.find(connection, f"{batch}-4") is None


def no_bundle(folder):
    shutil.rmtree(folder)


def one_bit(folder):
    graph = bytearray((folder / "model.onnx").read_bytes())
    graph[100] ^= 1
    (folder / "model.onnx").write_bytes(graph)


def another(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "0", folder)


@pytest.mark.parametrize("spoil", [no_bundle, one_bit, another])
def test_a_bundle_that_is_not_the_one_that_decided_ends_the_trace_with_a_reason(
    settings, engine, bundles, applicant, spoil
):
    decision = decided(settings, {"indicators": applicant})
    spoil(bundles / "credit_limit" / "1")
    root = back(engine, settings, decision)
    assert kinds(root) == ["decision", "model"]
    [node] = root.missing_nodes()
    assert node.kind == "model"
    assert node.missing
    assert node.missing_zh


@pytest.mark.parametrize(
    ("card", "missing"),
    [
        ({"run_id": ""}, "run"),
        ({"git_commit": ""}, "commit"),
        ({"git_commit": "c" * 40 + "+"}, "commit"),
        ({"data": ()}, "data"),
        ({"data": (DatasetInfo(name="own", rows=1, sha256=""),)}, "data"),
        ({"data": (DatasetInfo(name="own", rows=1, sha256="a" * 64),)}, "data"),
    ],
)
def test_what_a_card_leaves_out_is_a_missing_node(made, bundles, tmp_path, applicant, card, missing):
    complete = made.card.model_copy(
        update={"run_id": "r", "git_commit": "c", "data": (DatasetInfo(**DATA.model_dump()),)}
    )
    Made(made.private, made.public, made.graph, complete.model_copy(update=card)).publish(bundles, "2")
    settings = settings_for(bundles, made, tmp_path)
    decision = decided(settings, {"indicators": applicant})
    engine = open_log_store(settings, 0.3)
    missing_kinds = [
        node.kind for node in back(engine, settings, decision).missing_nodes() if node.kind != "authorisation"
    ]
    engine.dispose()
    assert missing_kinds == [missing]


def test_another_tenants_decision_is_not_found(settings, engine, applicant):
    decision = decided(settings, {"indicators": applicant})
    with engine.connect() as connection:
        assert lookup.find(connection, decision, "other") is None
        assert lookup.find(connection, decision, "local") is not None


def test_a_subject_leads_to_decisions_data_sets_models_and_deployed_services(settings, engine, applicant):
    put(engine, settings, applicant)
    decision = decided(settings, {"subject_id": HOUSEHOLD})
    with engine.begin() as connection:
        trace.record_dataset_rows(connection, DATA.sha256, [named(settings), "H-2"])
        trace.record_dataset_rows(connection, DATA.sha256, ["H-2", named(settings)])
        trace.record_dataset_rows(connection, "e" * 64, ["H-2"])
    root = forward(engine, settings)
    decisions, data, _ = root.links
    assert [node.name for node in decisions.links] == [decision]
    assert data.detail["sha256"] == DATA.sha256
    assert [(model.name, model.detail["live"]) for model in data.links] == [
        ("credit_limit 0", False),
        ("credit_limit 1", True),
    ]
    assert kinds(data.links[1]) == ["model", "service"]
    served = forward(engine, settings, serving={"credit_limit": "0"}).links[1]
    assert [model.detail["live"] for model in served.links] == [True, False]


def test_an_erasure_deletes_the_key_bars_training_names_the_models_and_is_certified(settings, engine, applicant):
    put(engine, settings, applicant)
    decided(settings, {"subject_id": HOUSEHOLD})
    with engine.begin() as connection:
        trace.record_dataset_rows(connection, DATA.sha256, [named(settings)])
    document = erasure.erase(engine, settings, "credit_limit", HOUSEHOLD, "tester")
    certificate = document["certificate"]
    assert certificate["key_shredded"]
    assert certificate["data_sets"] == [DATA.sha256]
    assert [(item["version"], item["live"]) for item in certificate["models"]] == [("0", False), ("1", True)]
    assert [(item["what"], item["count"]) for item in certificate["kept"]] == [
        ("decisions", 1),
        ("data sets given out", 1),
    ]
    assert erasure.RETAINED_NETWORKS not in certificate["kept"], "a household lies in no network"
    public = keys.load_key_pair(settings.paths.log_key)[1].read_bytes()
    assert erasure.verify_certificate(document, public)
    assert not erasure.verify_certificate({**document, "certificate": certificate | {"models": []}}, public)
    with engine.connect() as connection:
        assert erasure.erased_subjects(connection, "credit_limit", [named(settings), "H-2"]) == {named(settings)}
        assert erasure.erased_subjects(connection, "scitech_risk", [named(settings)]) == set()
    assert erasure.erase(engine, settings, "credit_limit", HOUSEHOLD, "again") == document, "asked again, the same one"
    assert erasure.list_certificates(engine, settings, "credit_limit", HOUSEHOLD) == [document]
    assert "erasure" in kinds(forward(engine, settings))

    async def story(client, gateway):
        answer = await client.post(URL, json={"subject_id": HOUSEHOLD})
        assert answer.json()["type"] == "/problems/unknown_subject"

    run_inside(settings, story)


def test_no_byte_of_an_erased_subject_stays_in_the_stores_files(settings, engine, applicant):
    if engine.dialect.name != "sqlite":
        pytest.skip("the files of a PostgreSQL are not ours to read")
    put(engine, settings, applicant)
    with engine.connect() as connection:
        key = connection.execute(sa.select(SUBJECT_KEYS.c.wrapped)).scalar_one()
        values = connection.execute(sa.select(INDICATORS.c.sealed)).scalars().all()
    store = settings.paths.store

    def read_files():
        files = [*store.parent.glob(f"{store.name}*"), *store.parent.glob("subject_keys/keys.db*")]
        return b"".join(path.read_bytes() for path in files)

    assert key in read_files()
    erasure.erase(engine, settings, "credit_limit", HOUSEHOLD, "tester")
    assert not any(secret in read_files() for secret in (key, *values))


def test_an_erasure_that_cannot_be_signed_erases_nothing(settings, engine, applicant):
    put(engine, settings, applicant)

    keys.load_key_pair(settings.paths.log_key)
    settings.paths.log_key.chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 0644"):
        erasure.erase(engine, settings, "credit_limit", HOUSEHOLD, "tester")
    settings.paths.log_key.chmod(0o600)
    assert erasure.list_certificates(engine, settings, "credit_limit", HOUSEHOLD) == []
    assert decided(settings, {"subject_id": HOUSEHOLD})


def test_the_erasure_of_an_unknown_subject_is_refused(settings, engine):
    with pytest.raises(erasure.NothingToEraseError, match="H-0"):
        erasure.erase(engine, settings, "credit_limit", "H-0", "tester")


def test_erasing_a_slide_deletes_the_image_and_retains_the_report(settings, engine):
    slide_store.create(engine, "5" * 32, "uploading", sha256="f" * 64)
    folder = settings.paths.slides / ("5" * 32)
    for name in ("slide/a.svs", "heat.npz", "reports/1.pdf"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(erasure.SlideInProgressError, match="cancel"):
        erasure.erase_slide(engine, settings, "5" * 32, "tester")
    slide_store.transition(engine, "5" * 32, "cancelled")
    document = erasure.erase_slide(engine, settings, "5" * 32, "tester")
    assert document["certificate"]["files_removed"] == ["heat.npz", "slide"]
    assert [path.name for path in folder.iterdir()] == ["reports"]
    assert erasure.erase_slide(engine, settings, "5" * 32, "tester") == document
    assert "erasure" in kinds(forward(engine, settings, "5" * 32, "pathology"))


def test_the_commands_trace_and_erase_or_report_what_is_wrong(
    settings, engine, bundles, made, tmp_path, applicant, monkeypatch
):
    for name, value in environment(bundles, made, tmp_path).items():
        monkeypatch.setenv(name, value)
    put(engine, settings, applicant)
    decision = decided(settings, {"subject_id": HOUSEHOLD})
    runner = CliRunner()
    result = runner.invoke(app, ["trace", decision, "--json"])
    assert json.loads(result.stdout)["links"][0]["name"] == "credit_limit 1"
    assert "missing 缺失" in runner.invoke(app, ["trace", decision]).stdout
    assert named(settings) in runner.invoke(app, ["trace", "--subject", HOUSEHOLD]).stdout
    erased = runner.invoke(app, ["erase", "--subject", HOUSEHOLD, "--yes", "--out", str(tmp_path / "c.json")])
    assert erased.exit_code == 0, erased.output
    assert json.loads((tmp_path / "c.json").read_text())["certificate"]["pseudonym"] == named(settings)
    for wrong in (["trace", "0" * 32], ["erase", "--subject", "H-0", "--yes"], ["erase", "--slide", "0" * 32, "--yes"]):
        refused = runner.invoke(app, wrong)
        assert refused.exit_code == 1
        assert refused.stderr
