"""Verify a receipt with nothing but the log's public key.

    python verify.py log.pub.pem receipt.json [answer.json]

This file stands alone: it needs only Python's standard library and `cryptography`, so an auditor can read and copy it.
Hashing follows RFC 9162 (Certificate Transparency); the signed checkpoint is a C2SP tlog-checkpoint.
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
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

MAX_RECEIPT_BYTES = 1_000_000
MAX_JSON_DEPTH = 100  # nested lists and objects
MAX_CLOCK_SKEW_SECONDS = 120  # between the clocks of those that write entries and sign checkpoints
REQUIRED_FIELDS = {"receipt", "leaf", "index", "proof", "checkpoint"}
OPTIONAL_FIELDS = {"lineage", "salt", "row"}
TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
BEGIN, END = "-----BEGIN YUHENG RECEIPT-----", "-----END YUHENG RECEIPT-----"


class VerificationError(Exception):
    """The receipt does not prove what it states. The message says what was found and what was expected."""


@dataclass(frozen=True)
class Checkpoint:
    """What the log's key signed: at `timestamp`, the root over the first `size` leaves."""

    origin: str
    size: int
    root: bytes
    timestamp: str


def leaf_hash(body: bytes) -> bytes:
    """The hash of a leaf (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\0" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def salted_digest(salt: bytes, content: bytes) -> str:
    """The SHA-256 of salt and content in hex, from which guessable content cannot be found without the salt."""
    return hashlib.sha256(salt + content).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and without spaces, in UTF-8. For a log entry or a lineage, which contain no fractions,
    this is RFC 8785."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def root_from_inclusion_proof(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that follows from a leaf hash and its inclusion path (RFC 9162, 2.1.3.2). Raises VerificationError."""
    if not 0 <= index < size:
        raise VerificationError(f"leaf {index} is not among the {size} leaves of the checkpoint")
    position, last_position, digest = index, size - 1, leaf
    for sibling in path:
        if last_position == 0:
            raise VerificationError("the inclusion path is too long")
        if position & 1 or position == last_position:
            digest = node_hash(sibling, digest)
            while not position & 1 and position:
                position, last_position = position >> 1, last_position >> 1
        else:
            digest = node_hash(digest, sibling)
        position, last_position = position >> 1, last_position >> 1
    if last_position:
        raise VerificationError("the inclusion path is too short")
    return digest


# --- the signed note


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    """The log's public key from PEM. Raises VerificationError."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(f"the key cannot be read ({error}); expected an Ed25519 public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise VerificationError(f"the key is {type(key).__name__}; expected an Ed25519 public key in PEM")
    return key


def key_id(origin: str, key: Ed25519PublicKey) -> bytes:
    """The four bytes before a signature that identify its key (C2SP signed-note)."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(origin.encode() + b"\n\x01" + raw).digest()[:4]


def parse_note(note: str) -> tuple[Checkpoint, bytes, list[tuple[str, bytes]]]:
    """(checkpoint, signed text, signatures as (name, key id and signature)), not yet verified. Raises
    VerificationError."""
    text, separator, signature_block = note.partition("\n\n")
    lines = text.split("\n")
    try:
        if not separator or len(lines) < 3 or not lines[1].isascii() or not lines[1].isdigit():
            raise ValueError("expected origin, size and root, then an empty line and signatures")
        root = decode_base64(lines[2].encode())
        if len(root) != 32 or str(int(lines[1])) != lines[1]:
            raise ValueError("expected a size without leading zeros and a root of 32 bytes")
        signatures = []
        for line in signature_block.splitlines():
            dash, name, signature = line.split(" ")
            if dash != "—":
                raise ValueError(f"{line[:20]!r} is not a signature")
            signatures.append((name, decode_base64(signature.encode())))
    except (ValueError, binascii.Error) as error:
        raise VerificationError(f"the checkpoint cannot be read: {error}") from error
    timestamp = next((line[3:] for line in lines[3:] if line.startswith("at ")), "")
    return Checkpoint(lines[0], int(lines[1]), root, timestamp), (text + "\n").encode(), signatures


