"""Write and verify bundles: everything that training hands to serving, signed as a whole.

    model.onnx    the graph            policy.toml   the policy of the decision
    card.json     what it is           model.sig     OpenSSF model signature over all of them
    slide.onnx, int8.onnx              further graphs of a model that reads slides

A folder with more or fewer files is refused, so there is no place for ONNX external data, pickles or joblib files.
Files are read once, and the digests of exactly these bytes are compared with the signed ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, overload

from pydantic import ValidationError
from typing_extensions import TypeVar

from models.card import BaseCard, Card

GRAPH, CARD, POLICY, SIGNATURE = "model.onnx", "card.json", "policy.toml", "model.sig"
REQUIRED_FILES = (GRAPH, CARD, POLICY)
SLIDE_GRAPH, INT8_GRAPH = "slide.onnx", "int8.onnx"
OPTIONAL_FILES = (SLIDE_GRAPH, INT8_GRAPH)  # what a bundle may hold beside
CardT = TypeVar("CardT", bound=BaseCard, default=Card)
MAX_FILE_BYTES = 512 * 1024 * 1024  # bytes of one file; the tabular graphs are a few MB


class BundleError(Exception):
    """A folder that is not a bundle signed with our key. Keep the serving model and publish the bundle again."""


@dataclass(frozen=True)
class VerifiedBundle:
    """The signed bytes by file name. digest: SHA-256 over the signed digests of the files."""

    folder: Path
    files: Mapping[str, bytes]
    digest: str

    @property
    def product(self) -> str:
        """The product that the card names; an empty text if the card is invalid."""
        try:
            return str(json.loads(self.files[CARD])["product"])
        except (ValueError, KeyError, TypeError):
            return ""


def unverified_product(folder: Path) -> str:
    """The product that an unverified card names, or an empty text. Use it only to say which product has an alarm."""
    try:
        return str(json.loads((folder / CARD).read_bytes())["product"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@dataclass(frozen=True)
class Bundle(Generic[CardT]):
    """A verified bundle in memory. extra_graphs: further graphs by file name."""

    card: CardT
    graph: bytes
    policy: bytes
    digest: str
    extra_graphs: Mapping[str, bytes] = field(default_factory=dict)


def create_signing_keys(folder: Path, name: str = "signing") -> tuple[Path, Path]:
    """(private, public) PEM files of an ECDSA P-256 key pair; created once, the private one with mode 0600."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private_path, public_path = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    if not private_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        private_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private_pem)
        public_path.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    return private_path, public_path


def write_bundle(
    folder: Path,
    *,
    graph: bytes,
    card: BaseCard,
    policy: bytes,
    private_key: Path,
    extra_graphs: Mapping[str, bytes] | None = None,
) -> Path:
    """Write and sign a bundle at `folder`, which appears completely or not at all. Raises FileExistsError if it exists.

    `extra_graphs`: further graphs, each named in OPTIONAL_FILES.
    """
    if unexpected := set(extra_graphs or {}) - set(OPTIONAL_FILES):
        raise ValueError(
            f"{sorted(unexpected)} cannot be in a bundle; beside the graph it may hold {', '.join(OPTIONAL_FILES)}."
        )
    contents = {GRAPH: graph, CARD: card.model_dump_json(indent=1).encode(), POLICY: policy, **(extra_graphs or {})}
    return sign_bundle(folder, contents, private_key)


