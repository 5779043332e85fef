"""The audit reports every change to the store that the service did not make."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import EntryAuthenticator, attach, load_authenticator
from serving.core.audit.checkpoints import CheckpointSigner
from serving.core.audit.entries import DECISION_FIELDS, retained_decision_digest, sha256_hex
from serving.core.audit.log import append, make_entry
from serving.core.audit.verify import leaf_hash, load_public_key
from serving.core.billing.prices import Prices
from serving.core.db.engine import create_engine
from serving.core.db.schema import (
    BATCH_CHUNKS,
    BATCHES,
    DECISIONS,
    ERASURES,
    LOG_CHECKPOINTS,
    LOG_LEAVES,
    METER,
    PROVENANCE,
    SLIDE_REPORTS,
    SLIDES,
)
from serving.core.identifiers import utc_now
from serving.core.security.keys import load_private_key
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import run_inside, settings_for

URL = "/v1/credit-limits"
STATES = ("verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating")
READING = {"triage": "positive", "priority": 9, "score": 0.25, "model": {"name": "m", "version": "1", "bundle": "b"}}


def fill(settings, applicant) -> None:
    """Decisions, a batch, and a slide with two reports, with checkpoints in between."""

    async def story(client, gateway):
        for i in range(6):
            body, headers = {"indicators": applicant | {"age": 30 + i}}, {"Idempotency-Key": f"k{i}"}
            assert (await client.post(URL, json=body, headers=headers)).status_code == 200
            gateway.service.store.checkpoint_signer.checkpoint()
        rows, headers = b"declared_income\n5\n-6\n7\n", {"Content-Type": "text/csv"}
        assert (await client.post(URL + "/batch", content=rows, headers=headers)).status_code == 200
        engine, prices = gateway.service.store.engine, Prices.load(settings.paths.prices)
        slide_store.create(engine, "5" * 32)
        for state in STATES:
            slide_store.transition(engine, "5" * 32, state, {"of": state})
        slide_store.transition(engine, "5" * 32, "ready", reading=READING, prices=prices)
        slide_store.transition(engine, "5" * 32, "in_review")
        body = {"findings": "none 无", "age": 41.5}
        slide_store.add_report(engine, "5" * 32, 1, "signed", body, "a" * 64, "licence-1", utc_now())
        slide_store.add_report(engine, "5" * 32, 2, "amended", body, "b" * 64, "licence-1", utc_now())
        gateway.service.store.checkpoint_signer.checkpoint()

    run_inside(settings, story)


def audit(settings, store: Path | None = None) -> list[str]:
    """The findings in a store, by default the one of the settings."""
    location = store or settings.store.url or settings.paths.store
    engine = create_engine(f"sqlite:///{location}" if isinstance(location, Path) else location, 5.0)
    key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    report = audit_store(engine, key, settings.paths.checkpoints, authenticator_for(settings))
    engine.dispose()
    assert report.leaves > 10
    return [str(finding) for finding in report.findings]


@pytest.fixture(scope="module")
def filled(bundles, made, applicant, tmp_path_factory):
    """The settings of a filled store that no service has open; each test alters a copy."""
    settings = settings_for(bundles, made, tmp_path_factory.mktemp("audit"), YUHENG_STORE_URL="")
    fill(settings, applicant)
    return settings


def first(table: sa.Table, column: str):
    return sa.select(sa.func.min(table.c[column])).scalar_subquery()


def last(table: sa.Table, column: str):
    return sa.select(sa.func.max(table.c[column])).scalar_subquery()


def test_an_untouched_store_has_no_findings(settings, applicant):
    fill(settings, applicant)
    assert audit(settings) == []


# Entries 0 to 4: the start, the keys, and the promotions of three models.
IS_THIRD = DECISIONS.c.leaf == 7
IS_THIRD_LEAF = LOG_LEAVES.c.index == 7
CHANGES = {
    "an answer": (sa.update(DECISIONS).where(IS_THIRD).values(answer=b"{}"), "edited 被修改: decisions"),
    "its tenant": (sa.update(DECISIONS).where(IS_THIRD).values(tenant="other"), "edited 被修改: decisions"),
    "its subject": (sa.update(DECISIONS).where(IS_THIRD).values(subject="h7"), "edited 被修改: decisions"),
    "its key": (sa.update(DECISIONS).where(IS_THIRD).values(idempotency_key="x"), "edited 被修改: decisions"),
    "its bundle": (sa.update(DECISIONS).where(IS_THIRD).values(bundle="0" * 64), "edited 被修改: decisions"),
    "its salt": (sa.update(DECISIONS).where(IS_THIRD).values(salt=b"0" * 16), "edited 被修改: decisions"),
    "its salt, deleted": (sa.update(DECISIONS).where(IS_THIRD).values(salt=None), "edited 被修改: decisions"),
    "its leaf": (sa.update(DECISIONS).where(IS_THIRD).values(leaf=99), "reordered 被调换: decisions"),
    "a decision, deleted": (sa.delete(DECISIONS).where(IS_THIRD), "deleted 被删除: decisions"),
    "a price": (sa.update(METER).where(METER.c.leaf == 7).values(fen=7), "edited 被修改: meter"),
    "the tenant of a charge": (sa.update(METER).where(METER.c.leaf == 7).values(tenant="t"), "edited 被修改: meter"),
    "a charge, deleted": (sa.delete(METER).where(METER.c.leaf == 7), "deleted 被删除: meter"),
    "a leaf's body": (sa.update(LOG_LEAVES).where(IS_THIRD_LEAF).values(body=b"{}"), "edited 被修改: log_leaves 7"),
    "a leaf's hash": (sa.update(LOG_LEAVES).where(IS_THIRD_LEAF).values(hash=b"0" * 32), "edited 被修改: log_leaves 7"),
    "a leaf's time": (sa.update(LOG_LEAVES).where(IS_THIRD_LEAF).values(at="2020"), "edited 被修改: log_leaves 7"),
    "a leaf, deleted": (sa.delete(LOG_LEAVES).where(IS_THIRD_LEAF), "deleted 被删除: log_leaves 7"),
    "the last leaf, deleted": (
        sa.delete(LOG_LEAVES).where(LOG_LEAVES.c.index == last(LOG_LEAVES, "index")),
        "rolled back 被回退: log_leaves",
    ),
    "a chunk": (sa.update(BATCH_CHUNKS).values(content=b"none"), "edited 被修改: batch_chunks"),
    "a chunk, deleted": (sa.delete(BATCH_CHUNKS), "deleted 被删除: batch_chunks"),
    "a report": (
        sa.update(SLIDE_REPORTS).where(SLIDE_REPORTS.c.version == 1).values(body={"findings": "cancer"}),
        "edited 被修改: slide_reports",
    ),
    "a report's PDF": (sa.update(SLIDE_REPORTS).values(sha256="0" * 64), "edited 被修改: slide_reports"),
    "a report, deleted": (
        sa.delete(SLIDE_REPORTS).where(SLIDE_REPORTS.c.version == 2),
        "deleted 被删除: slide_reports",
    ),
    "a reading": (sa.update(SLIDES).values(reading=READING | {"triage": "negative"}), "edited 被修改: slides"),
    "a lineage": (sa.update(PROVENANCE).values(body=b'{"bundle":"0"}'), "edited 被修改: lineages"),
    "a lineage, deleted": (sa.delete(PROVENANCE), "deleted 被删除: lineages"),
    "a checkpoint": (
        sa.update(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size == 8).values(root=b"0" * 32),
        "edited 被修改: log_checkpoints 8",
    ),
    "a checkpoint, deleted": (
        sa.delete(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size == 8),
        "deleted 被删除: log_checkpoints 8",
    ),
    "a note": (
        sa.update(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size == 8).values(note="yuheng.local/log\n8\nAA==\n\n"),
        "not signed 签名不符: log_checkpoints 8",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_reported(filled, tmp_path, change):
    statement, expected = CHANGES[change]
    with altered_copy(filled, tmp_path) as connection:
        connection.execute(statement)
    lines = audit(filled, tmp_path / "store.db")
    assert any(line.startswith(expected) for line in lines), lines


def altered_copy(settings, folder: Path):
    """A transaction on a copy of the store, without foreign keys."""
    with (
        closing(sqlite3.connect(settings.paths.store)) as source,
        closing(sqlite3.connect(folder / "store.db")) as copy,
    ):
        source.backup(copy)
    engine = create_engine(f"sqlite:///{folder / 'store.db'}", 5.0)
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=OFF"))
    attach(engine, authenticator_for(settings))
    return engine.begin()


def authenticator_for(settings) -> EntryAuthenticator:
    return load_authenticator(settings.paths.entry_key, settings.log.origin)


def test_added_rows_are_reported(filled, tmp_path):
    with altered_copy(filled, tmp_path) as connection:
        row = dict(connection.execute(sa.select(DECISIONS).where(IS_THIRD)).mappings().one())
        connection.execute(sa.insert(DECISIONS).values(row | {"id": "f" * 32, "idempotency_key": None}))
        charge = dict(connection.execute(sa.select(METER).where(METER.c.leaf == 7)).mappings().one())
        connection.execute(sa.insert(METER).values(charge | {"decision": "f" * 32}))
    lines = audit(filled, tmp_path / "store.db")
    assert f"added 被添加: decisions {'f' * 32}: no log entry records it" in lines
    assert f"added 被添加: meter {'f' * 32}: no log entry records it" in lines


def test_two_swapped_decisions_are_reported(filled, tmp_path):
    with altered_copy(filled, tmp_path) as connection:
        for old, new in ((6, 99), (7, 6), (99, 7)):
            connection.execute(sa.update(DECISIONS).where(DECISIONS.c.leaf == old).values(leaf=new))
    assert sum(line.startswith("reordered") for line in audit(filled, tmp_path / "store.db")) == 2


def test_an_entry_forged_with_its_row_contradicts_a_signed_checkpoint(filled, tmp_path):
    with altered_copy(filled, tmp_path) as connection:
        body = connection.execute(sa.select(LOG_LEAVES.c.body).where(IS_THIRD_LEAF)).scalar_one()
        body = body.replace(b'"tenant":"local"', b'"tenant":"other"')
        connection.execute(
            sa.update(LOG_LEAVES).where(IS_THIRD_LEAF).values(body=body, hash=leaf_hash(body), tenant="other")
        )
        connection.execute(sa.update(DECISIONS).where(IS_THIRD).values(tenant="other"))
        connection.execute(sa.update(METER).where(METER.c.leaf == 7).values(tenant="other"))
    assert any("log_leaves, leaves 7 to 7" in line for line in audit(filled, tmp_path / "store.db"))


def test_a_log_rewritten_with_the_key_contradicts_the_checkpoint_file(filled, tmp_path):
    """An insider with the key and the store, but not the file, rewrites the log from leaf 9."""
    with altered_copy(filled, tmp_path) as connection:
        for table in (DECISIONS, METER, BATCH_CHUNKS, SLIDE_REPORTS):
            connection.execute(sa.delete(table).where(table.c.leaf >= 9))
        connection.execute(sa.delete(LOG_LEAVES).where(LOG_LEAVES.c.index >= 9))
        connection.execute(sa.delete(LOG_CHECKPOINTS).where(LOG_CHECKPOINTS.c.size > 9))
        connection.execute(sa.delete(SLIDES))
        append(connection, [make_entry("test", utc_now(), "local", str(i)) for i in range(30)])
        engine = connection.engine
    assert (
        CheckpointSigner(engine, filled.paths.log_key, filled.paths.checkpoints, "yuheng.local/log").recover()
        is not None
    )
    CheckpointSigner(engine, filled.paths.log_key, tmp_path / "other", "yuheng.local/log").checkpoint()
    lines = audit(filled, tmp_path / "store.db")
    assert any("has another root" in line for line in lines)
    assert any("log_checkpoints has it" in line for line in lines)


def test_a_removed_or_altered_line_of_the_checkpoint_file_is_reported(filled, tmp_path):
    notes = filled.paths.checkpoints.read_text().splitlines(keepends=True)
    for file_lines, expected in (
        ([*notes[:1], *notes[2:]], "deleted 被删除"),
        ([re.sub(r"\\n(\d+)\\n", r"\\n1\1\\n", notes[0], count=1), *notes[1:]], "not signed 签名不符"),
        (["?\n", *notes], "edited 被修改"),
        ([], "deleted 被删除"),
    ):
        copy = tmp_path / "checkpoints"
        copy.write_text("".join(file_lines))
        engine = create_engine(f"sqlite:///{filled.paths.store}", 5.0)
        key = load_public_key(filled.paths.log_key.with_suffix(".pub.pem").read_bytes())
        lines = [str(finding) for finding in audit_store(engine, key, copy, authenticator_for(filled)).findings]
        assert any(line.startswith(expected) for line in lines), lines
        engine.dispose()


def record_erasure(connection, settings, decision: str, **fields: object) -> None:
    """An erasure with its signed certificate and log entry, as the service writes it."""
    columns = (DECISIONS.c[name] for name in ("answer", *DECISION_FIELDS))
    answer, *record = connection.execute(sa.select(*columns).where(DECISIONS.c.id == decision)).one()
    row = {"product": "credit_limit", "pseudonym": "p", "at": utc_now()}
    certificate = row | {"certificate": "c" * 32, "decisions": {decision: retained_decision_digest(answer, record)}}
    content = orjson.dumps(certificate | fields)
    signature = load_private_key(settings.paths.log_key).sign(content)
    entry = make_entry("erasure", row["at"], "", "c" * 32, certificate_sha256=sha256_hex(content))
    leaf = append(connection, [entry])
    row |= {"id": "c" * 32, "certificate": content, "signature": signature, "leaf": leaf}
    connection.execute(sa.insert(ERASURES).values(row))


def test_an_erased_decision_is_no_finding_if_a_signed_certificate_names_it(filled, tmp_path):
    with altered_copy(filled, tmp_path) as connection:
        (decision,) = connection.execute(sa.select(DECISIONS.c.id).where(IS_THIRD)).scalars()
        record_erasure(connection, filled, decision)
        connection.execute(sa.update(DECISIONS).where(IS_THIRD).values(salt=None))
    assert audit(filled, tmp_path / "store.db") == []


EXCUSES = {
    "a certificate that another key signed": sa.update(ERASURES).values(signature=b"0" * 64),
    "a certificate that was rewritten": sa.update(ERASURES).values(certificate=b"{}"),
    "an answer that was changed after the erasure": sa.update(DECISIONS).where(IS_THIRD).values(answer=b"{}"),
    "a model that was changed after the erasure": sa.update(DECISIONS).where(IS_THIRD).values(version="9"),
    "a certificate that was deleted": sa.delete(ERASURES),
}


@pytest.mark.parametrize("change", EXCUSES)
def test_an_erasure_excuses_nothing_but_what_its_certificate_says(filled, tmp_path, change):
    with altered_copy(filled, tmp_path) as connection:
        (decision,) = connection.execute(sa.select(DECISIONS.c.id).where(IS_THIRD)).scalars()
        record_erasure(connection, filled, decision)
        connection.execute(sa.update(DECISIONS).where(IS_THIRD).values(salt=None))
        connection.execute(EXCUSES[change])
    assert any(f"decisions {decision}" in line for line in audit(filled, tmp_path / "store.db"))


def test_a_certificate_that_does_not_name_a_decision_does_not_excuse_its_missing_salt(filled, tmp_path):
    with altered_copy(filled, tmp_path) as connection:
        (decision,) = connection.execute(sa.select(DECISIONS.c.id).where(IS_THIRD)).scalars()
        record_erasure(connection, filled, decision, decisions={})
        connection.execute(sa.update(DECISIONS).where(IS_THIRD).values(salt=None))
    assert any(f"decisions {decision}: its salt is gone" in line for line in audit(filled, tmp_path / "store.db"))


def test_the_command_prints_the_findings_and_fails(filled, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from serving.__main__ import app

    names = ("store", "log_key", "entry_key")
    for name, path in ((name.upper(), getattr(filled.paths, name)) for name in names):
        monkeypatch.setenv(f"YUHENG_{name}", str(path))
    monkeypatch.setenv("YUHENG_CHECKPOINTS", str(filled.paths.checkpoints))
    untouched = CliRunner().invoke(app, ["audit", "verify"])
    assert untouched.exit_code == 0, untouched.output
    assert "nothing was altered" in untouched.output
    assert CliRunner().invoke(app, ["audit", "checkpoint"]).output.startswith("yuheng.local/log\n")
    with altered_copy(filled, tmp_path) as connection:
        connection.execute(sa.delete(DECISIONS).where(IS_THIRD))
    monkeypatch.setenv("YUHENG_STORE", str(tmp_path / "store.db"))
    altered = CliRunner().invoke(app, ["audit", "verify"])
    assert altered.exit_code == 1
    assert "deleted 被删除: decisions" in altered.output


COPIES_AND_TYPES = {
    "a batch's tenant": (sa.update(BATCHES).values(tenant="other"), "edited 被修改: batches"),
    "a batch's bundle": (sa.update(BATCHES).values(bundle="0" * 64), "edited 被修改: batches"),
    "a slide's tenant": (sa.update(SLIDES).values(tenant="other"), "edited 被修改: slides"),
    "a slide's triage": (sa.update(SLIDES).values(triage="negative", audit=False), "edited 被修改: slides"),
    "an answer, as text": ("UPDATE decisions SET answer = 'x' WHERE leaf = 7", "edited 被修改: decisions"),
    "a salt, as text": ("UPDATE decisions SET salt = 'x' WHERE leaf = 7", "edited 被修改: decisions"),
    "a leaf, as text": ("UPDATE log_leaves SET body = 'x' WHERE \"index\" = 7", "edited 被修改: log_leaves 7"),
    "a hash, as text": ("UPDATE log_leaves SET hash = 'x' WHERE \"index\" = 7", "edited 被修改: log_leaves 7"),
    "a chunk, as text": ("UPDATE batch_chunks SET content = 'x'", "edited 被修改: batch_chunks"),
    "a lineage, as text": ("UPDATE lineages SET body = 'x'", "edited 被修改: lineages"),
    "a report that is no JSON": ("UPDATE slide_reports SET body = '{'", "edited 被修改: slide_reports"),
    "a reading that is no JSON": ("UPDATE slides SET reading = '{'", "edited 被修改: slides"),
    "a price that is text": ("UPDATE meter SET fen = 'x' WHERE leaf = 7", "edited 被修改: meter"),
}


@pytest.mark.parametrize("change", COPIES_AND_TYPES)
def test_changes_to_copied_columns_and_column_types_are_reported(filled, tmp_path, change):
    statement, expected = COPIES_AND_TYPES[change]
    with altered_copy(filled, tmp_path) as connection:
        connection.execute(sa.text(statement) if isinstance(statement, str) else statement)
    lines = audit(filled, tmp_path / "store.db")
    assert any(line.startswith(expected) for line in lines), lines


@pytest.mark.parametrize("kind", ["decision", "chunk", "slide_state", "report"])
def test_an_entry_without_the_fields_of_its_kind_is_reported_and_does_not_end_the_audit(filled, tmp_path, kind):
    with altered_copy(filled, tmp_path) as connection:
        stmt = sa.select(LOG_LEAVES).where(LOG_LEAVES.c.kind == kind).order_by(LOG_LEAVES.c.index.desc())
        leaf = connection.execute(stmt.limit(1)).one()
        body = make_entry(leaf.kind, leaf.at, leaf.tenant, leaf.ref, price=1, state="ready").body
        is_leaf = LOG_LEAVES.c.index == leaf.index
        connection.execute(sa.update(LOG_LEAVES).where(is_leaf).values(body=body, hash=leaf_hash(body)))
    lines = audit(filled, tmp_path / "store.db")
    assert any(line.startswith(f"edited 被修改: log_leaves {leaf.index}") for line in lines), lines


def test_everything_but_the_salted_digests_of_an_erased_decision_is_still_compared(filled, tmp_path):
    with altered_copy(filled, tmp_path) as connection:
        (decision,) = connection.execute(sa.select(DECISIONS.c.id).where(IS_THIRD)).scalars()
        record_erasure(connection, filled, decision)
        connection.execute(sa.update(DECISIONS).where(IS_THIRD).values(salt=None, tenant="other"))
    assert [line for line in audit(filled, tmp_path / "store.db") if f"decisions {decision}: tenant" in line]


def test_a_version_of_the_price_list_whose_rules_were_changed_is_reported(filled, tmp_path):
    with altered_copy(filled, tmp_path) as connection:
        is_decision = LOG_LEAVES.c.kind == "decision"
        stmt = sa.select(LOG_LEAVES.c.index, LOG_LEAVES.c.body).where(is_decision).order_by(LOG_LEAVES.c.index)
        first_index, content = connection.execute(stmt.limit(1)).one()
        body = orjson.loads(content)
        index = connection.execute(sa.select(sa.func.max(LOG_LEAVES.c.index))).scalar_one() + 1
        fields = {name: value for name, value in body.items() if name not in ("kind", "at", "tenant", "ref")}
        fields["price"] |= {"sha256": "0" * 64}
        append(connection, [make_entry("decision", utc_now(), "local", "e" * 32, **fields)])
    lines = audit(filled, tmp_path / "store.db")
    expected = f"log entry {index} was charged by other rules than entry {first_index}, under the same version"
    assert f"edited 被修改: prices {body['price']['rules']}: {expected}" in lines