def verify_checkpoint(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint in a note, which the key must have signed. Raises VerificationError."""
    checkpoint, text, signatures = parse_note(note)
    expected_key_id = key_id(checkpoint.origin, key)
    for name, signature in signatures:
        if name == checkpoint.origin and signature[:4] == expected_key_id:
            try:
                key.verify(signature[4:], text)
            except InvalidSignature as error:
                raise VerificationError(
                    "the signature of the checkpoint is invalid: it was altered after it was signed"
                ) from error
            return checkpoint
    raise VerificationError(f"this key did not sign the checkpoint of {checkpoint.origin!r}; use the key of that log")


# --- the receipt


def parse_receipt(content: bytes) -> dict[str, Any]:
    """A receipt from JSON, or from the printed form that contains it. Raises VerificationError."""
    if len(content) > MAX_RECEIPT_BYTES:
        raise VerificationError(f"the receipt has {len(content):,} bytes; the limit is {MAX_RECEIPT_BYTES:,}")
    try:
        if BEGIN.encode() in content:
            block = content.decode().partition(BEGIN)[2].partition(END)[0]
            compressed = decode_base64(b"".join(block.encode().split()))  # bytes.split: only ASCII whitespace
            decompressor = zlib.decompressobj()
            content = decompressor.decompress(compressed, MAX_RECEIPT_BYTES + 1)
            if len(content) > MAX_RECEIPT_BYTES:
                raise ValueError(f"it has more than {MAX_RECEIPT_BYTES:,} bytes")
            if not decompressor.eof or decompressor.unused_data:
                raise ValueError("its compressed block is truncated, or data follows it")
        receipt = parse_strict_json(content)
    except (ValueError, zlib.error, RecursionError) as error:
        raise VerificationError(f"the receipt cannot be read: {error}") from error
    if (
        not isinstance(receipt, dict)
        or not set(receipt) >= REQUIRED_FIELDS
        or set(receipt) - REQUIRED_FIELDS - OPTIONAL_FIELDS
    ):
        actual_fields = ", ".join(sorted(receipt)) if isinstance(receipt, dict) else type(receipt).__name__
        required, optional = ", ".join(sorted(REQUIRED_FIELDS)), ", ".join(sorted(OPTIONAL_FIELDS))
        raise VerificationError(f"the receipt has {actual_fields}; expected {required} and perhaps {optional}")
    if receipt["receipt"] != 1:
        raise VerificationError(f"the receipt has version {receipt['receipt']!r}; this program reads version 1")
    return receipt


def parse_strict_json(content: bytes) -> Any:
    """JSON in UTF-8 without a byte order mark and without duplicate keys. Raises ValueError.

    `json.loads` alone would guess other encodings and keep the last of two equal keys.
    """
    text, depth = content.decode(), 0
    value = json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    if text.count("[") + text.count("{") <= MAX_JSON_DEPTH:  # true of every receipt that we issue
        return value
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[][{}]', text):
        depth += (token in "[{") - (token in "]}")
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_JSON_DEPTH} levels")
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("an object has the same key twice")
    return parsed


def decode_base64(encoded: bytes) -> bytes:
    """Canonical base64 only, without stray bits at the end. Raises ValueError."""
    decoded = base64.b64decode(encoded, validate=True)
    if base64.b64encode(decoded) != encoded:
        raise ValueError("expected canonical base64")
    return decoded


class ReceiptVerifier:
    """Verifies receipts with one public key. Verified checkpoints are cached."""

    def __init__(self, key: Ed25519PublicKey):
        self.key = key
        self._cache: dict[str, Checkpoint] = {}

    def checkpoint(self, note: str) -> Checkpoint:
        """The verified checkpoint of a note. Raises VerificationError."""
        checkpoint = self._cache.get(note)
        if checkpoint is None:
            if len(self._cache) >= 1_000:
                self._cache.clear()
            checkpoint = self._cache[note] = verify_checkpoint(note, self.key)
        return checkpoint

    def verify(
        self, receipt: Mapping[str, Any], answer: bytes | None = None, request: bytes | None = None
    ) -> Checkpoint:
        """Verify the receipt, and `answer` and `request` where given; return its checkpoint. Raises VerificationError.

        answer: the decision, exactly the bytes that were sent. request: the JSON body that it answers.
        """
        try:
            return self._verify(receipt, answer, request)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise VerificationError(f"the receipt is malformed: {type(error).__name__} {error}") from error

    def _verify(self, receipt: Mapping[str, Any], answer: bytes | None, request: bytes | None) -> Checkpoint:
        leaf = receipt["leaf"]
        checkpoint = self.checkpoint(receipt["checkpoint"])
        path = [_parse_digest(item) for item in _require_list(receipt["proof"])]
        if (
            root_from_inclusion_proof(
                _require_int(receipt["index"]), checkpoint.size, leaf_hash(canonical_json(leaf)), path
            )
            != checkpoint.root
        ):
            raise VerificationError("the leaf is not in the log: the leaf, index or proof of the receipt was altered")
        if seconds_between(checkpoint.timestamp, leaf["at"]) > MAX_CLOCK_SKEW_SECONDS:
            raise VerificationError(f"the leaf is dated {leaf['at']}, after its checkpoint of {checkpoint.timestamp}")
        lineage = receipt.get("lineage")
        if lineage is not None and hashlib.sha256(canonical_json(lineage)).hexdigest() != leaf["lineage"]:
            raise VerificationError("the lineage differs from the one in the log")
        row = receipt.get("row")
        if (row is not None) != (leaf["kind"] == "chunk"):
            raise VerificationError("a receipt has a row if and only if its leaf is a chunk of a batch")
        if row is not None:
            self._verify_row(leaf, row, answer)
        elif answer is not None:
            self._verify_answer(leaf, bytes.fromhex(receipt["salt"]), answer)
        if request is not None:
            self._verify_request(leaf, receipt["salt"], request)
        return checkpoint

    def _verify_answer(self, leaf: Mapping[str, Any], salt: bytes, answer: bytes) -> None:
        """A decision byte by byte; the reading of a slide as any JSON that is equal to it."""
        if leaf["kind"] == "slide_state":
            if salted_digest(salt, canonical_json(parse_strict_json(answer))) != leaf["reading"]:
                raise VerificationError("the reading differs from the one that was recorded")
        elif salted_digest(salt, answer) != leaf["answer"]:
            raise VerificationError("the answer differs from the recorded one; supply exactly the bytes that were sent")

    def _verify_row(self, leaf: Mapping[str, Any], row: Mapping[str, Any], answer: bytes | None) -> None:
        if set(row) - {"row", "hash", "proof", "salt"}:
            raise VerificationError("the row of the receipt has unknown fields; expected hash, proof, row, salt")
        position = _require_int(row["row"]) - _require_int(leaf["first"])
        path = [_parse_digest(item) for item in _require_list(row["proof"])]
        if root_from_inclusion_proof(
            position, _require_int(leaf["rows"]), _parse_digest(row["hash"]), path
        ) != _parse_digest(leaf["root"]):
            raise VerificationError("the row is not in the chunk that the log records")
        if answer is not None and leaf_hash(bytes.fromhex(row["salt"]) + answer) != _parse_digest(row["hash"]):
            raise VerificationError("the answer differs from the recorded row; supply exactly the bytes that were sent")

    def _verify_request(self, leaf: Mapping[str, Any], salt: str, request: bytes) -> None:
        if "request" not in leaf:
            raise VerificationError("the receipt is not for a decision on a single applicant, so it proves no request")
        payload, recorded, salt_bytes = parse_strict_json(request), leaf["request"], bytes.fromhex(salt)
        if not isinstance(payload, dict) or not isinstance(recorded, dict):
            raise VerificationError("the request is not a JSON object")
        if mismatches := sorted(set(payload) ^ set(recorded)):
            raise VerificationError(f"the request and the recorded one differ in having {', '.join(mismatches)}")
        for name, value in payload.items():
            if salted_digest(salt_bytes, name.encode() + b"\0" + canonical_indicators(value)) != recorded[name]:
                raise VerificationError(f"{name} differs from the one in the recorded request")


def seconds_between(earlier: str, later: str) -> float:
    """Seconds from one time to another, written as 2026-11-25T08:00:00.000Z. Raises ValueError."""
    if not (TIME_PATTERN.fullmatch(earlier) and TIME_PATTERN.fullmatch(later)):
        raise ValueError(f"{earlier[:40]!r} or {later[:40]!r} is not a time such as 2026-11-25T08:00:00.000Z")
    return (datetime.fromisoformat(later[:-1]) - datetime.fromisoformat(earlier[:-1])).total_seconds()


def canonical_indicators(values: Any) -> bytes:
    """The bytes whose salted digest records inputs, or one field of a request: numbers in the shortest form that parses
    to the same value."""

    def encode(value: Any) -> str:
        if isinstance(value, float):
            digits, _, exponent = repr(value).partition("e-0")
            if exponent == "5":
                sign, significant_digits = "-" * digits.startswith("-"), digits.strip("-").replace(".", "")
                return f"{sign}0.0000{significant_digits}"
            return f"{digits}e-{exponent}" if exponent else digits
        if isinstance(value, Mapping):
            return "{" + ",".join(f"{encode(str(key))}:{encode(value[key])}" for key in sorted(value)) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(encode, value)) + "]"
        return json.dumps(value, ensure_ascii=False)

    return encode(values).encode()


def summary_lines(receipt: Mapping[str, Any]) -> list[str]:
    """What the receipt states, one fact per line. Until the receipt is verified these are unverified claims."""
    leaf, lineage = receipt["leaf"], receipt.get("lineage") or {}
    row, price = receipt.get("row"), leaf.get("price") or {}
    fields = [
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
    return [f"{name:<20} {_printable(value)}" for name, value in fields if value and str(value).strip()]


def _printable(value: Any) -> str:
    """The value on one line, with ? in place of control characters."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def _parse_digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != 32:
        raise VerificationError(f"a digest has {len(digest)} bytes; expected 32")
    return digest


def _require_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise VerificationError(f"expected a list, found {type(value).__name__}")
    return value


def _require_int(value: Any) -> int:
    if type(value) is not int:
        raise VerificationError(f"expected an integer, found {value!r}")
    return value


def main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3):
        print(__doc__)
        return 2
    try:
        key = load_public_key(Path(arguments[0]).read_bytes())
        receipt = parse_receipt(Path(arguments[1]).read_bytes())
        answer = Path(arguments[2]).read_bytes() if len(arguments) == 3 else None
        checkpoint = ReceiptVerifier(key).verify(receipt, answer)
    except (VerificationError, OSError) as error:
        print(f"NOT GENUINE 不可信: {error}")
        return 1
    verdict = "this answer is genuine 答复属实" if answer is not None else "the receipt is genuine 凭证属实"
    print(
        f"{verdict}: signed by {checkpoint.origin} at {checkpoint.timestamp} over {checkpoint.size} leaves",
        *summary_lines(receipt),
        sep="\n",
    )
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