def sign_bundle(folder: Path, contents: Mapping[str, bytes], private_key: Path) -> Path:
    """Write these files at `folder` with a signature by `private_key`, completely or not at all.

    The digest of the bundle depends on its files alone: the same files signed with another key keep it. Raises
    FileExistsError if the folder exists.
    """
    from model_signing import hashing, signing

    if folder.exists():
        raise FileExistsError(f"{folder}: a bundle is never overwritten. Choose another version.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temp_folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        for name, content in contents.items():
            (temp_folder / name).write_bytes(content)
        hashing_config = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
        signer.set_hashing_config(hashing_config).sign(temp_folder, temp_folder / SIGNATURE)
        for path in temp_folder.iterdir():
            _fsync(path)
        temp_folder.chmod(0o755)
        temp_folder.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(temp_folder, ignore_errors=True)
    return folder


def verify_bundle(folder: Path, public_key: Path) -> VerifiedBundle:
    """The files of a bundle, after verifying the signature and every digest. Raises BundleError."""
    actual = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    required = {*REQUIRED_FILES, SIGNATURE}
    if not required <= actual <= required | {*OPTIONAL_FILES}:
        raise BundleError(
            f"{folder}: holds {', '.join(sorted(actual)) or 'nothing'}; exactly {', '.join(sorted(required))} is needed"
            f" (a model of slides may bring {' and '.join(OPTIONAL_FILES)})."
        )
    for name in actual:
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(
                f"{path}: is a link, not a file, or over {MAX_FILE_BYTES:,} bytes; a plain file is needed."
            )
    contents = {name: (folder / name).read_bytes() for name in sorted(actual - {SIGNATURE})}
    digest, signed_digests = _verify_signature(folder, public_key)
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != signed_digests.get(name):
            raise BundleError(f"{folder / name}: changed after it was signed. Publish the bundle again.")
    return VerifiedBundle(folder, contents, digest)


def parse_bundle(verified: VerifiedBundle, card_type: type[CardT]) -> Bundle[CardT]:
    """The bundle with its card as `card_type`. Raises BundleError if the card is invalid."""
    files = verified.files
    try:
        card = card_type.model_validate_json(files[CARD])
    except ValidationError as error:
        raise BundleError(
            f"{verified.folder / CARD}: {error}. It was written for another version of this software."
        ) from error
    extra_graphs = {name: files[name] for name in OPTIONAL_FILES if name in files}
    return Bundle(card, files[GRAPH], files[POLICY], verified.digest, extra_graphs)


@overload
def load_bundle(folder: Path, public_key: Path) -> Bundle[Card]: ...
@overload
def load_bundle(folder: Path, public_key: Path, card_type: type[CardT]) -> Bundle[CardT]: ...
def load_bundle(folder: Path, public_key: Path, card_type: type[BaseCard] = Card) -> Bundle[BaseCard]:  # type: ignore[misc]
    """Read a bundle after verifying its signature and digests. card_type: type of its card. Raises BundleError."""
    return parse_bundle(verify_bundle(folder, public_key), card_type)


def _verify_signature(folder: Path, public_key: Path) -> tuple[str, dict[str, str]]:
    """(digest of the bundle, signed digest of each file)."""
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, folder / SIGNATURE)
        envelope = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        signed_digests = {item["name"]: item["digest"] for item in statement["predicate"]["resources"]}
        return statement["subject"][0]["digest"]["sha256"], signed_digests
    except (ValueError, KeyError, IndexError, TypeError, OSError, InvalidSignature) as error:
        raise BundleError(
            f"{folder}: its signature does not hold for {public_key.name}: {error or type(error).__name__}. "
            "Publish the bundle again, signed with the key that this service trusts."
        ) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_alias(bundles: Path, alias: str, version: str) -> None:
    """Let `alias` (`champion`, `challenger`) mean `version` in the folder of one model's bundles; atomic."""
    if not (bundles / version / CARD).exists():
        raise BundleError(f"{bundles / version}: there is no such bundle. Train or copy it first.")
    temp_path = bundles / f".{alias}.{os.getpid()}"
    temp_path.write_text(version + "\n", encoding="utf-8")
    _fsync(temp_path)
    temp_path.replace(bundles / alias)


def read_alias(bundles: Path, alias: str = "champion") -> str | None:
    """The version that `alias` points to, or None. Bytes that are not UTF-8 name a version that cannot exist."""
    try:
        return (bundles / alias).read_text(encoding="utf-8", errors="replace").strip() or None
    except FileNotFoundError:
        return None
