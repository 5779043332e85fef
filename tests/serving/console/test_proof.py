"""The console's verifier of receipts proves what serving/core/audit/verify.py proves, and nothing else."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.audit import receipts, verify
from serving.core.audit.checkpoints import sign_checkpoint
from serving.core.audit.verify import ReceiptVerifier, VerificationError, load_public_key, parse_receipt
from serving.core.billing.prices import Prices
from serving.pathology.slides import store as slide_store
from tests.paths import ROOT
from tests.serving.core.audit.auditor.test_auditor import READING, STATES

WEB = ROOT / "serving/console/web"
ROLLDOWN = WEB / "node_modules/.bin/rolldown"
URL = "/v1/credit-limits"
PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Console:
    """The built modules in one process of node."""

    def __init__(self, folder: Path):
        sources = [f"src/proof/{name}.ts" for name in ("receipt", "checkpoint", "json", "summary")]
        command = [ROLLDOWN, *sources, "--dir", folder, "--format", "esm"]
        subprocess.run(command, cwd=WEB, check=True, capture_output=True)
        (folder / "package.json").write_text('{"type": "module"}')
        node = ["node", Path(__file__).with_name("proof.mjs"), folder]
        self.process = subprocess.Popen(node, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, action: str, **params: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": action, **params}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def verdict(
        self,
        pem: bytes,
        receipt: bytes,
        answer: bytes | None = None,
        request: bytes | None = None,
        id: str | None = None,
    ) -> Any:
        encoded = {name: None if content is None else base64.b64encode(content).decode()
                for name, content in (("receipt", receipt), ("answer", answer), ("request", request))}  # fmt: skip
        return self.ask("verify", pem=pem.decode(), id=id, **encoded)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    if shutil.which("node") is None or not ROLLDOWN.exists():
        pytest.skip("node or the console's packages are not installed: make console")
    console = Console(tmp_path_factory.mktemp("proof"))
    yield console
    console.process.kill()
    console.process.wait()


@pytest.fixture(scope="module")
def proved(inside, applicant):
    """(receipt, answer, request or none) of a decision, a batch's row and a slide's reading; the log's public key."""

    async def story(client, gateway):
        request_body = orjson.dumps({"indicators": applicant | {"age": 41, "declared_income": 0.00001}})
        options = {"headers": {"Content-Type": "application/json"}}
        for _ in range(5):
            answer = (await client.post(URL, content=request_body, **options)).content
        single = json.loads(answer)["decision_id"]
        options = {"content": b"declared_income\n5\n6\n7\n8\n9\n", "headers": {"Content-Type": "text/csv"}}
        batch = (await client.post(URL + "/batch", **options)).headers["batch-id"]
        row = (await client.get(f"/v1/decisions/{batch}-4")).content
        engine, reading = (
            gateway.service.store.engine,
            READING | {"name": "癌 \U0001f52c \x7f", "tiny": [1e-7, 1e22, 5.0, 0.1]},
        )
        slide_store.create(engine, "5" * 32)
        for state in STATES:
            slide_store.transition(engine, "5" * 32, state)
        prices = Prices.load(gateway.settings.paths.prices)
        slide_store.transition(engine, "5" * 32, "ready", reading=reading, prices=prices)
        evidence = [(single, answer, request_body), (f"{batch}-4", row, None), ("5" * 32, orjson.dumps(reading), None)]
        key = gateway.settings.paths.log_key.with_suffix(".pub.pem").read_bytes()
        return [((await client.get(f"/v1/decisions/{id}/receipt")).json(), *rest) for id, *rest in evidence], key

    return inside(story)


def by_python(pem: bytes, receipt: bytes, answer: bytes | None, request: bytes | None) -> bool:
    try:
        ReceiptVerifier(load_public_key(pem)).verify(parse_receipt(receipt), answer, request)
    except VerificationError:
        return False
    return True


