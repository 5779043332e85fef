"""The verifier of the console's pages proves what serving/core/audit/verify.py proves, and nothing else."""

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

    def ask(self, do: str, **told: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **told}) + "\n")
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
        told = {name: None if one is None else base64.b64encode(one).decode()
                for name, one in (("receipt", receipt), ("answer", answer), ("request", request))}  # fmt: skip
        return self.ask("verify", pem=pem.decode(), id=id, **told)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    if shutil.which("node") is None or not ROLLDOWN.exists():
        pytest.skip("there is no node, or the console's packages are not there: make console")
    console = Console(tmp_path_factory.mktemp("proof"))
    yield console
    console.process.kill()
    console.process.wait()


@pytest.fixture(scope="module")
def proved(inside, applicant):
    """(receipt, answer, request or none) of a decision, a batch's row and a slide's reading; the log's public key."""

    async def story(client, gateway):
        asked = orjson.dumps({"indicators": applicant | {"age": 41, "declared_income": 0.00001}})
        sent = {"headers": {"Content-Type": "application/json"}}
        for _ in range(5):
            answer = (await client.post(URL, content=asked, **sent)).content
        single = json.loads(answer)["decision_id"]
        sent = {"content": b"declared_income\n5\n6\n7\n8\n9\n", "headers": {"Content-Type": "text/csv"}}
        batch = (await client.post(URL + "/batch", **sent)).headers["batch-id"]
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
        made = [(single, answer, asked), (f"{batch}-4", row, None), ("5" * 32, orjson.dumps(reading), None)]
        key = gateway.settings.paths.log_key.with_suffix(".pub.pem").read_bytes()
        return [((await client.get(f"/v1/decisions/{id}/receipt")).json(), *rest) for id, *rest in made], key

    return inside(story)


def by_python(pem: bytes, receipt: bytes, answer: bytes | None, request: bytes | None) -> bool:
    try:
        ReceiptVerifier(load_public_key(pem)).verify(parse_receipt(receipt), answer, request)
    except VerificationError:
        return False
    return True


def test_each_kind_of_receipt_is_proved_step_by_step(console, proved):
    told, key = proved
    der = base64.b64decode("".join(key.decode().splitlines()[1:-1]))
    for receipt, answer, request in told:
        found = console.verdict(key, orjson.dumps(receipt), answer, request)
        assert found["proved"], found
        assert found["fingerprint"] == hashlib.sha256(der).hexdigest()
        done = {one["step"]: one["state"] for one in found["steps"]}
        assert done["signature"] == done["inclusion"] == done["lineage"] == done["answer"] == "proved" or (
            "lineage" not in receipt and done["lineage"] == "skipped"
        )
        assert done["row"] == ("proved" if "row" in receipt else "skipped")
        assert done["request"] == ("skipped" if request is None else "proved")
        assert console.verdict(key, orjson.dumps(receipt))["proved"]
        paper = receipts.render_text(receipt).encode()
        assert console.verdict(key, paper, answer, request)["proved"]


