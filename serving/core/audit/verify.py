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

MAX_RECEIPT_BYTES = 1_000_000  # bytes of a receipt
MAX_JSON_DEPTH = 100  # lists and objects within one another
REQUIRED_FIELDS = {"receipt", "leaf", "index", "proof", "checkpoint"}
OPTIONAL_FIELDS = {"lineage", "salt", "row"}
BEGIN, END = "-----BEGIN YUHENG RECEIPT-----", "-----END YUHENG RECEIPT-----"


class VerificationError(Exception):
    """The receipt does not prove what it says; the message tells what was found and what was needed."""


@dataclass(frozen=True)
class Checkpoint:
    """What the log's key signed: at `at`, its first `size` leaves had this root."""

    origin: str
    size: int
    root: bytes
    timestamp: str


def leaf_hash(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def salted_digest(salt: bytes, content: bytes) -> str:
    """A digest that tells nothing of guessable content to whom the salt is not given."""
    return hashlib.sha256(salt + content).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Keys sorted, no blanks, UTF-8: of a leaf or a lineage, which hold no fractions, RFC 8785."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def root_from_inclusion_proof(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that a leaf's hash and its inclusion path lead to (RFC 9162, 2.1.3.2). Raises NotProved."""
    if not 0 <= index < size:
        raise VerificationError(f"the leaf {index} is not among the {size} of the checkpoint")
    position, last_position, digest = index, size - 1, leaf
    for sibling in path:
        if last_position == 0:
            raise VerificationError("the proof is too long")
        if position & 1 or position == last_position:
            digest = node_hash(sibling, digest)
            while not position & 1 and position:
                position, last_position = position >> 1, last_position >> 1
        else:
            digest = node_hash(digest, sibling)
        position, last_position = position >> 1, last_position >> 1
    if last_position:
        raise VerificationError("the proof is too short")
    return digest


# --- the signed note


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(
            f"the key cannot be read ({error}); the PEM of an Ed25519 public key is needed"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise VerificationError("the key is of another kind; the PEM of an Ed25519 public key is needed")
    return key


def key_id(origin: str, key: Ed25519PublicKey) -> bytes:
    """The four bytes that name a key before its signature (C2SP signed-note)."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(origin.encode() + b"\n\x01" + raw).digest()[:4]


def parse_note(note: str) -> tuple[Checkpoint, bytes, list[tuple[str, bytes]]]:
    """(checkpoint, the signed text, its signatures with their key's four bytes), nothing verified."""
    text, separator, signature_block = note.partition("\n\n")
    lines = text.split("\n")
    try:
        if not separator or len(lines) < 3 or not lines[1].isascii() or not lines[1].isdigit():
            raise ValueError("origin, size and root, then a blank line and signatures, are needed")
        root = decode_base64(lines[2].encode())
        if len(root) != 32 or str(int(lines[1])) != lines[1]:
            raise ValueError("a size and a root of 32 bytes are needed")
        signatures = []
        for line in signature_block.splitlines():
            dash, name, signature = line.split(" ")
            if dash != "—":
                raise ValueError(f"{line[:20]!r} is no signature")
            signatures.append((name, decode_base64(signature.encode())))
    except (ValueError, binascii.Error) as error:
        raise VerificationError(f"the checkpoint cannot be read: {error}") from error
    timestamp = next((line[3:] for line in lines[3:] if line.startswith("at ")), "")
    return Checkpoint(lines[0], int(lines[1]), root, timestamp), (text + "\n").encode(), signatures


def verify_checkpoint(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint of a note that the key signed. Raises NotProved."""
    checkpoint, text, signatures = parse_note(note)
    expected_key_id = key_id(checkpoint.origin, key)
    for name, signature in signatures:
        if name == checkpoint.origin and signature[:4] == expected_key_id:
            try:
                key.verify(signature[4:], text)
            except InvalidSignature as error:
                raise VerificationError(
                    "the checkpoint's signature is false: it was altered after it was signed"
                ) from error
            return checkpoint
    raise VerificationError(f"this key did not sign the checkpoint of {checkpoint.origin!r}; take the key of that log")


# --- the receipt


def parse_receipt(content: bytes) -> dict[str, Any]:
    """Of JSON, or of the printed form around it. Raises NotProved."""
    if len(content) > MAX_RECEIPT_BYTES:
        raise VerificationError(f"the receipt has {len(content):,} bytes; at most {MAX_RECEIPT_BYTES:,} are read")
    try:
        if BEGIN.encode() in content:
            block = content.decode().partition(BEGIN)[2].partition(END)[0]
            compressed = decode_base64(b"".join(block.encode().split()))  # of bytes: ASCII blanks alone
            decompressor = zlib.decompressobj()
            content = decompressor.decompress(compressed, MAX_RECEIPT_BYTES + 1)
            if len(content) > MAX_RECEIPT_BYTES:
                raise ValueError("it is too large")
            if not decompressor.eof or decompressor.unused_data:
                raise ValueError("its block is cut short, or more follows it")
        receipt = parse_strict_json(content)
    except (ValueError, zlib.error, RecursionError) as error:
        raise VerificationError(f"the receipt cannot be read: {error}") from error
    if (
        not isinstance(receipt, dict)
        or not set(receipt) >= REQUIRED_FIELDS
        or set(receipt) - REQUIRED_FIELDS - OPTIONAL_FIELDS
    ):
        actual_fields = ", ".join(sorted(receipt)) if isinstance(receipt, dict) else type(receipt).__name__
        raise VerificationError(
            f"a receipt holds {', '.join(sorted(REQUIRED_FIELDS))} and may hold {', '.join(sorted(OPTIONAL_FIELDS))}; {actual_fields}"
        )
    if receipt["receipt"] != 1:
        raise VerificationError(f"the receipt is of version {receipt['receipt']!r}; this program reads version 1")
    return receipt


def parse_strict_json(content: bytes) -> Any:
    """Of UTF-8 without a mark before it, each name once in its object; `json.loads` alone would guess other encodings,
    and take the last of two. Raises ValueError."""
    text, depth = content.decode(), 0
    value = json.loads(text, object_pairs_hook=_reject_duplicate_keys)
    if text.count("[") + text.count("{") <= MAX_JSON_DEPTH:  # as in every receipt of ours: nothing to walk through
        return value
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[][{}]', text):
        depth += (token in "[{") - (token in "]}")
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"a depth of at most {MAX_JSON_DEPTH} is needed")
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("each name once in its object is needed")
    return parsed


def decode_base64(encoded: bytes) -> bytes:
    """The one way to write these bytes: with no bit left over at the end. Raises ValueError."""
    decoded = base64.b64decode(encoded, validate=True)
    if base64.b64encode(decoded) != encoded:
        raise ValueError("base64 without a bit left over is needed")
    return decoded


class ReceiptVerifier:
    """Holds one public key; a checkpoint seen before is not verified again."""

    def __init__(self, key: Ed25519PublicKey):
        self.key = key
        self._cache: dict[str, Checkpoint] = {}

    def checkpoint(self, note: str) -> Checkpoint:
        checkpoint = self._cache.get(note)
        if checkpoint is None:
            if len(self._cache) >= 1_000:
                self._cache.clear()
            checkpoint = self._cache[note] = verify_checkpoint(note, self.key)
        return checkpoint

    def verify(
        self, receipt: Mapping[str, Any], answer: bytes | None = None, request: bytes | None = None
    ) -> Checkpoint:
        """The checkpoint by which all of the receipt is proved, and `answer` and `request` with it. Raises NotProved.

        answer: the decision's bytes, as they were sent; request: the JSON that was asked with.
        """
        try:
            return self._verify(receipt, answer, request)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise VerificationError(f"the receipt is not whole: {type(error).__name__} {error}") from error

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
            raise VerificationError("the leaf is not in the log: the receipt's leaf, index or proof was altered")
        lineage = receipt.get("lineage")
        if lineage is not None and hashlib.sha256(canonical_json(lineage)).hexdigest() != leaf["lineage"]:
            raise VerificationError("the lineage is not the one that the log holds")
        row = receipt.get("row")
        if (row is not None) != (leaf["kind"] == "chunk"):
            raise VerificationError("a row is proved by a receipt of its batch's chunk, and by no other")
        if row is not None:
            self._verify_row(leaf, row, answer)
        elif answer is not None:
            self._verify_answer(leaf, bytes.fromhex(receipt["salt"]), answer)
        if request is not None:
            self._verify_request(leaf, receipt["salt"], request)
        return checkpoint

    def _verify_answer(self, leaf: Mapping[str, Any], salt: bytes, answer: bytes) -> None:
        """A decision's bytes; of a slide its reading, as any JSON of it."""
        if leaf["kind"] == "slide_state":
            if salted_digest(salt, canonical_json(parse_strict_json(answer))) != leaf["reading"]:
                raise VerificationError("the reading is not the one that was recorded")
        elif salted_digest(salt, answer) != leaf["answer"]:
            raise VerificationError("the answer is not the one that was recorded; give its bytes as they were sent")

    def _verify_row(self, leaf: Mapping[str, Any], row: Mapping[str, Any], answer: bytes | None) -> None:
        if set(row) - {"row", "hash", "proof", "salt"}:
            raise VerificationError("the receipt's row holds more than its proof")
        position = _require_int(row["row"]) - _require_int(leaf["first"])
        path = [_parse_digest(item) for item in _require_list(row["proof"])]
        if root_from_inclusion_proof(
            position, _require_int(leaf["rows"]), _parse_digest(row["hash"]), path
        ) != _parse_digest(leaf["root"]):
            raise VerificationError("the row is not in the chunk that the log holds")
        if answer is not None and leaf_hash(bytes.fromhex(row["salt"]) + answer) != _parse_digest(row["hash"]):
            raise VerificationError("the answer is not the row that was recorded; give its bytes as they were sent")

    def _verify_request(self, leaf: Mapping[str, Any], salt: str, request: bytes) -> None:
        if "inputs" not in leaf:
            raise VerificationError("this receipt is not of a decision on one applicant, so it proves no inputs")
        payload = parse_strict_json(request)
        if salted_digest(bytes.fromhex(salt), canonical_indicators(payload["indicators"])) != leaf["inputs"]:
            raise VerificationError("the inputs are not those that the decision was made on")


def canonical_indicators(values: Mapping[str, Any]) -> bytes:
    """The bytes whose salted digest stands for the inputs: numbers as their shortest form that reads back the same."""

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
    """What the receipt says, a line each. True where it was verified; above a printed receipt it is a claim."""
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
    """On one line, whatever it holds."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def _parse_digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != 32:
        raise VerificationError(f"a digest of 32 bytes is needed; found {len(digest)}")
    return digest


def _require_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise VerificationError(f"a list is needed; found {type(value).__name__}")
    return value


def _require_int(value: Any) -> int:
    if type(value) is not int:
        raise VerificationError(f"a whole number is needed; found {value!r}")
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
        f"{verdict}: {checkpoint.origin} signed it at {checkpoint.timestamp} over {checkpoint.size} leaves",
        *summary_lines(receipt),
        sep="\n",
    )
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