def test_every_kind_of_receipt_is_proved_step_by_step(console, proved):
    cases, key = proved
    der = base64.b64decode("".join(key.decode().splitlines()[1:-1]))
    for receipt, answer, request in cases:
        verdict = console.verdict(key, orjson.dumps(receipt), answer, request)
        assert verdict["proved"], verdict
        assert verdict["fingerprint"] == hashlib.sha256(der).hexdigest()
        states = {step["step"]: step["state"] for step in verdict["steps"]}
        assert states["signature"] == states["inclusion"] == states["lineage"] == states["answer"] == "proved" or (
            "lineage" not in receipt and states["lineage"] == "skipped"
        )
        assert states["row"] == ("proved" if "row" in receipt else "skipped")
        assert states["request"] == ("skipped" if request is None else "proved")
        assert console.verdict(key, orjson.dumps(receipt))["proved"]
        paper = receipts.render_text(receipt).encode()
        assert console.verdict(key, paper, answer, request)["proved"]


def test_another_answer_request_or_key_fails_at_its_own_step(console, proved):
    cases, key = proved
    for receipt, answer, _ in cases:
        receipt_json = orjson.dumps(receipt)
        assert failed(console.verdict(key, receipt_json, answer.replace(b"1", b"2", 1))) == "answer"
        other = Ed25519PrivateKey.generate().public_key().public_bytes(*PEM)
        assert failed(console.verdict(other, receipt_json, answer)) == "signature"
        assert failed(console.verdict(key, orjson.dumps(receipt | {"index": receipt["index"] + 1}))) == "inclusion"
    receipt, answer, request = cases[0]
    assert failed(console.verdict(key, orjson.dumps(receipt), answer, request.replace(b":41", b":42", 1))) == "request"
    strange = X25519PrivateKey.generate().public_key().public_bytes(*PEM)
    for pem in (strange, b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        verdict = console.verdict(pem, orjson.dumps(receipt))
        assert not verdict["proved"]
        assert "Ed25519" in verdict["en"]
        assert "Ed25519" in verdict["zh"]


def test_the_facts_of_a_proved_receipt_are_those_that_verify_py_prints(console, proved):
    cases, key = proved
    for receipt, *_ in cases:
        facts = console.verdict(key, orjson.dumps(receipt))["facts"]
        lines = [(f"{fact['en'].lower()} {fact['zh']}", fact["value"], fact["valueZh"]) for fact in facts]
        printed = [f"{name:<20} {en if en == zh else f'{en} {zh}'}" for name, en, zh in lines]
        assert printed == verify.summary_lines(receipt)
    for letter in ("\u202e", "\n", "\xa0", "\u2028", "\U0001f600", "癌"):
        leaf = {"kind": "decision", "ref": f"a {letter}", "at": "2026-11-26T00:00:00.000Z", "tenant": "demo"}
        key, receipt = single_entry_log(leaf, [])
        [first, *_] = console.verdict(key, receipt)["facts"]
        assert f"{'decision 决定':<20} {first['value']}" == verify.summary_lines(json.loads(receipt))[0]


def test_a_receipt_fails_under_the_id_of_another_decision(console, proved):
    cases, key = proved
    ids = [cases[0][0]["leaf"]["ref"], f"{cases[1][0]['leaf']['batch']}-4", "5" * 32]
    for receipt, answer, _ in cases:
        for id in ids:
            verdict = console.verdict(key, orjson.dumps(receipt), answer, id=id)
            assert verdict["proved"] == (verify.summary_lines(receipt)[0].split()[-1] == id)
            assert verdict["proved"] or failed(verdict) == "decision"


def failed(verdict: Any) -> str:
    assert not verdict["proved"]
    [step] = [step for step in verdict["steps"] if step["state"] == "failed"]
    assert step["en"]
    assert step["zh"]
    return str(step["step"])


@settings(max_examples=600)
@given(data=st.data())
def test_both_verifiers_agree_on_a_receipt_with_a_flipped_bit(console, proved, data):
    cases, key = proved
    receipt, answer, request = cases[data.draw(st.integers(0, len(cases) - 1))]
    text = bytearray(orjson.dumps(receipt))
    index, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 7))
    text[index] ^= 1 << bit
    verdict = console.verdict(key, bytes(text), answer, request)
    assert verdict["proved"] == by_python(key, bytes(text), answer, request), (verdict, bytes(text))


