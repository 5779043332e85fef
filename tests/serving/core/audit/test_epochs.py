"""A log that was rolled back stops the service, until an operator starts a new epoch that names the old one."""

from __future__ import annotations

import shutil

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from serving.__main__ import app
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import load_authenticator
from serving.core.audit.verify import load_public_key
from serving.core.db.schema import EVENTS, LOG_CHECKPOINTS, LOG_LEAVES
from tests.serving.conftest import Inside, environment, rows, run_inside
from tests.serving.core.audit.test_forgery import ask, next_signing, store_of

URL = "/v1/credit-limits"


def audit(settings, checkpoints=None):
    engine = store_of(settings)
    key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    report = audit_store(engine, key, checkpoints or settings.paths.checkpoints, authenticator)
    engine.dispose()
    return report


def answer_some(settings, applicant, count: int) -> None:
    async def story(client, gateway):
        for _ in range(count):
            await ask(client, applicant)
        gateway.service.store.checkpoint_signer.checkpoint()

    run_inside(settings, story)


@pytest.fixture
def rolled_back(bundles, made, settings, applicant, tmp_path, monkeypatch):
    """The settings of a service whose store was put back to an earlier day."""
    if settings.store.url:
        pytest.skip("the backup is a copy of the file")
    for name, value in environment(bundles, made, tmp_path).items():
        monkeypatch.setenv(name, value)
    answer_some(settings, applicant, 2)
    shutil.copy(settings.paths.store, tmp_path / "backup.db")
    answer_some(settings, applicant, 3)
    for suffix in ("", "-wal", "-shm"):
        settings.paths.store.with_name(settings.paths.store.name + suffix).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", settings.paths.store)
    return settings


def test_a_store_that_was_put_back_answers_nothing_and_writes_nothing(rolled_back, applicant):
    """The service answered, charged and signed on over the broken log, with one alarm."""
    before = rows(rolled_back, sa.select(LOG_LEAVES.c.index))

    async def story(client, gateway):
        answer = await client.post(URL, json={"indicators": applicant})
        ready = await client.get("/healthz/ready")
        return answer, ready, gateway.service.store.log_alarm

    answer, ready, alarm = run_inside(rolled_back, story)
    assert (answer.status_code, ready.status_code) == (503, 503)
    assert "audit new-epoch" in answer.text
    assert "were signed at" in alarm
    assert rows(rolled_back, sa.select(LOG_LEAVES.c.index)) == before
    refused = CliRunner().invoke(app, ["erase", "--subject", "H-1", "--yes"])
    assert (refused.exit_code, "does not continue" in refused.stderr) == (1, True), refused.output


def test_a_new_epoch_names_the_old_one_and_the_service_goes_on(rolled_back, applicant, tmp_path):
    [old_size] = [max(size for (size,) in rows(rolled_back, sa.select(LOG_CHECKPOINTS.c.size)))]
    last_note = rolled_back.paths.checkpoints.read_text().splitlines()[-1]
    shutil.copy(rolled_back.paths.checkpoints, tmp_path / "kept")
    runner = CliRunner()
    result = runner.invoke(app, ["audit", "new-epoch", "--reason", "the disk was lost, 磁盘损坏"])
    assert result.exit_code == 0, result.output
    answer_some(rolled_back, applicant, 2)

    report = audit(rolled_back)
    assert [str(finding) for finding in report.findings] == []
    [(_, epoch)] = report.epochs
    assert epoch["previous"]["size"] > old_size
    assert epoch["previous"]["root"] != ""
    [event] = rows(rolled_back, sa.select(EVENTS).where(EVENTS.c.kind == "epoch"))
    assert (event.about, event.reason) == (epoch["ref"], "the disk was lost, 磁盘损坏")
    [earlier_file] = rolled_back.paths.checkpoints.parent.glob("checkpoints.*")
    assert earlier_file.read_text().splitlines()[-1] == last_note, "nothing that was signed is thrown away"
    copy_report = audit(rolled_back, tmp_path / "kept")
    assert any("rolled back" in str(finding) or "another root" in str(finding) for finding in copy_report.findings)
    verified = runner.invoke(app, ["audit", "verify"])
    assert (verified.exit_code, "epoch 纪元" in verified.stdout) == (0, True), verified.output
    again = runner.invoke(app, ["audit", "new-epoch", "--reason", "again"])
    assert (again.exit_code, "nothing to accept" in again.stderr) == (1, True), again.output


def test_a_log_whose_entries_were_changed_is_not_accepted_by_a_new_epoch(rolled_back):
    engine = store_of(rolled_back)
    with engine.begin() as connection:
        connection.execute(sa.update(LOG_LEAVES).where(LOG_LEAVES.c.index == 3).values(tag=b"x" * 32))
    engine.dispose()
    result = CliRunner().invoke(app, ["audit", "new-epoch", "--reason", "restored"])
    assert (result.exit_code, "log entry 3 was not written by this service" in result.stderr) == (1, True), (
        result.output
    )


def test_a_log_that_loses_what_was_signed_while_the_service_runs_stops_it_until_it_is_back(settings, applicant):
    settings = settings.model_copy(update={"log": settings.log.model_copy(update={"checkpoint_interval_seconds": 0.1})})

    async def story(client, gateway):
        await ask(client, applicant)
        await next_signing(gateway)
        engine, is_newest = store_of(settings), LOG_CHECKPOINTS.c.size == newest(settings)
        with engine.begin() as connection:
            row = dict(connection.execute(sa.select(LOG_CHECKPOINTS).where(is_newest)).mappings().one())
            connection.execute(sa.delete(LOG_CHECKPOINTS).where(is_newest))
        await ask(client, applicant)  # so that there is something to sign
        await next_signing(gateway)
        stopped = await client.post(URL, json={"indicators": applicant})
        metrics = await client.get("/metrics")
        with engine.begin() as connection:
            connection.execute(sa.insert(LOG_CHECKPOINTS).values(row))
        engine.dispose()
        await next_signing(gateway)
        return stopped.status_code, metrics.status_code, (await ask(client, applicant))["decision"] is not None

    with Inside(settings) as running:
        assert running.run(story) == (503, 200, True)


def newest(settings) -> int:
    return max(size for (size,) in rows(settings, sa.select(LOG_CHECKPOINTS.c.size)))
