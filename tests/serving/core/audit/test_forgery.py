"""Whoever can write to the database alone, without a key, is found: by the audit, and before a checkpoint is signed."""

from __future__ import annotations

import asyncio
import hashlib

import orjson
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import load_authenticator
from serving.core.audit.verify import leaf_hash, load_public_key
from serving.core.db.engine import create_engine
from serving.core.db.schema import DECISIONS, LOG_CHECKPOINTS, LOG_LEAVES, METER
from tests.serving.conftest import Inside

URL = "/v1/credit-limits"


def store_of(settings) -> sa.Engine:
    return create_engine(settings.store.url or f"sqlite:///{settings.paths.store}", 5.0)


def audit(settings) -> list[str]:
    engine = store_of(settings)
    key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    report = audit_store(engine, key, settings.paths.checkpoints, authenticator)
    engine.dispose()
    return [str(finding) for finding in report.findings]


def forge(
    connection: sa.Connection, kind: str, timestamp: str, tenant: str, ref: str, tag=None, **fields: object
) -> int:
    """Append an entry with everything that can be computed without a key."""
    index = connection.execute(sa.select(sa.func.max(LOG_LEAVES.c.index))).scalar_one() + 1
    parsed = {"kind": kind, "at": timestamp, "tenant": tenant, "ref": ref, **fields}
    body = orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS)
    row = {"index": index, "kind": kind, "at": timestamp, "tenant": tenant, "ref": ref}
    connection.execute(sa.insert(LOG_LEAVES).values(**row, body=body, hash=leaf_hash(body), tag=tag))
    return index


def signed_size(gateway) -> int:
    checkpoint = gateway.service.store.checkpoint_signer.latest()
    return 0 if checkpoint is None else checkpoint.size


async def ask(client, applicant) -> dict:
    answer = await client.post(URL, json={"indicators": applicant})
    assert answer.status_code == 200
    return answer.json()


async def next_signing(gateway) -> None:
    """Wait until the loop that signs has run from beginning to end."""
    for _ in range(2):  # the first may have begun before
        gateway.service.store._signing_alarm = before = "not run yet"
        for _ in range(200):
            await asyncio.sleep(0.05)
            if gateway.service.store._signing_alarm != before:
                break
        else:
            raise AssertionError("the loop that signs checkpoints does not run")


def test_a_limit_raised_under_a_forged_erasure_is_found_and_never_signed(settings, applicant):
    """One entry of an erasure without a certificate excused a missing salt, and with it any edit."""
    settings = settings.model_copy(update={"log": settings.log.model_copy(update={"checkpoint_interval_seconds": 0.1})})

    async def story(client, gateway):
        decision = (await ask(client, applicant))["decision_id"]
        await next_signing(gateway)
        size, engine = signed_size(gateway), store_of(settings)
        with engine.begin() as connection:
            is_decision = DECISIONS.c.id == decision
            answer = connection.execute(sa.select(DECISIONS.c.answer).where(is_decision)).scalar_one()
            forged = orjson.dumps(orjson.loads(answer) | {"decision": "approve", "limit": 5_000_000})
            connection.execute(sa.update(DECISIONS).where(is_decision).values(answer=forged, salt=None))
            timestamp = orjson.loads(answer)["created"]
            forge(connection, "erasure", timestamp, "", "f" * 32, certificate_sha256="0" * 64, decisions=[decision])
        engine.dispose()
        await next_signing(gateway)
        alarms = (await client.get("/v1/alarms")).json()["alarms"]
        return decision, size, signed_size(gateway), [alarm["why"] for alarm in alarms if alarm["name"] == "log"]

    with Inside(settings) as running:
        decision, size, size_afterwards, alarms = running.run(story)
    assert size_afterwards == size
    assert alarms == ["no checkpoint can be signed: log entry 6 was not written by this service, or was changed"]
    findings = audit(settings)
    assert any(f"decisions {decision}: its salt is gone, and no certificate" in line for line in findings), findings
    assert any("not signed 签名不符: log_leaves 6" in line for line in findings), findings