ODD = (None, True, False, 0, 1, -1, 1.0, 2**70, 1e300, float("nan"), "", "x", "ab" * 32, "AB" * 32, " ab" * 32,
       "\ud800", [], {}, [[]], {"kind": "chunk"}, "—", "at 1")  # fmt: skip


def alter(receipt: Any, chance: random.Random) -> Any:
    """A copy with one value replaced, removed, duplicated or written differently, anywhere in it."""
    altered = copy.deepcopy(receipt)
    places = []

    def walk(node: Any) -> None:
        for name in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, name))
            if isinstance(node[name], dict | list):
                walk(node[name])

    walk(altered)
    node, name = chance.choice(places)
    kind = chance.randrange(6)
    if kind == 0:
        del node[name]
    elif kind == 1 and isinstance(node, dict):
        node[chance.choice(["more", "row", "lineage", "kind"])] = node[name]
    elif kind == 2 and isinstance(node[name], str) and node[name]:
        index = chance.randrange(len(node[name]))
        node[name] = (
            node[name][:index] + chance.choice(["", " ", "\n", "\n\n", "\u2028", "0", "=", "é"]) + node[name][index:]
        )
    elif kind == 3 and isinstance(node[name], str):
        node[name] = node[name].upper()
    elif kind == 4 and type(node[name]) is int:
        node[name] = chance.choice([float(node[name]), node[name] + 1, bool(node[name])])
    else:
        node[name] = chance.choice(ODD)
    return altered


def test_both_verifiers_agree_on_a_receipt_that_was_altered_anywhere(console, proved):
    cases, key = proved
    chance, proved_count = random.Random(7), 0
    for _ in range(1_500):
        receipt, answer, request = chance.choice(cases)
        text = json.dumps(alter(receipt, chance)).encode()
        content = [answer, request] if chance.random() < 0.7 else [None, None]
        verdict = console.verdict(key, text, *content)
        assert verdict["proved"] == by_python(key, text, *content), (verdict, text)
        proved_count += verdict["proved"]
    assert 0 < proved_count < 400  # such as the case of hex digits, or a salt where no answer is verified


SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=6)
)  # fmt: skip
VALUES = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


@settings(max_examples=400)
@given(value=VALUES, ascii_=st.booleans())
def test_canonical_json_is_the_same_as_in_python(console, value, ascii_):
    text = json.dumps(value, ensure_ascii=ascii_)
    assert console.ask("canonical", text=text)["text"] == verify.canonical_json(value).decode()
    assert console.ask("indicators", text=text)["text"] == verify.canonical_indicators(value).decode()


TEXTS = ("01", "1.", ".5", "+1", "1e", "[1,]", "{'a':1}", '{"a":1,}', '"\t"', '"\\x"', '"\\u12"', "nul", "", "1 2",
         "-0", "-0.0", "1E5", "1e400", "[NaN]", " [ ] ", '{"a":1,"a":2}', '"\\ud83d\\ude00"', "\u00a01", "-",
         "9" * 4301, '{"\U0001f600":1,"\uffee":2}', '"\\ud800"', "1e16", "123456789012345680000.0", "1e-5",
         "0.00001234")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_json_that_python_refuses_is_refused(console, text):
    try:
        expected = {"text": verify.canonical_json(verify.parse_strict_json(text.encode())).decode()}
    except ValueError:
        assert "refused" in console.ask("canonical", text=text)
    else:
        assert console.ask("canonical", text=text) == expected


def both(console: Console, pem: bytes, *content: bytes | None) -> bool:
    """The verdict of both verifiers, which must agree."""
    receipt, answer, request = (*content, None, None)[:3]
    verdict = console.verdict(pem, receipt, answer, request)
    assert verdict["proved"] == by_python(pem, receipt, answer, request), verdict
    return bool(verdict["proved"])


