"""An answer's receipt proves it by the log's public key alone, and proves nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.audit import verify
from serving.core.audit.receipts import render_text
from serving.core.audit.verify import ReceiptVerifier, VerificationError, load_public_key, parse_receipt
from serving.core.billing.prices import Prices
from serving.core.db.schema import DECISIONS, LOG_CHECKPOINTS, LOG_LEAVES, METER
from tests.paths import ROOT
from tests.serving.conftest import rows, run_inside

URL = "/v1/credit-limits"


@pytest.fixture(scope="module")
def proved(inside, applicant, tmp_path_factory):
    """(receipt, answer, request, public key) of one among several decisions."""

    async def story(client: httpx.AsyncClient, gateway):
        requests = [orjson.dumps({"indicators": applicant | {"age": 40 + i}}) for i in range(5)]
        sent = {"headers": {"Content-Type": "application/json"}}
        answers = [(await client.post(URL, content=request, **sent)).content for request in requests]
        decision = json.loads(answers[2])["decision_id"]
        receipt = (await client.get(f"/v1/decisions/{decision}/receipt")).json()
        key = gateway.settings.paths.log_key.with_suffix(".pub.pem").read_bytes()
        return receipt, answers[2], requests[2], key

    return inside(story)


def test_a_receipt_proves_answer_request_model_run_data_policy_and_price(proved):
    receipt, answer, request, key = proved
    ReceiptVerifier(load_public_key(key)).verify(receipt, answer, request)
    payload = json.loads(answer)
    leaf, lineage = receipt["leaf"], receipt["lineage"]
    assert leaf["ref"] == payload["decision_id"]
    assert leaf["at"] == payload["created"]
    assert leaf["bundle"] == lineage["bundle"] == payload["model"]["bundle"]
    assert leaf["policy"] == payload["policy_version"]
    digest = Prices.load(ROOT / "configs/prices.toml").digests["2026-11"]
    assert leaf["price"] == {"rules": "2026-11", "rule": "free", "fen": 0, "units": 1, "sha256": digest}
    assert {"run_id", "git_commit", "data", "policy_sha256"} <= set(lineage)


def test_another_answer_or_request_is_not_proved(proved):
    receipt, answer, request, key = proved
    verifier = ReceiptVerifier(load_public_key(key))
    with pytest.raises(VerificationError, match="answer"):
        verifier.verify(receipt, answer.replace(b'"approve"', b'"refer"').replace(b"1", b"2", 1))
    payload = json.loads(request)
    payload["indicators"]["age"] += 1
    with pytest.raises(VerificationError, match="indicators differs"):
        verifier.verify(receipt, answer, json.dumps(payload).encode())


WISHES = {"moral_data_consent": False, "person": False}


@pytest.fixture(scope="module")
def with_wishes(inside, applicant):
    """(receipt, answer, request, the log's public key) of a request that refuses the use of conduct."""

    async def story(client, gateway):
        request = {"indicators": applicant, **WISHES}
        answer = await client.post(URL, json=request)
        assert answer.status_code == 200, answer.text
        receipt = (await client.get(f"/v1/decisions/{answer.json()['decision_id']}/receipt")).json()
        return receipt, answer.content, request, gateway.settings.paths.log_key.with_suffix(".pub.pem").read_bytes()

    return inside(story)


@pytest.mark.parametrize(
    "turned",
    [
        {"moral_data_consent": True},
        {"person": True},
        {"person": None},
        {"model": "another"},
        {"moral_data_consent": ...},
        {"indicators": ...},
        {"subject_id": "H-1"},
    ],
    ids=str,
)
def test_no_wish_of_a_request_can_be_turned_round_added_or_left_out(with_wishes, turned):
    receipt, answer, request, key = with_wishes
    verifier = ReceiptVerifier(load_public_key(key))
    verifier.verify(receipt, answer, orjson.dumps(request))
    changed = {name: value for name, value in (request | turned).items() if value is not ...}
    with pytest.raises(VerificationError, match=next(iter(turned))):
        verifier.verify(receipt, answer, orjson.dumps(changed))


@settings(max_examples=150)
@given(data=st.data())
def test_no_receipt_that_was_altered_is_proved(proved, data):
    receipt, answer, _, key = proved
    text = bytearray(orjson.dumps(receipt))
    position, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 7))
    text[position] ^= 1 << bit
    try:
        changed = parse_receipt(bytes(text))
    except VerificationError:
        return
    if changed == receipt:  # a blank, or an upper case of a hex digit
        return
    try:
        ReceiptVerifier(load_public_key(key)).verify(changed, answer)
    except VerificationError:
        return
    same = {**changed, "salt": changed["salt"].lower(), "proof": [item.lower() for item in changed["proof"]]}
    assert same == receipt


def test_the_printed_receipt_is_the_receipt(proved):
    receipt, answer, _, key = proved
    paper = render_text(receipt)
    assert receipt["leaf"]["ref"] in paper
    assert max(map(len, paper.splitlines())) <= 120
    ReceiptVerifier(load_public_key(key)).verify(parse_receipt(paper.encode()), answer)


def test_an_auditor_needs_one_file_and_the_public_key(proved, tmp_path):
    receipt, answer, _, key = proved
    files = {"verify.py": Path(verify.__file__).read_bytes(), "log.pub.pem": key, "answer.json": answer}
    for name, content in (files | {"receipt.json": orjson.dumps(receipt)}).items():
        (tmp_path / name).write_bytes(content)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "verify.py", "log.pub.pem", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    fine = run("receipt.json", "answer.json")
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "genuine" in fine.stdout
    (tmp_path / "answer.json").write_bytes(answer + b" ")
    assert run("receipt.json", "answer.json").returncode == 1