def test_a_decision_that_was_never_made_gets_no_checkpoint_and_no_receipt(settings, applicant):
    """A complete copy of a decision with entry and charge, dated three months back."""
    settings = settings.model_copy(update={"log": settings.log.model_copy(update={"checkpoint_interval_seconds": 0.1})})

    async def story(client, gateway):
        decision = (await ask(client, applicant))["decision_id"]
        await next_signing(gateway)
        engine, fake, timestamp, salt = (
            store_of(settings),
            "0198a0000000" + "ab" * 10,
            "2026-08-01T09:00:00.000Z",
            b"s" * 16,
        )
        with engine.begin() as connection:
            row = dict(connection.execute(sa.select(DECISIONS).where(DECISIONS.c.id == decision)).mappings().one())
            charge = dict(connection.execute(sa.select(METER).where(METER.c.decision == decision)).mappings().one())
            stmt = sa.select(LOG_LEAVES.c.body, LOG_LEAVES.c.tag).where(LOG_LEAVES.c.index == row["leaf"])
            body, tag = connection.execute(stmt).one()
            answer = orjson.dumps(orjson.loads(row["answer"]) | {"decision_id": fake, "created": timestamp})
            fields = orjson.loads(body) | {"answer": hashlib.sha256(salt + answer).hexdigest()}
            for name in ("kind", "at", "tenant", "ref"):
                fields.pop(name)
            leaf = forge(connection, "decision", timestamp, row["tenant"], fake, tag=tag, **fields)
            fake_row = row | {"id": fake, "answer": answer, "salt": salt, "created": timestamp, "leaf": leaf}
            connection.execute(sa.insert(DECISIONS).values(fake_row))
            connection.execute(sa.insert(METER).values(charge | {"decision": fake, "at": timestamp, "leaf": leaf}))
        engine.dispose()
        await next_signing(gateway)
        return (
            leaf,
            await client.get(f"/v1/decisions/{fake}/receipt"),
            await client.get(f"/v1/decisions/{decision}/receipt"),
        )

    with Inside(settings) as running:
        leaf, fake_receipt, receipt = running.run(story)
    assert (fake_receipt.status_code, receipt.status_code) == (503, 200)
    findings = audit(settings)
    assert any(f"not signed 签名不符: log_leaves {leaf}" in line for line in findings), findings
    assert any(f"backdated 时间不符: log_leaves {leaf}" in line for line in findings), findings


def test_an_entry_that_was_away_for_a_moment_does_not_end_the_signing_of_checkpoints(settings, applicant):
    """A missing entry ended the loop that signs, unseen, and what was rewritten later was never found."""
    settings = settings.model_copy(update={"log": settings.log.model_copy(update={"checkpoint_interval_seconds": 0.1})})

    async def story(client, gateway):
        for _ in range(4):
            await ask(client, applicant)
        await next_signing(gateway)
        engine, is_second = store_of(settings), LOG_LEAVES.c.index == 2
        with engine.begin() as connection:
            row = dict(connection.execute(sa.select(LOG_LEAVES).where(is_second)).mappings().one())
            connection.execute(sa.delete(LOG_LEAVES).where(is_second))
        last = await ask(client, applicant)
        await next_signing(gateway)
        alarm = gateway.service.store.log_alarm
        with engine.begin() as connection:
            connection.execute(sa.insert(LOG_LEAVES).values(row))
        await next_signing(gateway)
        size, alarm_afterwards = signed_size(gateway), gateway.service.store.log_alarm
        with engine.begin() as connection:  # an answer and its entry together
            is_decision = DECISIONS.c.id == last["decision_id"]
            stmt = sa.select(DECISIONS.c.answer, DECISIONS.c.salt, DECISIONS.c.leaf).where(is_decision)
            answer, salt, leaf = connection.execute(stmt).one()
            forged = orjson.dumps(orjson.loads(answer) | {"limit": 4_000_000})
            is_leaf = LOG_LEAVES.c.index == leaf
            body = orjson.loads(connection.execute(sa.select(LOG_LEAVES.c.body).where(is_leaf)).scalar_one())
            body = orjson.dumps(
                body | {"answer": hashlib.sha256(salt + forged).hexdigest()}, option=orjson.OPT_SORT_KEYS
            )
            connection.execute(sa.update(DECISIONS).where(is_decision).values(answer=forged))
            connection.execute(sa.update(LOG_LEAVES).where(is_leaf).values(body=body, hash=leaf_hash(body)))
        engine.dispose()
        return alarm, alarm_afterwards, size, leaf

    with Inside(settings) as running:
        alarm, alarm_afterwards, size, leaf = running.run(story)
    assert "the log has no leaf 2" in alarm
    assert (alarm_afterwards, size) == (None, 10)
    findings = audit(settings)
    assert any(f"not signed 签名不符: log_leaves {leaf}" in line for line in findings), findings
    assert any("has another root" in line for line in findings), findings


def test_the_newest_decision_deleted_before_it_is_signed_is_missed_by_the_service(settings, applicant):
    async def story(client, gateway):
        await ask(client, applicant)
        decision = await ask(client, applicant)
        engine = store_of(settings)
        with engine.begin() as connection:
            for table, column in ((DECISIONS, DECISIONS.c.id), (METER, METER.c.decision)):
                connection.execute(sa.delete(table).where(column == decision["decision_id"]))
            connection.execute(sa.delete(LOG_LEAVES).where(LOG_LEAVES.c.ref == decision["decision_id"]))
            connection.execute(sa.delete(LOG_CHECKPOINTS))
        engine.dispose()
        return gateway.service.store.checkpoint_signer

    settings = settings.model_copy(update={"log": settings.log.model_copy(update={"checkpoint_interval_seconds": 99})})
    with Inside(settings) as running:
        signer = running.run(story)
        try:
            signer.checkpoint()
        except Exception as error:
            message = str(error)
    assert message == "the log has 6 entries; this service wrote 7"
