"""The bundle: all that crosses from training to serving, signed as a whole.

    model.onnx    the graph            policy.toml   the decision's policy
    card.json     what it is           model.sig     OpenSSF model signature over all of them
    slide.onnx, int8.onnx              further graphs, of a model that reads slides

A folder with anything else in it, or anything less, is refused: ONNX external data, pickles and joblib files have no
place to stand. Files are read once and it is those very bytes whose digests are compared with the signed ones.
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

from models.card import Card, Stamp

GRAPH, CARD, POLICY, SIGNATURE = "model.onnx", "card.json", "policy.toml", "model.sig"
CONTENTS = (GRAPH, CARD, POLICY)
SLIDE_GRAPH, SMALL_GRAPH = "slide.onnx", "int8.onnx"
MORE = (SLIDE_GRAPH, SMALL_GRAPH)  # what a bundle may hold beside
C = TypeVar("C", bound=Stamp, default=Card)
LARGEST = 512 * 1024 * 1024  # bytes of one file; the tabular graphs are a few MB


class BundleRefused(Exception):
    """The folder is not a bundle that our key signed. Keep the model that is serving; publish the bundle again."""


@dataclass(frozen=True)
class Verified:
    """The very bytes that were signed, by file name. `digest` is SHA-256 over the signed digests of the files."""

    place: Path
    files: Mapping[str, bytes]
    digest: str

    @property
    def product(self) -> str:
        """As the card names it; empty where the card is no card."""
        try:
            return str(json.loads(self.files[CARD])["product"])
        except (ValueError, KeyError, TypeError):
            return ""


def claimed(folder: Path) -> str:
    """The product that an unverified card names; empty where there is no telling. Whose alarm it is, and no more."""
    try:
        return str(json.loads((folder / CARD).read_bytes())["product"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@dataclass(frozen=True)
class Bundle(Generic[C]):
    """A verified bundle in memory. `more`: its further graphs by file name."""

    card: C
    graph: bytes
    policy: bytes
    digest: str
    more: Mapping[str, bytes] = field(default_factory=dict)


def make_keys(folder: Path, name: str = "signing") -> tuple[Path, Path]:
    """(private, public) PEM files of an ECDSA P-256 key pair; made once, the private one with mode 0600."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    if not private.exists():
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    return private, public


def write(
    folder: Path,
    *,
    graph: bytes,
    card: Stamp,
    policy: bytes,
    private_key: Path,
    more: Mapping[str, bytes] | None = None,
) -> Path:
    """Write and sign a bundle at `folder`, which appears whole or not at all. Raises FileExistsError if it is there.

    `more`: further graphs, each named in MORE.
    """
    if strange := set(more or {}) - set(MORE):
        raise ValueError(f"{sorted(strange)} cannot be in a bundle; beside the graph it may hold {', '.join(MORE)}.")
    contents = {GRAPH: graph, CARD: card.model_dump_json(indent=1).encode(), POLICY: policy, **(more or {})}
    return sign(folder, contents, private_key)


def sign(folder: Path, contents: Mapping[str, bytes], private_key: Path) -> Path:
    """Write these files at `folder` with a signature of `private_key`, whole or not at all.

    The digest of the bundle depends on its files alone: the same files signed with another key keep it. Raises
    FileExistsError if the folder is there.
    """
    from model_signing import hashing, signing

    if folder.exists():
        raise FileExistsError(f"{folder}: a bundle is never overwritten. Choose another version.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        for name, content in contents.items():
            (scratch / name).write_bytes(content)
        ours = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
        signer.set_hashing_config(ours).sign(scratch, scratch / SIGNATURE)
        for path in scratch.iterdir():
            _sync(path)
        scratch.chmod(0o755)
        scratch.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def verify(folder: Path, public_key: Path) -> Verified:
    """The files at `folder`, once the signature and every digest hold; else BundleRefused."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    needed = {*CONTENTS, SIGNATURE}
    if not needed <= found <= needed | {*MORE}:
        raise BundleRefused(
            f"{folder}: holds {', '.join(sorted(found)) or 'nothing'}; exactly {', '.join(sorted(needed))} is needed"
            f" (a model of slides may bring {' and '.join(MORE)})."
        )
    for name in found:
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
            raise BundleRefused(f"{path}: is a link, not a file, or over {LARGEST:,} bytes; a plain file is needed.")
    content = {name: (folder / name).read_bytes() for name in sorted(found - {SIGNATURE})}
    digest, signed = _verify(folder, public_key)
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != signed.get(name):
            raise BundleRefused(f"{folder / name}: changed after it was signed. Publish the bundle again.")
    return Verified(folder, content, digest)


def read(verified: Verified, kind: type[C]) -> Bundle[C]:
    """Its card as `kind`. Raises BundleRefused where it is none."""
    files = verified.files
    try:
        card = kind.model_validate_json(files[CARD])
    except ValidationError as error:
        raise BundleRefused(
            f"{verified.place / CARD}: {error}. It was written for another version of this software."
        ) from error
    more = {name: files[name] for name in MORE if name in files}
    return Bundle(card, files[GRAPH], files[POLICY], verified.digest, more)


@overload
def load(folder: Path, public_key: Path) -> Bundle[Card]: ...
@overload
def load(folder: Path, public_key: Path, kind: type[C]) -> Bundle[C]: ...
def load(folder: Path, public_key: Path, kind: type[Stamp] = Card) -> Bundle[Stamp]:  # type: ignore[misc]
    """The bundle at `folder`, once its signature and every digest hold; else BundleRefused. `kind`: of its card."""
    return read(verify(folder, public_key), kind)


def _verify(folder: Path, public_key: Path) -> tuple[str, dict[str, str]]:
    """(digest of the whole, signed digest of each file)."""
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, folder / SIGNATURE)
        envelope = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        signed = {item["name"]: item["digest"] for item in statement["predicate"]["resources"]}
        return statement["subject"][0]["digest"]["sha256"], signed
    except (ValueError, KeyError, IndexError, TypeError, OSError, InvalidSignature) as error:
        raise BundleRefused(
            f"{folder}: its signature does not hold for {public_key.name}: {error or type(error).__name__}. "
            "Publish the bundle again, signed with the key that this service trusts."
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def point(models: Path, alias: str, version: str) -> None:
    """Let `alias` (`champion`, `challenger`) mean `version` in the folder of one model's bundles; atomic."""
    if not (models / version / CARD).exists():
        raise BundleRefused(f"{models / version}: there is no such bundle. Train or copy it first.")
    scratch = models / f".{alias}.{os.getpid()}"
    scratch.write_text(version + "\n", encoding="utf-8")
    _sync(scratch)
    scratch.replace(models / alias)


def pointed(models: Path, alias: str = "champion") -> str | None:
    """The version that `alias` means, or None where it means none yet."""
    try:
        return (models / alias).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