def test_another_answer_request_or_key_fails_at_its_own_step(console, proved):
    told, key = proved
    for receipt, answer, _ in told:
        whole = orjson.dumps(receipt)
        assert failed(console.verdict(key, whole, answer.replace(b"1", b"2", 1))) == "answer"
        other = Ed25519PrivateKey.generate().public_key().public_bytes(*PEM)
        assert failed(console.verdict(other, whole, answer)) == "signature"
        assert failed(console.verdict(key, orjson.dumps(receipt | {"index": receipt["index"] + 1}))) == "inclusion"
    receipt, answer, request = told[0]
    assert failed(console.verdict(key, orjson.dumps(receipt), answer, request.replace(b":41", b":42", 1))) == "request"
    strange = X25519PrivateKey.generate().public_key().public_bytes(*PEM)
    for pem in (strange, b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        found = console.verdict(pem, orjson.dumps(receipt))
        assert not found["proved"]
        assert "Ed25519" in found["en"]
        assert "Ed25519" in found["zh"]


def test_a_proved_receipt_says_of_what_it_is_as_verify_py_says_it(console, proved):
    told, key = proved
    for receipt, *_ in told:
        facts = console.verdict(key, orjson.dumps(receipt))["facts"]
        lines = [(f"{one['en'].lower()} {one['zh']}", one["value"], one["valueZh"]) for one in facts]
        both_ = [f"{name:<20} {en if en == zh else f'{en} {zh}'}" for name, en, zh in lines]
        assert both_ == verify.summary_lines(receipt)
    for letter in ("\u202e", "\n", "\xa0", "\u2028", "\U0001f600", "癌"):
        key, receipt = of_its_own_log({"kind": "decision", "ref": f"a {letter}", "at": "", "tenant": "demo"}, [])
        [first, *_] = console.verdict(key, receipt)["facts"]
        assert f"{'decision 决定':<20} {first['value']}" == verify.summary_lines(json.loads(receipt))[0]


def test_the_receipt_of_another_decision_fails_under_an_id(console, proved):
    told, key = proved
    ids = [told[0][0]["leaf"]["ref"], f"{told[1][0]['leaf']['batch']}-4", "5" * 32]
    for receipt, answer, _ in told:
        for id in ids:
            found = console.verdict(key, orjson.dumps(receipt), answer, id=id)
            assert found["proved"] == (verify.summary_lines(receipt)[0].split()[-1] == id)
            assert found["proved"] or failed(found) == "decision"


def failed(found: Any) -> str:
    assert not found["proved"]
    [one] = [one for one in found["steps"] if one["state"] == "failed"]
    assert one["en"]
    assert one["zh"]
    return str(one["step"])


@settings(max_examples=600)
@given(data=st.data())
def test_of_a_receipt_with_a_bit_turned_both_say_the_same(console, proved, data):
    told, key = proved
    receipt, answer, request = told[data.draw(st.integers(0, len(told) - 1))]
    text = bytearray(orjson.dumps(receipt))
    place, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 7))
    text[place] ^= 1 << bit
    found = console.verdict(key, bytes(text), answer, request)
    assert found["proved"] == by_python(key, bytes(text), answer, request), (found, bytes(text))


ODD = (None, True, False, 0, 1, -1, 1.0, 2**70, 1e300, float("nan"), "", "x", "ab" * 32, "AB" * 32, " ab" * 32,
       "\ud800", [], {}, [[]], {"kind": "chunk"}, "—", "at 1")  # fmt: skip


def changed(receipt: Any, chance: random.Random) -> Any:
    """With one value replaced, taken away, doubled or written otherwise, wherever in it."""
    whole = copy.deepcopy(receipt)
    places = []

    def walk(one: Any) -> None:
        for name in list(one) if isinstance(one, dict) else range(len(one)):
            places.append((one, name))
            if isinstance(one[name], dict | list):
                walk(one[name])

    walk(whole)
    one, name = chance.choice(places)
    way = chance.randrange(6)
    if way == 0:
        del one[name]
    elif way == 1 and isinstance(one, dict):
        one[chance.choice(["more", "row", "lineage", "kind"])] = one[name]
    elif way == 2 and isinstance(one[name], str) and one[name]:
        at = chance.randrange(len(one[name]))
        one[name] = one[name][:at] + chance.choice(["", " ", "\n", "\n\n", "\u2028", "0", "=", "é"]) + one[name][at:]
    elif way == 3 and isinstance(one[name], str):
        one[name] = one[name].upper()
    elif way == 4 and type(one[name]) is int:
        one[name] = chance.choice([float(one[name]), one[name] + 1, bool(one[name])])
    else:
        one[name] = chance.choice(ODD)
    return whole


def test_of_a_receipt_that_was_altered_in_any_place_both_say_the_same(console, proved):
    told, key = proved
    chance, kept = random.Random(7), 0
    for _ in range(1_500):
        receipt, answer, request = chance.choice(told)
        text = json.dumps(changed(receipt, chance)).encode()
        given_ = [answer, request] if chance.random() < 0.7 else [None, None]
        found = console.verdict(key, text, *given_)
        assert found["proved"] == by_python(key, text, *given_), (found, text)
        kept += found["proved"]
    assert 0 < kept < 400  # as the case of hex digits, or a salt where no answer is asked about


SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=6)
)  # fmt: skip
VALUES = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


