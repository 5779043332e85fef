"""An auditor finds and names whatever was altered in the store behind the service's back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.checkpoints import CheckpointSigner
from serving.core.audit.log import append, make_entry
from serving.core.audit.verify import leaf_hash, load_public_key
from serving.core.billing.prices import Prices
from serving.core.db.engine import create_engine
from serving.core.db.schema import (
    BATCH_CHUNKS,
    BATCHES,
    DECISIONS,
    LOG_CHECKPOINTS,
    LOG_LEAVES,
    METER,
    PROVENANCE,
    SLIDE_REPORTS,
    SLIDES,
)
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import run_inside, settings_for

URL = "/v1/credit-limits"
WAY = ("verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating")
READING = {"triage": "positive", "priority": 9, "score": 0.25, "model": {"name": "m", "version": "1", "bundle": "b"}}


def fill(settings, applicant) -> None:
    """Decisions, a batch, and a slide with two reports; checkpoints in between."""

    async def story(client, gateway):
        for i in range(6):
            sent = {"json": {"indicators": applicant | {"age": 30 + i}}, "headers": {"Idempotency-Key": f"k{i}"}}
            assert (await client.post(URL, **sent)).status_code == 200
            gateway.service.store.checkpoint_signer.checkpoint()
        sent = {"content": b"declared_income\n5\n-6\n7\n", "headers": {"Content-Type": "text/csv"}}
        assert (await client.post(URL + "/batch", **sent)).status_code == 200
        engine, prices = gateway.service.store.engine, Prices.load(settings.paths.prices)
        slide_store.create(engine, "5" * 32)
        for state in WAY:
            slide_store.transition(engine, "5" * 32, state, {"of": state})
        slide_store.transition(engine, "5" * 32, "ready", reading=READING, prices=prices)
        slide_store.transition(engine, "5" * 32, "in_review")
        body = {"findings": "none 无", "age": 41.5}
        slide_store.add_report(engine, "5" * 32, 1, "signed", body, "a" * 64, "licence-1", "2026-11-25T00:00:00.000Z")
        slide_store.add_report(engine, "5" * 32, 2, "amended", body, "b" * 64, "licence-1", "2026-11-25T00:00:01.000Z")
        gateway.service.store.checkpoint_signer.checkpoint()

    run_inside(settings, story)


def found_in(settings, store: Path | None = None) -> list[str]:
    place = store or settings.store.url or settings.paths.store
    engine = create_engine(f"sqlite:///{place}" if isinstance(place, Path) else place, 5.0)
    key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    report = audit_store(engine, key, settings.paths.checkpoints)
    engine.dispose()
    assert report.leaves > 10
    return [str(finding) for finding in report.findings]


@pytest.fixture(scope="module")
def whole(bundles, made, applicant, tmp_path_factory):
    """Settings of a store that was closed; each test alters a copy."""
    settings = settings_for(bundles, made, tmp_path_factory.mktemp("audit"), YUHENG_STORE_URL="")
    fill(settings, applicant)
    return settings


def first(table: sa.Table, column: str):
    return sa.select(sa.func.min(table.c[column])).scalar_subquery()


def last(table: sa.Table, column: str):
    return sa.select(sa.func.max(table.c[column])).scalar_subquery()


def test_nothing_is_found_where_nothing_was_altered(settings, applicant):
    fill(settings, applicant)
    assert found_in(settings) == []


OF = DECISIONS.c.leaf == 3
LEAF = LOG_LEAVES.c.index == 3
ALTERED = {
    "an answer": (sa.update(DECISIONS).where(OF).values(answer=b"{}"), "edited 被修改: decisions"),
    "whose it is": (sa.update(DECISIONS).where(OF).values(tenant="other"), "edited 被修改: decisions"),
    "about whom": (sa.update(DECISIONS).where(OF).values(subject="h7"), "edited 被修改: decisions"),
    "its key": (sa.update(DECISIONS).where(OF).values(idempotency_key="x"), "edited 被修改: decisions"),
    "by what": (sa.update(DECISIONS).where(OF).values(bundle="0" * 64), "edited 被修改: decisions"),
    "its salt": (sa.update(DECISIONS).where(OF).values(salt=b"0" * 16), "edited 被修改: decisions"),
    "its salt, away": (sa.update(DECISIONS).where(OF).values(salt=None), "edited 被修改: decisions"),
    "its leaf": (sa.update(DECISIONS).where(OF).values(leaf=99), "reordered 被调换: decisions"),
    "a decision, away": (sa.delete(DECISIONS).where(OF), "deleted 被删除: decisions"),
    "a price": (sa.update(METER).where(METER.c.leaf == 3).values(fen=7), "edited 被修改: meter"),
    "a tenant's line": (sa.update(METER).where(METER.c.leaf == 3).values(tenant="t"), "edited 被修改: meter"),
    "a line, away": (sa.delete(METER).where(METER.c.leaf == 3), "deleted 被删除: meter"),
    "a leaf's body": (sa.update(LOG_LEAVES).where(LEAF).values(body=b"{}"), "edited 被修改: log_leaves 3"),
    "a leaf's hash": (sa.update(LOG_LEAVES).where(LEAF).values(hash=b"0" * 32), "edited 被修改: log_leaves 3"),
    "a leaf's time": (sa.update(LOG_LEAVES).where(LEAF).values(at="2020"), "edited 被修改: log_leaves 3"),
    "a leaf, away": (sa.delete(LOG_LEAVES).where(LEAF), "deleted 被删除: log_leaves 3"),
    "the last leaf, away": (
        sa.delete(LOG_LEAVES).where(LOG_LEAVES.c.index == last(LOG_LEAVES, "index")),
        "rolled back 被回退: log_leaves",
    ),
    "a chunk": (sa.update(BATCH_CHUNKS).values(content=b"none"), "edited 被修改: batch_chunks"),
    "a chunk, away": (sa.delete(BATCH_CHUNKS), "deleted 被删除: batch_chunks"),
    "a report": (
        sa.update(SLIDE_REPORTS).where(SLIDE_REPORTS.c.version == 1).values(body={"findings": "cancer"}),
        "edited 被修改: slide_reports",
    ),
    "a report's PDF": (sa.update(SLIDE_REPORTS).values(sha256="0" * 64), "edited 被修改: slide_reports"),
    "a report, away": (
        sa.delete(SLIDE_REPORTS).where(SLIDE_REPORTS.c.version == 2),
        "deleted 被删除: slide_reports",
    ),
    "a reading": (sa.update(SLIDES).values(reading=READING | {"triage": "negative"}), "edited 被修改: slides"),
    "a lineage": (sa.update(PROVENANCE).values(body=b'{"bundle":"0"}'), "edited 被修改: lineages"),
    "a lineage, away": (sa.delete(PROVENANCE), "deleted 被删除: lineages"),
    "a checkpoint": (
        sa.update(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size == 3).values(root=b"0" * 32),
        "edited 被修改: log_checkpoints 3",
    ),
    "a checkpoint, away": (
        sa.delete(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size == 3),
        "deleted 被删除: log_checkpoints 3",
    ),
    "a note": (
        sa.update(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size == 3).values(note="yuheng.local/log\n3\nAA==\n\n"),
        "not signed 签名不符: log_checkpoints 3",
    ),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_altered_is_named(whole, tmp_path, what):
    statement, wanted = ALTERED[what]
    with altered(whole, tmp_path) as connection:
        connection.execute(statement)
    found = found_in(whole, tmp_path / "store.db")
    assert any(line.startswith(wanted) for line in found), found


def altered(settings, folder: Path):
    """A transaction on a copy of the store."""
    with (
        closing(sqlite3.connect(settings.paths.store)) as source,
        closing(sqlite3.connect(folder / "store.db")) as copy,
    ):
        source.backup(copy)
    engine = create_engine(f"sqlite:///{folder / 'store.db'}", 5.0)
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=OFF"))
    return engine.begin()


def test_added_rows_are_named(whole, tmp_path):
    with altered(whole, tmp_path) as connection:
        row = dict(connection.execute(sa.select(DECISIONS).where(OF)).mappings().one())
        connection.execute(sa.insert(DECISIONS).values(row | {"id": "f" * 32, "idempotency_key": None}))
        line = dict(connection.execute(sa.select(METER).where(METER.c.leaf == 3)).mappings().one())
        connection.execute(sa.insert(METER).values(line | {"decision": "f" * 32}))
    found = found_in(whole, tmp_path / "store.db")
    assert f"added 被添加: decisions {'f' * 32}: no leaf tells of it" in found
    assert f"added 被添加: meter {'f' * 32}: no leaf tells of it" in found


def test_two_decisions_put_in_each_others_place_are_named(whole, tmp_path):
    with altered(whole, tmp_path) as connection:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            connection.execute(sa.update(DECISIONS).where(DECISIONS.c.leaf == old).values(leaf=new))
    assert sum(line.startswith("reordered") for line in found_in(whole, tmp_path / "store.db")) == 2


def test_a_leaf_and_its_row_forged_together_are_found_by_what_was_signed(whole, tmp_path):
    with altered(whole, tmp_path) as connection:
        body = connection.execute(sa.select(LOG_LEAVES.c.body).where(LEAF)).scalar_one()
        body = body.replace(b'"tenant":"local"', b'"tenant":"other"')
        connection.execute(sa.update(LOG_LEAVES).where(LEAF).values(body=body, hash=leaf_hash(body), tenant="other"))
        connection.execute(sa.update(DECISIONS).where(OF).values(tenant="other"))
        connection.execute(sa.update(METER).where(METER.c.leaf == 3).values(tenant="other"))
    assert any("log_leaves, leaves 3 to 3" in line for line in found_in(whole, tmp_path / "store.db"))


def test_a_log_written_anew_with_the_key_is_found_by_the_file_outside(whole, tmp_path):
    """An insider with the key and the store, but not the file: the store goes back to leaf 5 and on from there."""
    with altered(whole, tmp_path) as connection:
        for table in (DECISIONS, METER, BATCH_CHUNKS, SLIDE_REPORTS):
            connection.execute(sa.delete(table).where(table.c.leaf >= 5))
        connection.execute(sa.delete(LOG_LEAVES).where(LOG_LEAVES.c.index >= 5))
        connection.execute(sa.delete(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size > 5))
        connection.execute(sa.delete(SLIDES))
        append(connection, [make_entry("test", "2027", "local", str(i)) for i in range(30)])
        engine = connection.engine
    assert (
        CheckpointSigner(engine, whole.paths.log_key, whole.paths.checkpoints, "yuheng.local/log").recover() is not None
    )
    CheckpointSigner(engine, whole.paths.log_key, tmp_path / "other", "yuheng.local/log").checkpoint()
    found = found_in(whole, tmp_path / "store.db")
    assert any("another root was signed" in line for line in found)
    assert any("it stands in log_checkpoints" in line for line in found)


def test_a_line_of_the_file_that_was_cut_or_altered_is_named(whole, tmp_path):
    notes = whole.paths.checkpoints.read_text().splitlines(keepends=True)
    for file, wanted in (
        ([*notes[:1], *notes[2:]], "deleted 被删除"),
        ([notes[0].replace("\\n2\\n", "\\n3\\n"), *notes[1:]], "not signed 签名不符"),
        (["?\n", *notes], "edited 被修改"),
        ([], "deleted 被删除"),
    ):
        copy = tmp_path / "checkpoints"
        copy.write_text("".join(file))
        engine = create_engine(f"sqlite:///{whole.paths.store}", 5.0)
        key = load_public_key(whole.paths.log_key.with_suffix(".pub.pem").read_bytes())
        found = [str(finding) for finding in audit_store(engine, key, copy).findings]
        assert any(line.startswith(wanted) for line in found), found
        engine.dispose()


def test_an_erased_decision_is_no_finding_where_a_leaf_tells_of_it(whole, tmp_path):
    with altered(whole, tmp_path) as connection:
        (decision,) = connection.execute(sa.select(DECISIONS.c.id).where(OF)).scalars()
        connection.execute(sa.update(DECISIONS).where(OF).values(salt=None, answer=b"", subject=None))
        append(connection, [make_entry("erasure", "2027", "local", "certificate", decisions=[decision])])
    assert found_in(whole, tmp_path / "store.db") == []


def test_what_was_answered_before_there_was_a_log_is_counted(whole, tmp_path):
    with altered(whole, tmp_path) as connection:
        told = json.loads(connection.execute(sa.select(LOG_LEAVES.c.body).where(LOG_LEAVES.c.index == 0)).scalar_one())
    assert told["before"] == {"decisions": 0, "batch_chunks": 0, "slide_reports": 0}


def test_the_command_names_what_it_found_and_fails(whole, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from serving.__main__ import app

    for name, path in (("STORE", whole.paths.store), ("LOG_KEY", whole.paths.log_key)):
        monkeypatch.setenv(f"YUHENG_{name}", str(path))
    monkeypatch.setenv("YUHENG_CHECKPOINTS", str(whole.paths.checkpoints))
    fine = CliRunner().invoke(app, ["audit", "verify"])
    assert fine.exit_code == 0, fine.output
    assert "nothing was altered" in fine.output
    assert CliRunner().invoke(app, ["audit", "checkpoint"]).output.startswith("yuheng.local/log\n")
    with altered(whole, tmp_path) as connection:
        connection.execute(sa.delete(DECISIONS).where(OF))
    monkeypatch.setenv("YUHENG_STORE", str(tmp_path / "store.db"))
    bad = CliRunner().invoke(app, ["audit", "verify"])
    assert bad.exit_code == 1
    assert "deleted 被删除: decisions" in bad.output


MISSED = {
    "a batch's tenant": (sa.update(BATCHES).values(tenant="other"), "edited 被修改: batches"),
    "a batch's maker": (sa.update(BATCHES).values(bundle="0" * 64), "edited 被修改: batches"),
    "a slide's tenant": (sa.update(SLIDES).values(tenant="other"), "edited 被修改: slides"),
    "a slide's triage": (sa.update(SLIDES).values(triage="negative", audit=False), "edited 被修改: slides"),
    "an answer, as text": ("UPDATE decisions SET answer = 'x' WHERE leaf = 3", "edited 被修改: decisions"),
    "a salt, as text": ("UPDATE decisions SET salt = 'x' WHERE leaf = 3", "edited 被修改: decisions"),
    "a leaf, as text": ("UPDATE log_leaves SET body = 'x' WHERE \"index\" = 3", "edited 被修改: log_leaves 3"),
    "a hash, as text": ("UPDATE log_leaves SET hash = 'x' WHERE \"index\" = 3", "edited 被修改: log_leaves 3"),
    "a chunk, as text": ("UPDATE batch_chunks SET content = 'x'", "edited 被修改: batch_chunks"),
    "a lineage, as text": ("UPDATE lineages SET body = 'x'", "edited 被修改: lineages"),
    "a report that is no JSON": ("UPDATE slide_reports SET body = '{'", "edited 被修改: slide_reports"),
    "a reading that is no JSON": ("UPDATE slides SET reading = '{'", "edited 被修改: slides"),
    "a price that is text": ("UPDATE meter SET fen = 'x' WHERE leaf = 3", "edited 被修改: meter"),
}


@pytest.mark.parametrize("what", MISSED)
def test_what_stands_beside_a_leafs_rows_or_is_of_another_kind_is_named_too(whole, tmp_path, what):
    statement, wanted = MISSED[what]
    with altered(whole, tmp_path) as connection:
        connection.execute(sa.text(statement) if isinstance(statement, str) else statement)
    found = found_in(whole, tmp_path / "store.db")
    assert any(line.startswith(wanted) for line in found), found


@pytest.mark.parametrize("kind", ["decision", "chunk", "slide_state", "report", "start"])
def test_a_leaf_that_lacks_what_its_kind_tells_is_named_and_ends_no_audit(whole, tmp_path, kind):
    with altered(whole, tmp_path) as connection:
        chosen = sa.select(LOG_LEAVES).where(LOG_LEAVES.c.kind == kind).order_by(LOG_LEAVES.c.index.desc())
        leaf = connection.execute(chosen.limit(1)).one()
        body = make_entry(leaf.kind, leaf.at, leaf.tenant, leaf.ref, price=1, state="ready").body
        mine = LOG_LEAVES.c.index == leaf.index
        connection.execute(sa.update(LOG_LEAVES).where(mine).values(body=body, hash=leaf_hash(body)))
    found = found_in(whole, tmp_path / "store.db")
    assert any(line.startswith(f"edited 被修改: log_leaves {leaf.index}") for line in found), found


def test_of_an_erased_decision_all_but_the_answer_is_still_compared(whole, tmp_path):
    with altered(whole, tmp_path) as connection:
        (decision,) = connection.execute(sa.select(DECISIONS.c.id).where(OF)).scalars()
        connection.execute(sa.update(DECISIONS).where(OF).values(salt=None, tenant="other"))
        append(connection, [make_entry("erasure", "2027", "local", "certificate", decisions=[decision])])
    assert [line for line in found_in(whole, tmp_path / "store.db") if f"decisions {decision}: tenant" in line]


def test_a_row_added_in_place_of_one_from_before_the_log_is_named(whole, tmp_path):
    """As many as were there: yet one is newer than the log."""
    with altered(whole, tmp_path) as connection:
        row = dict(connection.execute(sa.select(DECISIONS).where(OF)).mappings().one())
        told = {"kind": "start", "at": "2026-01-01", "tenant": "", "ref": "", "before": {"decisions": 1}}
        body = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
        start = sa.update(LOG_LEAVES).where(LOG_LEAVES.c.index == 0)
        connection.execute(
            start.values(body=body, hash=leaf_hash(body), **{k: told[k] for k in ("at", "ref", "tenant")})
        )
        connection.execute(
            sa.insert(DECISIONS).values(row | {"id": "f" * 32, "idempotency_key": None, "leaf": None, "salt": None})
        )
    assert f"added 被添加: decisions {'f' * 32}: no leaf tells of it" in found_in(whole, tmp_path / "store.db")
