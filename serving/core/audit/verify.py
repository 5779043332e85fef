"""A receipt verified with nothing but the log's public key.

    python verify.py log.pub.pem receipt.json [answer.json]

This file stands alone: it needs Python's standard library and `cryptography`, so an auditor can read and copy it.
Hashing is that of RFC 9162 (Certificate Transparency), the signed checkpoint a C2SP tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

LARGEST = 1_000_000  # bytes of a receipt
DEEPEST = 100  # lists and objects within one another
NEEDED = {"receipt", "leaf", "index", "proof", "checkpoint"}
MORE = {"lineage", "salt", "row"}
BEGIN, END = "-----BEGIN YUHENG RECEIPT-----", "-----END YUHENG RECEIPT-----"


class NotProved(Exception):
    """The receipt does not prove what it says; the message tells what was found and what was needed."""


@dataclass(frozen=True)
class Checkpoint:
    """What the log's key signed: at `at`, its first `size` leaves had this root."""

    origin: str
    size: int
    root: bytes
    at: str


def leaf_hash(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def salted(salt: bytes, content: bytes) -> str:
    """A digest that tells nothing of guessable content to whom the salt is not given."""
    return hashlib.sha256(salt + content).hexdigest()


def canonical(value: Any) -> bytes:
    """Keys sorted, no blanks, UTF-8: of a leaf or a lineage, which hold no fractions, RFC 8785."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def root_from(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that a leaf's hash and its inclusion path lead to (RFC 9162, 2.1.3.2). Raises NotProved."""
    if not 0 <= index < size:
        raise NotProved(f"the leaf {index} is not among the {size} of the checkpoint")
    place, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise NotProved("the proof is too long")
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise NotProved("the proof is too short")
    return found


# --- the signed note


def read_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotProved(f"the key cannot be read ({error}); the PEM of an Ed25519 public key is needed") from error
    if not isinstance(key, Ed25519PublicKey):
        raise NotProved("the key is of another kind; the PEM of an Ed25519 public key is needed")
    return key


def key_id(origin: str, key: Ed25519PublicKey) -> bytes:
    """The four bytes that name a key before its signature (C2SP signed-note)."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(origin.encode() + b"\n\x01" + raw).digest()[:4]


def read_note(note: str) -> tuple[Checkpoint, bytes, list[tuple[str, bytes]]]:
    """(checkpoint, the signed text, its signatures with their key's four bytes), nothing verified."""
    text, blank, tail = note.partition("\n\n")
    lines = text.split("\n")
    try:
        if not blank or len(lines) < 3 or not lines[1].isascii() or not lines[1].isdigit():
            raise ValueError("origin, size and root, then a blank line and signatures, are needed")
        root = read_base64(lines[2].encode())
        if len(root) != 32 or str(int(lines[1])) != lines[1]:
            raise ValueError("a size and a root of 32 bytes are needed")
        signatures = []
        for line in tail.splitlines():
            dash, name, signature = line.split(" ")
            if dash != "—":
                raise ValueError(f"{line[:20]!r} is no signature")
            signatures.append((name, read_base64(signature.encode())))
    except (ValueError, binascii.Error) as error:
        raise NotProved(f"the checkpoint cannot be read: {error}") from error
    at = next((line[3:] for line in lines[3:] if line.startswith("at ")), "")
    return Checkpoint(lines[0], int(lines[1]), root, at), (text + "\n").encode(), signatures


def open_note(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint of a note that the key signed. Raises NotProved."""
    checkpoint, text, signatures = read_note(note)
    wanted = key_id(checkpoint.origin, key)
    for name, signature in signatures:
        if name == checkpoint.origin and signature[:4] == wanted:
            try:
                key.verify(signature[4:], text)
            except InvalidSignature as error:
                raise NotProved("the checkpoint's signature is false: it was altered after it was signed") from error
            return checkpoint
    raise NotProved(f"this key did not sign the checkpoint of {checkpoint.origin!r}; take the key of that log")


# --- the receipt


def read_receipt(content: bytes) -> dict[str, Any]:
    """Of JSON, or of the printed form around it. Raises NotProved."""
    if len(content) > LARGEST:
        raise NotProved(f"the receipt has {len(content):,} bytes; at most {LARGEST:,} are read")
    try:
        if BEGIN.encode() in content:
            block = content.decode().partition(BEGIN)[2].partition(END)[0]
            packed = read_base64(b"".join(block.encode().split()))  # of bytes: ASCII blanks alone
            open_ = zlib.decompressobj()
            content = open_.decompress(packed, LARGEST + 1)
            if len(content) > LARGEST:
                raise ValueError("it is too large")
            if not open_.eof or open_.unused_data:
                raise ValueError("its block is cut short, or more follows it")
        found = read_json(content)
    except (ValueError, zlib.error, RecursionError) as error:
        raise NotProved(f"the receipt cannot be read: {error}") from error
    if not isinstance(found, dict) or not set(found) >= NEEDED or set(found) - NEEDED - MORE:
        told = ", ".join(sorted(found)) if isinstance(found, dict) else type(found).__name__
        raise NotProved(f"a receipt holds {', '.join(sorted(NEEDED))} and may hold {', '.join(sorted(MORE))}; {told}")
    if found["receipt"] != 1:
        raise NotProved(f"the receipt is of version {found['receipt']!r}; this program reads version 1")
    return found


def read_json(content: bytes) -> Any:
    """Of UTF-8 without a mark before it, each name once in its object; `json.loads` alone would guess other encodings,
    and take the last of two. Raises ValueError."""
    text, depth = content.decode(), 0
    found = json.loads(text, object_pairs_hook=_object)
    if text.count("[") + text.count("{") <= DEEPEST:  # as in every receipt of ours: nothing to walk through
        return found
    for one in re.findall(r'"(?:[^"\\]|\\.)*"|[][{}]', text):
        depth += (one in "[{") - (one in "]}")
        if depth > DEEPEST:
            raise ValueError(f"a depth of at most {DEEPEST} is needed")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("each name once in its object is needed")
    return found


def read_base64(told: bytes) -> bytes:
    """The one way to write these bytes: with no bit left over at the end. Raises ValueError."""
    found = base64.b64decode(told, validate=True)
    if base64.b64encode(found) != told:
        raise ValueError("base64 without a bit left over is needed")
    return found


class Verifier:
    """Holds one public key; a checkpoint seen before is not verified again."""

    def __init__(self, key: Ed25519PublicKey):
        self.key = key
        self._seen: dict[str, Checkpoint] = {}

    def checkpoint(self, note: str) -> Checkpoint:
        found = self._seen.get(note)
        if found is None:
            if len(self._seen) >= 1_000:
                self._seen.clear()
            found = self._seen[note] = open_note(note, self.key)
        return found

    def verify(
        self, receipt: Mapping[str, Any], answer: bytes | None = None, request: bytes | None = None
    ) -> Checkpoint:
        """The checkpoint by which all of the receipt is proved, and `answer` and `request` with it. Raises NotProved.

        answer: the decision's bytes, as they were sent; request: the JSON that was asked with.
        """
        try:
            return self._verify(receipt, answer, request)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise NotProved(f"the receipt is not whole: {type(error).__name__} {error}") from error

    def _verify(self, receipt: Mapping[str, Any], answer: bytes | None, request: bytes | None) -> Checkpoint:
        leaf = receipt["leaf"]
        checkpoint = self.checkpoint(receipt["checkpoint"])
        path = [_digest(item) for item in _list(receipt["proof"])]
        if root_from(_whole(receipt["index"]), checkpoint.size, leaf_hash(canonical(leaf)), path) != checkpoint.root:
            raise NotProved("the leaf is not in the log: the receipt's leaf, index or proof was altered")
        lineage = receipt.get("lineage")
        if lineage is not None and hashlib.sha256(canonical(lineage)).hexdigest() != leaf["lineage"]:
            raise NotProved("the lineage is not the one that the log holds")
        row = receipt.get("row")
        if (row is not None) != (leaf["kind"] == "chunk"):
            raise NotProved("a row is proved by a receipt of its batch's chunk, and by no other")
        if row is not None:
            self._row(leaf, row, answer)
        elif answer is not None:
            self._answer(leaf, bytes.fromhex(receipt["salt"]), answer)
        if request is not None:
            self._request(leaf, receipt["salt"], request)
        return checkpoint

    def _answer(self, leaf: Mapping[str, Any], salt: bytes, answer: bytes) -> None:
        """A decision's bytes; of a slide its reading, as any JSON of it."""
        if leaf["kind"] == "slide_state":
            if salted(salt, canonical(read_json(answer))) != leaf["reading"]:
                raise NotProved("the reading is not the one that was recorded")
        elif salted(salt, answer) != leaf["answer"]:
            raise NotProved("the answer is not the one that was recorded; give its bytes as they were sent")

    def _row(self, leaf: Mapping[str, Any], row: Mapping[str, Any], answer: bytes | None) -> None:
        if set(row) - {"row", "hash", "proof", "salt"}:
            raise NotProved("the receipt's row holds more than its proof")
        place = _whole(row["row"]) - _whole(leaf["first"])
        path = [_digest(item) for item in _list(row["proof"])]
        if root_from(place, _whole(leaf["rows"]), _digest(row["hash"]), path) != _digest(leaf["root"]):
            raise NotProved("the row is not in the chunk that the log holds")
        if answer is not None and leaf_hash(bytes.fromhex(row["salt"]) + answer) != _digest(row["hash"]):
            raise NotProved("the answer is not the row that was recorded; give its bytes as they were sent")

    def _request(self, leaf: Mapping[str, Any], salt: str, request: bytes) -> None:
        if "inputs" not in leaf:
            raise NotProved("this receipt is not of a decision on one applicant, so it proves no inputs")
        found = read_json(request)
        if salted(bytes.fromhex(salt), indicators(found["indicators"])) != leaf["inputs"]:
            raise NotProved("the inputs are not those that the decision was made on")


def indicators(values: Mapping[str, Any]) -> bytes:
    """The bytes whose salted digest stands for the inputs: numbers as their shortest form that reads back the same."""

    def told(value: Any) -> str:
        if isinstance(value, float):
            digits, _, power = repr(value).partition("e-0")
            if power == "5":
                sign, figures = "-" * digits.startswith("-"), digits.strip("-").replace(".", "")
                return f"{sign}0.0000{figures}"
            return f"{digits}e-{power}" if power else digits
        if isinstance(value, Mapping):
            return "{" + ",".join(f"{told(str(key))}:{told(value[key])}" for key in sorted(value)) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(told, value)) + "]"
        return json.dumps(value, ensure_ascii=False)

    return told(values).encode()


def summary(receipt: Mapping[str, Any]) -> list[str]:
    """What the receipt says, a line each. True where it was verified; above a printed receipt it is a claim."""
    leaf, lineage = receipt["leaf"], receipt.get("lineage") or {}
    row, price = receipt.get("row"), leaf.get("price") or {}
    told = [
        ("decision 决定", leaf["ref"] if row is None else f"{leaf['batch']}-{row['row']}"),
        ("at 时间", leaf["at"]),
        ("tenant 机构", leaf["tenant"]),
        ("product 产品", leaf.get("product")),
        ("model 模型", f"{lineage.get('model', '')} {lineage.get('version', '')}"),
        ("bundle 模型包", leaf.get("bundle")),
        ("training run 训练", lineage.get("run_id")),
        ("commit 代码", lineage.get("git_commit")),
        *(("data 数据", f"{data['name']} {data['sha256']}") for data in lineage.get("data", ())),
        ("policy 政策", leaf.get("policy")),
        ("authorisations 授权", ", ".join(leaf.get("authorisations") or ()) or "none 无"),
        ("price 价格", f"{price['fen'] / 100:.2f} CNY ({price['rule']}, {price['rules']})" if price else None),
        ("leaf 日志序号", str(receipt["index"])),
    ]
    return [f"{name:<20} {_shown(value)}" for name, value in told if value and str(value).strip()]


def _shown(value: Any) -> str:
    """On one line, whatever it holds."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def _digest(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 32:
        raise NotProved(f"a digest of 32 bytes is needed; found {len(found)}")
    return found


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise NotProved(f"a list is needed; found {type(value).__name__}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise NotProved(f"a whole number is needed; found {value!r}")
    return value


def main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3):
        print(__doc__)
        return 2
    try:
        key = read_key(Path(arguments[0]).read_bytes())
        receipt = read_receipt(Path(arguments[1]).read_bytes())
        answer = Path(arguments[2]).read_bytes() if len(arguments) == 3 else None
        found = Verifier(key).verify(receipt, answer)
    except (NotProved, OSError) as error:
        print(f"NOT GENUINE 不可信: {error}")
        return 1
    what = "this answer is genuine 答复属实" if answer is not None else "the receipt is genuine 凭证属实"
    print(f"{what}: {found.origin} signed it at {found.at} over {found.size} leaves", *summary(receipt), sep="\n")
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
