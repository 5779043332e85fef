"""Sign the champions with the release key and pack them for shipping (python -m training release).

    models/released/<model>/<version>.tar.xz    one archive per model; that of an earlier version is removed
    models/released/release.pub.pem             the public key

The private key is read from --key and created there on first use; it must not be stored in the repository. A model that
has no champion is released again as it ships, which a new key requires; its version and digest stay.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models import bundle
from models.bundle import SIGNATURE, BundleError
from models.bundle_archive import SUFFIX, pack, unpack
from models.card import AnyCard

RELEASED = Path(__file__).parents[1] / "models" / "released"
PUBLIC_KEY = "release.pub.pem"
RELEASED_MODELS = ("credit_limit", "credit_limit_taiwan", "scitech_risk", "pathology")


@dataclass(frozen=True)
class Released:
    """A released model: its archive, and the size of its files in bytes, unpacked and packed."""

    model: str
    version: str
    digest: str
    archive: Path
    unpacked: int
    packed: int


def release_models(
    models: Sequence[str], var: Path, private_key: Path, to: Path = RELEASED, new_key: bool = False
) -> Iterator[Released]:
    """Release the champions of `models`; all are verified before the first is written. Raises BundleError.

    var: where the champions are; private_key: the release key; to: the folder of the archives; new_key: replace the
    key that ships, which requires that every model is released again.
    """
    champions = {model: _champion(var, model) or _shipped(to, model) for model in models}
    private, public = bundle.create_signing_keys(private_key.parent, private_key.stem)
    shipped = to / PUBLIC_KEY
    if shipped.exists() and shipped.read_bytes() != public.read_bytes():
        others = sorted({folder.parent.name for folder in to.glob(f"*/*{SUFFIX}")} - set(models))
        if not new_key or others:
            hint = f"Release these models with it too: {', '.join(others)}" if new_key else "Pass --key or --new-key"
            raise BundleError(f"{shipped} is not the public key of {private}. {hint}.")
    to.mkdir(parents=True, exist_ok=True)
    shipped.write_bytes(public.read_bytes())
    for model, (verified, version) in champions.items():
        with tempfile.TemporaryDirectory() as scratch:
            signed = bundle.sign_bundle(Path(scratch) / version, verified.files, private)
            files = {**verified.files, SIGNATURE: (signed / SIGNATURE).read_bytes()}
            digest = bundle.verify_bundle(signed, public).digest
        if digest != verified.digest:
            raise BundleError(f"{model} {version}: its digest changed from {verified.digest} to {digest}.")
        archive = to / model / f"{version}{SUFFIX}"
        archive.parent.mkdir(exist_ok=True)
        packed = pack(files)
        archive.write_bytes(packed)
        for earlier in archive.parent.glob(f"*{SUFFIX}"):
            if earlier != archive:
                earlier.unlink()
        yield Released(model, version, digest, archive, sum(map(len, files.values())), len(packed))


def _shipped(released: Path, model: str) -> tuple[bundle.VerifiedBundle, str]:
    """The model as it ships, verified with the key that ships; returns it with its version."""
    archives = sorted((released / model).glob(f"*{SUFFIX}"))
    if len(archives) != 1:
        raise BundleError(f"{model} has neither a champion nor one archive in {released}. Train one first: make train")
    with tempfile.TemporaryDirectory() as scratch:
        unpack(archives[0], Path(scratch))
        return bundle.verify_bundle(Path(scratch), released / PUBLIC_KEY), archives[0].name.removesuffix(SUFFIX)


def _champion(var: Path, model: str) -> tuple[bundle.VerifiedBundle, str] | None:
    """Verify the model's champion with the training key; returns it with its version, or None where there is none. It
    must have passed the gate.
    """
    folder = var / "bundles" / model
    version = bundle.read_alias(folder)
    if version is None:
        return None
    verified = bundle.verify_bundle(folder / version, var / "keys" / "signing.pub.pem")
    card = bundle.parse_bundle(verified, AnyCard).card
    if card.verdict is None or not card.verdict.passed:
        raise BundleError(f"{model} {version} did not pass the gate; only models that passed are released.")
    return verified, version
