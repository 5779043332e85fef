"""The models that ship with the project, installed where none of their name serves yet.

    models/released/release.pub.pem             whose signature counts
    models/released/<model>/<version>.tar.xz    one signed bundle each

A released bundle is verified with the release key first: its signature and the digest of every file. Then those very
bytes are signed with this installation's own key, the only one that the service trusts. The bundle's digest stays the
released one, so receipts and traces name what was released.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models import bundle
from models.bundle import BundleError
from models.bundle_archive import SUFFIX, unpack
from models.card import AnyCard
from serving.settings import PathSettings

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "models" / "released"
RELEASE_KEY = "release.pub.pem"


@dataclass(frozen=True)
class Installed:
    model: str
    version: str
    digest: str
    files: int  # whose digests were verified
    simulated: bool


def find_archives(released: Path = RELEASED) -> dict[str, Path]:
    """Model -> its released archive. Raises BundleError where a model has more than one."""
    archives: dict[str, Path] = {}
    for archive in sorted(released.glob(f"*/*{SUFFIX}")):
        model = archive.parent.name
        if model in archives:
            raise BundleError(f"{archive.parent}: holds more than one released bundle; exactly one is needed.")
        archives[model] = archive
    return archives


def install_from(paths: PathSettings, released: Path = RELEASED) -> list[Installed]:
    """As `install`, with the private half of the key that the service trusts, made on first use."""
    suffix = ".pub.pem"
    folder, name = paths.public_key.parent, paths.public_key.name
    if not name.endswith(suffix):
        raise BundleError(
            f"paths.public_key is {paths.public_key}; to sign what is installed, <name>{suffix} is needed."
        )
    private, _ = bundle.create_signing_keys(folder, name.removesuffix(suffix))
    return install(paths.bundles, private, released)


def install(bundles: Path, private_key: Path, released: Path = RELEASED) -> list[Installed]:
    """Install each released model that has no champion under `bundles`; those installed. Raises BundleError.

    Nothing is installed where any of them is refused.
    """
    missing = {model: file for model, file in find_archives(released).items() if not bundle.read_alias(bundles / model)}
    verified = {model: read_archive(archive, released / RELEASE_KEY) for model, archive in missing.items()}
    installed = []
    for model, (release, card) in verified.items():
        folder = bundles / model / card.version
        if not folder.exists():
            bundle.sign_bundle(folder, release.files, private_key)
        bundle.set_alias(bundles / model, "champion", card.version)
        installed.append(Installed(model, card.version, release.digest, len(release.files), card.simulated))
    return installed


def read_archive(archive: Path, public_key: Path) -> tuple[bundle.VerifiedBundle, AnyCard]:
    """The bundle in `archive` and its card, once the release key's signature and every digest hold.

    Raises BundleError, which says what was found, what is needed and what to do.
    """
    if not public_key.is_file():
        raise BundleError(f"{public_key}: is missing, so nothing shows who released {archive.name}. Restore it.")
    with tempfile.TemporaryDirectory(prefix="yuheng-release-") as scratch:
        folder = Path(scratch)
        unpack(archive, folder)
        try:
            verified = bundle.verify_bundle(folder, public_key)
            card = bundle.parse_bundle(verified, AnyCard).card
        except BundleError as error:
            reason = str(error).replace(scratch + os.sep, "").replace(scratch, archive.name)
            raise BundleError(
                f"{archive}: is not the bundle that was released, so it is not installed. {reason} "
                f"Restore the file from the project's repository, or train the model: make train\n"
                f"{archive.name} 与发布时不符（签名或摘要不匹配），未安装。"
                "请从项目仓库恢复该文件，或运行 make train 重新训练。"
            ) from error
    expected = archive.parent.name, archive.name.removesuffix(SUFFIX)
    if (card.model, card.version) != expected:
        raise BundleError(
            f"{archive}: its card says {card.model} {card.version}; {' '.join(expected)} is needed. "
            "Restore the file from the project's repository."
        )
    return verified, card
