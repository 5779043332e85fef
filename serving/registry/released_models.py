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
from models.bundle import BundleRefused
from models.bundle_archive import SUFFIX, unpack
from models.card import AnyCard
from serving.settings import Paths

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
    """Model -> its released archive. Raises BundleRefused where a model has more than one."""
    found: dict[str, Path] = {}
    for archive in sorted(released.glob(f"*/*{SUFFIX}")):
        model = archive.parent.name
        if model in found:
            raise BundleRefused(f"{archive.parent}: holds more than one released bundle; exactly one is needed.")
        found[model] = archive
    return found


def install_from(paths: Paths, released: Path = RELEASED) -> list[Installed]:
    """As `install`, with the private half of the key that the service trusts, made on first use."""
    suffix = ".pub.pem"
    folder, name = paths.public_key.parent, paths.public_key.name
    if not name.endswith(suffix):
        raise BundleRefused(
            f"paths.public_key is {paths.public_key}; to sign what is installed, <name>{suffix} is needed."
        )
    private, _ = bundle.make_keys(folder, name.removesuffix(suffix))
    return install(paths.bundles, private, released)


def install(bundles: Path, private_key: Path, released: Path = RELEASED) -> list[Installed]:
    """Install each released model that has no champion under `bundles`; those installed. Raises BundleRefused.

    Nothing is installed where any of them is refused.
    """
    missing = {model: file for model, file in find_archives(released).items() if not bundle.pointed(bundles / model)}
    verified = {model: read_archive(archive, released / RELEASE_KEY) for model, archive in missing.items()}
    installed = []
    for model, (found, card) in verified.items():
        folder = bundles / model / card.version
        if not folder.exists():
            bundle.sign(folder, found.files, private_key)
        bundle.point(bundles / model, "champion", card.version)
        installed.append(Installed(model, card.version, found.digest, len(found.files), card.simulated))
    return installed


def read_archive(archive: Path, public_key: Path) -> tuple[bundle.Verified, AnyCard]:
    """The bundle in `archive` and its card, once the release key's signature and every digest hold.

    Raises BundleRefused, which says what was found, what is needed and what to do.
    """
    if not public_key.is_file():
        raise BundleRefused(f"{public_key}: is missing, so nothing shows who released {archive.name}. Restore it.")
    with tempfile.TemporaryDirectory(prefix="yuheng-release-") as scratch:
        folder = Path(scratch)
        unpack(archive, folder)
        try:
            found = bundle.verify(folder, public_key)
            card = bundle.read(found, AnyCard).card
        except BundleRefused as error:
            reason = str(error).replace(scratch + os.sep, "").replace(scratch, archive.name)
            raise BundleRefused(
                f"{archive}: is not the bundle that was released, so it is not installed. {reason} "
                f"Restore the file from the project's repository, or train the model: make train\n"
                f"{archive.name} 与发布时不符（签名或摘要不匹配），未安装。"
                "请从项目仓库恢复该文件，或运行 make train 重新训练。"
            ) from error
    expected = archive.parent.name, archive.name.removesuffix(SUFFIX)
    if (card.model, card.version) != expected:
        raise BundleRefused(
            f"{archive}: its card says {card.model} {card.version}; {' '.join(expected)} is needed. "
            "Restore the file from the project's repository."
        )
    return found, card
