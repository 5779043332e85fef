"""Whatever is killed, held or altered: no answer without its whole record, no charge twice, and the audit says so."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.verify import load_public_key
from serving.core.db.engine import create_engine
from serving.core.db.schema import DECISIONS, LOG_LEAVES, METER
from tests.serving.conftest import ROOT, environment, locked_store, recorded, rows, run_inside, settings_for

URL = "/v1/credit-limits"

# A process that answers without end and tells each answer once it has it, as a caller would hold it.
ANSWERING = """
import asyncio, sys
from serving.core.http.metrics import Metrics
from serving.decisions.products.base import products
from serving.decisions.service import DecisionService
from serving.settings import load_settings

async def main():
    service, product = DecisionService(load_settings(), Metrics()), products()["credit_limit"]
    service.start()
    body, turn = open(sys.argv[1], "rb").read(), sys.argv[2]

    async def caller(name):
        for i in range(10**6):
            key = f"{turn}-{name}-{i // 2}"  # each key twice: the second is the first one's answer
            answer = await service.decide(product, body, key)
            sys.stdout.buffer.write(key.encode() + b" " + answer.body + b"\\n")
            sys.stdout.buffer.flush()

    await asyncio.gather(*(caller(i) for i in range(8)))

asyncio.run(main())
"""


def killed(environ: dict[str, str], body: Path, turn: int, seconds: float) -> list[tuple[str, bytes]]:
    """(key, answer) of all that came out before `kill -9`, which falls `seconds` after the first."""
    command = [sys.executable, "-c", ANSWERING, str(body), str(turn)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first_lines = [process.stdout.readline()]
        assert first_lines[0], "it answered nothing"
        timer = time.monotonic() + seconds
        os.set_blocking(process.stdout.fileno(), False)
        rest = b""
        while time.monotonic() < timer:
            rest += process.stdout.read() or b""
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.set_blocking(process.stdout.fileno(), True)
        rest += process.stdout.read()
    complete_lines = (first_lines[0] + rest).split(b"\n")[:-1]  # the last line may be half
    return [(key.decode(), answer) for key, _, answer in (line.partition(b" ") for line in complete_lines)]


@pytest.mark.parametrize("points", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_any_point_no_answer_lacks_its_record_and_none_is_charged_twice(
    points, bundles, made, applicant, tmp_path
):
    environ = environment(bundles, made, tmp_path) | {"YUHENG_LOG_CHECKPOINT_INTERVAL_SECONDS": "0.02"}
    body = tmp_path / "body.json"
    body.write_bytes(orjson.dumps({"indicators": applicant, "raises": False}))
    rng, answers = random.Random(7), {}
    for turn in range(points):
        for key, answer in killed(environ, body, turn, rng.uniform(0.0, 0.12)):
            assert answers.setdefault(key, answer) == answer, "one key, one answer"
    where = settings_for(bundles, made, tmp_path)
    stored = {key: answer for key, answer in rows(where, sa.select(DECISIONS.c.idempotency_key, DECISIONS.c.answer))}
    assert {key: stored.get(key) for key in answers} == answers, "an answer without its record"
    charged = [decision for (decision,) in rows(where, sa.select(METER.c.decision))]
    assert len(charged) == len(set(charged)) == len(stored)
    assert len(answers) > points
    assert altered(where) == []


def altered(where) -> list[str]:
    engine = create_engine(where.store.url or f"sqlite:///{where.paths.store}", 5.0)
    key = load_public_key(where.paths.log_key.with_suffix(".pub.pem").read_bytes())
    findings = [str(finding) for finding in audit_store(engine, key, where.paths.checkpoints).findings]
    engine.dispose()
    return findings


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_while_the_store_is_down_all_is_refused_at_once_and_after_it_all_is_answered(settings, applicant, seconds):
    async def story(client, gateway):
        sent = {"json": {"indicators": applicant}}
        assert (await client.post(URL, **sent)).status_code == 200
        slowest, until = 0.0, time.monotonic() + seconds
        with locked_store(settings):
            while time.monotonic() < until:
                began = time.monotonic()
                refused = await client.post(URL, **sent)
                slowest = max(slowest, time.monotonic() - began)
                assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store_locked")
        assert slowest < settings.store.lock_timeout_seconds + 2.0
        began = time.monotonic()
        while (await client.post(URL, **sent)).status_code != 200:
            assert time.monotonic() - began < 10
        gateway.service.store.checkpoint_signer.checkpoint()

    run_inside(settings, story)
    assert recorded(settings) == 2
    assert altered(settings) == []


def test_a_hundred_duplicates_at_once_are_one_decision_one_charge_one_leaf(settings, applicant):
    async def story(client, gateway):
        sent = {"json": {"indicators": applicant}, "headers": {"Idempotency-Key": "once"}}
        responses = await asyncio.gather(*(client.post(URL, **sent) for _ in range(100)))
        assert {response.status_code for response in responses} == {200}
        assert len({response.content for response in responses}) == 1

    run_inside(settings, story)
    assert recorded(settings) == 1
    assert len(rows(settings, sa.select(METER.c.decision))) == 1
    assert len(rows(settings, sa.select(LOG_LEAVES.c.index).where(LOG_LEAVES.c.kind == "decision"))) == 1


@pytest.mark.parametrize("table", ["decisions", "log_leaves", "meter"])
def test_one_flipped_bit_is_found(settings, applicant, table):
    if settings.store.url:
        pytest.skip("the bytes of a SQLite file")

    async def story(client, gateway):
        for _ in range(3):
            await client.post(URL, json={"indicators": applicant})
        gateway.service.store.checkpoint_signer.checkpoint()

    run_inside(settings, story)
    column = {"decisions": "answer", "log_leaves": "body", "meter": "decision"}[table]
    leaf_column = "leaf" if table != "log_leaves" else '"index"'
    with sqlite3.connect(settings.paths.store) as connection:
        (content,) = connection.execute(f"SELECT {column} FROM {table} WHERE {leaf_column} = 6").fetchone()
        flipped = bytearray(content.encode() if isinstance(content, str) else content)
        flipped[random.Random(3).randrange(len(flipped))] ^= 1
        value = flipped.decode() if isinstance(content, str) else bytes(flipped)
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {leaf_column} = 6", (value,))
    assert any(table in finding for finding in altered(settings))