@settings(max_examples=400)
@given(value=VALUES, ascii_=st.booleans())
def test_any_json_is_written_as_python_writes_it(console, value, ascii_):
    text = json.dumps(value, ensure_ascii=ascii_)
    assert console.ask("canonical", text=text)["text"] == verify.canonical_json(value).decode()
    assert console.ask("indicators", text=text)["text"] == verify.canonical_indicators(value).decode()


TEXTS = ("01", "1.", ".5", "+1", "1e", "[1,]", "{'a':1}", '{"a":1,}', '"\t"', '"\\x"', '"\\u12"', "nul", "", "1 2",
         "-0", "-0.0", "1E5", "1e400", "[NaN]", " [ ] ", '{"a":1,"a":2}', '"\\ud83d\\ude00"', "\u00a01", "-",
         "9" * 4301, '{"\U0001f600":1,"\uffee":2}', '"\\ud800"', "1e16", "123456789012345680000.0", "1e-5",
         "0.00001234")  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_what_python_refuses_as_json_is_refused(console, text):
    try:
        wanted = {"text": verify.canonical_json(verify.parse_strict_json(text.encode())).decode()}
    except ValueError:
        assert "refused" in console.ask("canonical", text=text)
    else:
        assert console.ask("canonical", text=text) == wanted


def both(console: Console, pem: bytes, *content: bytes | None) -> bool:
    """What the two say, which must be the same."""
    receipt, answer, request = (*content, None, None)[:3]
    found = console.verdict(pem, receipt, answer, request)
    assert found["proved"] == by_python(pem, receipt, answer, request), found
    return bool(found["proved"])


def of_its_own_log(leaf: Any, proof: Any) -> tuple[bytes, bytes]:
    """(public key, receipt) of a log with this one leaf, whatever it is."""
    key = Ed25519PrivateKey.generate()
    note = sign_checkpoint(key, "log", 1, verify.leaf_hash(verify.canonical_json(leaf)), "2026-11-26")
    told = {"receipt": 1, "leaf": leaf, "index": 0, "proof": proof, "checkpoint": note}
    return key.public_key().public_bytes(*PEM), orjson.dumps(told)


@pytest.mark.parametrize("leaf", ["kind", None, [1], 5, True, {}, {"ref": "1"}])
def test_a_signed_leaf_that_is_no_record_proves_nothing(console, leaf):
    assert both(console, *of_its_own_log({"kind": "other"}, []))
    assert not both(console, *of_its_own_log(leaf, []))


@pytest.mark.parametrize("proof", [{}, "", None, False])
def test_a_proof_that_is_no_list_proves_nothing(console, proof):
    assert not both(console, *of_its_own_log({"kind": "other"}, proof))


def test_a_proof_whose_digests_are_names_proves_nothing(console, proved):
    told, key = proved
    for receipt, *_ in told:
        as_names = {"proof": dict.fromkeys(receipt["proof"], 1)}
        assert not both(console, key, orjson.dumps(receipt | as_names))
    row = told[1][0]["row"]
    assert not both(console, key, orjson.dumps(told[1][0] | {"row": row | {"proof": dict.fromkeys(row["proof"], 1)}}))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_another_encoding_than_utf_8_is_refused(console, proved, encoding):
    told, key = proved
    receipt, answer, request = (orjson.dumps(told[0][0]), *told[0][1:])
    assert both(console, key, receipt, answer, request)
    assert not both(console, key, receipt.decode().encode(encoding))
    assert not both(console, key, receipt, answer, request.decode().encode(encoding))
    slide, reading, _ = told[2]
    assert both(console, key, orjson.dumps(slide), reading)
    assert not both(console, key, orjson.dumps(slide), reading.decode().encode(encoding))