def test_one_transaction_leaves_decision_leaf_and_meter_line(settings, applicant):
    async def story(client, gateway):
        for i in range(3):
            sent = {"json": {"indicators": applicant}, "headers": {"Idempotency-Key": f"k{i % 2}"}}
            assert (await client.post(URL, **sent)).status_code == 200

    run_inside(settings, story)
    made = rows(settings, sa.select(DECISIONS.c.id, DECISIONS.c.leaf).order_by(DECISIONS.c.leaf))
    assert len(made) == 2
    assert rows(settings, sa.select(METER.c.decision, METER.c.leaf).order_by(METER.c.leaf)) == made
    leaves = sa.select(LOG_LEAVES.c.ref, LOG_LEAVES.c.index).where(LOG_LEAVES.c.kind == "decision")
    assert rows(settings, leaves.order_by(LOG_LEAVES.c.index)) == made


def test_a_leaf_names_no_subject_and_no_value(settings, applicant):
    async def story(client, gateway):
        await client.post(URL, json={"indicators": applicant}, headers={"Idempotency-Key": "household-77"})

    run_inside(settings, story)
    (body,) = rows(settings, sa.select(LOG_LEAVES.c.body).where(LOG_LEAVES.c.kind == "decision"))[0]
    assert b"household-77" not in body
    assert not any(f'"{name}"'.encode() in body for name in applicant)


def test_checkpoints_come_by_themselves_while_there_is_something_new(bundles, made, tmp_path, applicant):
    import asyncio

    from tests.serving.conftest import settings_for

    quick = settings_for(bundles, made, tmp_path, YUHENG_LOG_CHECKPOINT_INTERVAL_SECONDS="0.05")

    async def story(client, gateway):
        await client.post(URL, json={"indicators": applicant})
        async with asyncio.timeout(20):  # the service still runs: none of them is its last one, made as it stops
            while signed()[-1:] != [log_size()]:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)

    def signed():
        return [size for (size,) in rows(quick, sa.select(LOG_CHECKPOINTS.c.size).order_by(LOG_CHECKPOINTS.c.size))]

    def log_size():
        [(last_index,)] = rows(quick, sa.select(sa.func.max(LOG_LEAVES.c.index)))
        return last_index + 1

    run_inside(quick, story)
    assert signed()[-1] == log_size()
    assert len(signed()) <= log_size()
    assert len(quick.paths.checkpoints.read_text().splitlines()) == len(signed())


def test_of_a_decision_that_never_was_there_is_no_receipt(inside):
    async def story(client, gateway):
        for decision_id in ("f" * 32, "nothing", "f" * 32 + "-3"):
            response = await client.get(f"/v1/decisions/{decision_id}/receipt")
            assert (response.status_code, response.json()["type"]) == (404, "/problems/unknown_receipt")

    inside(story)


BATCH = b"declared_income,insured_months,household\n50000,12,house-1\n-4,12,house-2\n70000,24,house-3\n"
BATCH += b"80000,24,house-4\n10,1,house-5\n"


def test_a_row_of_a_batch_is_proved_by_two_proofs_without_its_neighbours(settings):
    async def story(client, gateway):
        sent = {"content": BATCH, "headers": {"Content-Type": "text/csv"}}
        batch = (await client.post(URL + "/batch?keep=household", **sent)).headers["batch-id"]
        proofs = []
        for row in range(1, 6):
            answer = await client.get(f"/v1/decisions/{batch}-{row}")
            receipt = (await client.get(f"/v1/decisions/{batch}-{row}/receipt")).json()
            proofs.append((receipt, answer.content))
        assert (await client.get(f"/v1/decisions/{batch}-6/receipt")).status_code == 404
        return proofs

    proofs = run_inside(settings, story)
    verifier = ReceiptVerifier(load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes()))
    for i, (receipt, answer) in enumerate(proofs):
        verifier.verify(receipt, answer)
        assert receipt["leaf"]["price"]["units"] == receipt["leaf"]["answered"] == 4
        text = json.dumps(receipt)
        assert not any(f"house-{j}" in text for j in range(1, 6))
        with pytest.raises(VerificationError):
            verifier.verify(receipt, proofs[i - 1][1])
        moved = receipt | {"row": receipt["row"] | {"row": receipt["row"]["row"] % 5 + 1}}
        with pytest.raises(VerificationError):
            verifier.verify(moved)
    (line,) = rows(settings, sa.select(METER.c.units, METER.c.decision))
    assert line == (4, proofs[0][0]["leaf"]["ref"])


def test_a_row_is_written_thus():
    """The bytes that a receipt proves: an upgrade of polars may not change them."""
    import polars as pl

    from serving.core.db.codec import row_json

    frame = pl.DataFrame(
        {
            **{"row": [1], "decision_id": ["b-1"], "decision": ["refer"], "limit": [30000.0], "pd": [1.5e-7]},
            **{"score": [612.25], "reasons": ['["é\\"\\n行"]'], "error": pl.Series([None], dtype=pl.String)},
            **{"model": ["m"], "version": ["1"], "bundle": ["f"], "policy_version": ["p"], "simulated": [True]},
        }
    )
    assert row_json(frame, "b") == [
        '{"decision_id":"b-1","batch_id":"b","row":1,"decision":"refer","limit":30000.0,"pd":1.5e-7,"score":612.25,'
        '"reasons":"[\\"é\\\\\\"\\\\n行\\"]","error":null,"policy_version":"p","simulated":true,'
        '"model":{"name":"m","version":"1","bundle":"f"}}'.encode()
    ]