def single_entry_log(leaf: Any, proof: Any) -> tuple[bytes, bytes]:
    """(public key, receipt) of a log with this single entry, whatever it is."""
    key = Ed25519PrivateKey.generate()
    note = sign_checkpoint(key, "log", 1, verify.leaf_hash(verify.canonical_json(leaf)), "2026-11-26T00:00:00.000Z")
    receipt = {"receipt": 1, "leaf": leaf, "index": 0, "proof": proof, "checkpoint": note}
    return key.public_key().public_bytes(*PEM), orjson.dumps(receipt)


@pytest.mark.parametrize("leaf", ["kind", None, [1], 5, True, {}, {"ref": "1"}])
def test_a_signed_entry_that_is_no_record_proves_nothing(console, leaf):
    assert both(console, *single_entry_log({"kind": "other", "at": "2026-11-26T00:00:00.000Z"}, []))
    assert not both(console, *single_entry_log(leaf, []))


@pytest.mark.parametrize("proof", [{}, "", None, False])
def test_a_proof_that_is_no_list_proves_nothing(console, proof):
    assert not both(console, *single_entry_log({"kind": "other", "at": "2026-11-26T00:00:00.000Z"}, proof))


def test_a_proof_whose_digests_are_names_proves_nothing(console, proved):
    cases, key = proved
    for receipt, *_ in cases:
        as_names = {"proof": dict.fromkeys(receipt["proof"], 1)}
        assert not both(console, key, orjson.dumps(receipt | as_names))
    row = cases[1][0]["row"]
    assert not both(console, key, orjson.dumps(cases[1][0] | {"row": row | {"proof": dict.fromkeys(row["proof"], 1)}}))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_another_encoding_than_utf_8_is_refused(console, proved, encoding):
    cases, key = proved
    receipt, answer, request = (orjson.dumps(cases[0][0]), *cases[0][1:])
    assert both(console, key, receipt, answer, request)
    assert not both(console, key, receipt.decode().encode(encoding))
    assert not both(console, key, receipt, answer, request.decode().encode(encoding))
    slide, reading, _ = cases[2]
    assert both(console, key, orjson.dumps(slide), reading)
    assert not both(console, key, orjson.dumps(slide), reading.decode().encode(encoding))


ASIDE = {  # a value that is not hashed -> whether it is accepted
    b'"\xed\xa0\x80"': False,
    b'"\\ud800"': True,
    b"9" * 4_300: True,
    b"-" + b"9" * 4_300: True,
    b"9" * 4_301: False,
    b"-" + b"9" * 4_301: False,
    b"[" * 99 + b"]" * 99: True,
    b"[" * 99 + b'"[[{"' + b"]" * 99: True,
    b"[" * 100 + b"]" * 100: False,
    b'{"a":' * 100 + b"1" + b"}" * 100: False,
    b"[" * 90_000 + b"]" * 90_000: False,
}


@pytest.mark.parametrize(("aside", "expected"), ASIDE.items(), ids=range(len(ASIDE)))
def test_parts_that_are_not_hashed_are_parsed_as_strictly(console, proved, aside, expected):
    receipt, answer, request = proved[0][0]
    text = orjson.dumps({name: value for name, value in receipt.items() if name != "salt"})
    assert both(console, proved[1], text[:-1] + b',"salt":' + aside + b"}") == expected
    longer = request[:-1] + b',"more":' + aside + b"}"  # a field that the recorded request does not have
    assert not both(console, proved[1], orjson.dumps(receipt), answer, longer)


def on_paper(packed: bytes) -> bytes:
    return f"{verify.BEGIN}\n{base64.b64encode(packed).decode()}\n{verify.END}\n".encode()