ASIDE = {  # beside what is hashed: it is read all the same
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


@pytest.mark.parametrize(("aside", "wanted"), ASIDE.items(), ids=range(len(ASIDE)))
def test_what_is_not_hashed_is_read_as_strictly(console, proved, aside, wanted):
    receipt, answer, request = proved[0][0]
    told = orjson.dumps({name: value for name, value in receipt.items() if name != "salt"})
    assert both(console, proved[1], told[:-1] + b',"salt":' + aside + b"}") == wanted
    more = request[:-1] + b',"more":' + aside + b"}"
    assert both(console, proved[1], orjson.dumps(receipt), answer, more) == wanted


def on_paper(packed: bytes) -> bytes:
    return f"{verify.BEGIN}\n{base64.b64encode(packed).decode()}\n{verify.END}\n".encode()


def test_of_the_printed_block_nothing_is_left_over_or_missing(console, proved):
    told, key = proved
    whole = verify.canonical_json(told[0][0])
    packed = zlib.compress(whole)
    assert both(console, key, on_paper(packed))
    more = on_paper(packed + b"more")  # node's own stream takes it; tests/browser/console/test_audit.py asks Chromium
    assert not by_python(key, more, None, None)
    for other in (packed[:-1], packed[:-4], packed[:-1] + bytes([packed[-1] ^ 1]), b""):
        assert not both(console, key, on_paper(other))
    assert not both(console, key, on_paper(zlib.compress(whole.decode().encode("utf-16"))))
    assert both(console, key, on_paper(zlib.compress(whole.ljust(verify.MAX_RECEIPT_BYTES))))
    assert not both(console, key, on_paper(zlib.compress(whole.ljust(verify.MAX_RECEIPT_BYTES + 1))))


def strayed(told: str) -> str:
    """The same bytes in base64, with a bit set that none of them holds."""
    assert told.endswith("=")
    at, digits = len(told.rstrip("=")) - 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = told[:at] + digits[digits.index(told[at]) ^ 1] + told[at + 1 :]
    assert base64.b64decode(other, validate=True) == base64.b64decode(told, validate=True)
    return other


def test_base64_in_which_a_bit_is_left_over_is_refused(console, proved):
    told, key = proved
    for receipt, *_ in told:
        head, _, signature = receipt["checkpoint"].rstrip("\n").rpartition(" ")
        assert both(console, key, orjson.dumps(receipt))
        assert not both(console, key, orjson.dumps(receipt | {"checkpoint": f"{head} {strayed(signature)}\n"}))
    whole, block = verify.canonical_json(told[0][0]), ""
    while not block.endswith("="):
        whole += b" "
        block = base64.b64encode(zlib.compress(whole)).decode()
    assert both(console, key, f"{verify.BEGIN}\n{block}\n{verify.END}\n".encode())
    assert not both(console, key, f"{verify.BEGIN}\n{strayed(block)}\n{verify.END}\n".encode())
    begin, digits, end = key.decode().splitlines()
    assert not both(console, "\n".join([begin, strayed(digits), end, ""]).encode(), orjson.dumps(told[0][0]))


def test_a_name_that_stands_twice_in_an_object_is_refused(console, proved):
    """Which of the two counts is for its reader to choose: what was proved to one is not what another reads."""
    told, key = proved
    for receipt, answer, request in told:
        whole = orjson.dumps(receipt)
        for name in (b'"index"', b'"kind"', b'"tenant"', b'"ref"'):  # of the receipt, of its leaf
            assert whole.count(name + b":") >= 1
            assert not both(console, key, whole.replace(name + b":", name + b":1," + name + b":", 1)), name
        escaped = whole.replace(b'"index":', b'"inde\\u0078":7,"index":', 1)
        assert not both(console, key, escaped)
        assert both(console, key, whole, answer, request)
        if request is not None:
            assert not both(console, key, whole, answer, request.replace(b"{", b'{"indicators":{},', 1))
    slide, reading, _ = told[2]
    assert not both(console, key, orjson.dumps(slide), reading.replace(b"{", b'{"slide_id":1,', 1))


BLANKS = {
    **dict.fromkeys(" \t\n\v\f\r", True),
    **dict.fromkeys("\x1c\x1f\x85\xa0\u180e\u200b\u2028\u3000\ufeff", False),
}


@pytest.mark.parametrize(("blank", "wanted"), BLANKS.items(), ids=map(ascii, BLANKS))
def test_in_the_printed_block_only_blanks_of_ascii_may_stand(console, proved, blank, wanted):
    told, key = proved
    head, begin, block = receipts.render_text(told[0][0]).partition(verify.BEGIN)
    assert both(console, key, f"{head}{begin}{block[:30]}{blank}{block[30:]}".encode()) == wanted