def test_the_printed_block_is_refused_with_bytes_missing_or_left_over(console, proved):
    cases, key = proved
    receipt_json = verify.canonical_json(cases[0][0])
    packed = zlib.compress(receipt_json)
    assert both(console, key, on_paper(packed))
    longer = on_paper(packed + b"more")  # node's own stream takes it; tests/browser/console/test_audit.py asks Chromium
    assert not by_python(key, longer, None, None)
    for other in (packed[:-1], packed[:-4], packed[:-1] + bytes([packed[-1] ^ 1]), b""):
        assert not both(console, key, on_paper(other))
    assert not both(console, key, on_paper(zlib.compress(receipt_json.decode().encode("utf-16"))))
    assert both(console, key, on_paper(zlib.compress(receipt_json.ljust(verify.MAX_RECEIPT_BYTES))))
    assert not both(console, key, on_paper(zlib.compress(receipt_json.ljust(verify.MAX_RECEIPT_BYTES + 1))))


def with_stray_bit(text: str) -> str:
    """Base64 of the same bytes, with a stray bit set."""
    assert text.endswith("=")
    index, digits = len(text.rstrip("=")) - 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    altered = text[:index] + digits[digits.index(text[index]) ^ 1] + text[index + 1 :]
    assert base64.b64decode(altered, validate=True) == base64.b64decode(text, validate=True)
    return altered


def test_base64_with_a_stray_bit_is_refused(console, proved):
    cases, key = proved
    for receipt, *_ in cases:
        head, _, signature = receipt["checkpoint"].rstrip("\n").rpartition(" ")
        assert both(console, key, orjson.dumps(receipt))
        assert not both(console, key, orjson.dumps(receipt | {"checkpoint": f"{head} {with_stray_bit(signature)}\n"}))
    receipt_json, block = verify.canonical_json(cases[0][0]), ""
    while not block.endswith("="):
        receipt_json += b" "
        block = base64.b64encode(zlib.compress(receipt_json)).decode()
    assert both(console, key, f"{verify.BEGIN}\n{block}\n{verify.END}\n".encode())
    assert not both(console, key, f"{verify.BEGIN}\n{with_stray_bit(block)}\n{verify.END}\n".encode())
    begin, digits, end = key.decode().splitlines()
    assert not both(console, "\n".join([begin, with_stray_bit(digits), end, ""]).encode(), orjson.dumps(cases[0][0]))


def test_an_object_with_a_duplicate_key_is_refused(console, proved):
    """Parsers differ in which of the two they take: one would prove what another does not read."""
    cases, key = proved
    for receipt, answer, request in cases:
        receipt_json = orjson.dumps(receipt)
        for name in (b'"index"', b'"kind"', b'"tenant"', b'"ref"'):  # of the receipt, of its leaf
            assert receipt_json.count(name + b":") >= 1
            assert not both(console, key, receipt_json.replace(name + b":", name + b":1," + name + b":", 1)), name
        escaped = receipt_json.replace(b'"index":', b'"inde\\u0078":7,"index":', 1)
        assert not both(console, key, escaped)
        assert both(console, key, receipt_json, answer, request)
        if request is not None:
            assert not both(console, key, receipt_json, answer, request.replace(b"{", b'{"indicators":{},', 1))
    slide, reading, _ = cases[2]
    assert not both(console, key, orjson.dumps(slide), reading.replace(b"{", b'{"slide_id":1,', 1))


BLANKS = {
    **dict.fromkeys(" \t\n\v\f\r", True),
    **dict.fromkeys("\x1c\x1f\x85\xa0\u180e\u200b\u2028\u3000\ufeff", False),
}


@pytest.mark.parametrize(("blank", "expected"), BLANKS.items(), ids=map(ascii, BLANKS))
def test_only_ascii_whitespace_may_stand_in_the_printed_block(console, proved, blank, expected):
    cases, key = proved
    head, begin, block = receipts.render_text(cases[0][0]).partition(verify.BEGIN)
    assert both(console, key, f"{head}{begin}{block[:30]}{blank}{block[30:]}".encode()) == expected
