"""The bundles on disk: models, their versions, and each version's card once its signature has been verified."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from models.bundle import CARD, BundleError, parse_bundle, read_alias, verify_bundle
from models.card import AnyCard
from serving.registry.loader import modification_times

NAME_PATTERN = re.compile(r"[\w-][\w.-]{0,127}", re.ASCII)
MAX_PAGE_SIZE = 200  # versions on a page
METRIC_NAMES = ("auc", "ks", "brier", "slope", "intercept", "sensitivity", "specificity", "accuracy")


@dataclass(frozen=True)
class StoredVersion:
    """A bundle on disk. `card` is None where the bundle cannot be verified; `error` then says why."""

    model: str
    version: str
    digest: str = ""
    card: AnyCard | None = None
    error: str = ""
    aliases: tuple[str, ...] = field(default=(), compare=False)  # of "champion" and "challenger"

    @property
    def is_champion(self) -> bool:
        return "champion" in self.aliases

    @property
    def gate_passed(self) -> bool | None:
        """The verdict of the promotion gate; None where the card has none, so that the model cannot be promoted."""
        verdict = None if self.card is None else self.card.verdict
        return None if verdict is None else verdict.passed

    @property
    def failed_checks(self) -> list[dict[str, Any]]:
        verdict = None if self.card is None else self.card.verdict
        return [] if verdict is None else [check.model_dump() for check in verdict.checks if not check.passed]

    def to_json(self) -> dict[str, Any]:
        """An item of the list of versions."""
        item: dict[str, Any] = {"version": self.version, "bundle": self.digest, "aliases": list(self.aliases)}
        item |= {"refused": self.error or None, "gate": self.gate_passed}
        if self.card is None:
            return item
        names = {"product", "created", "simulated", "run_id", "git_commit"}
        names |= {"purpose", "not_for", "purpose_zh", "not_for_zh"}
        item |= self.card.model_dump(include=names)
        metrics = self.card.metrics
        item["figures"] = {name: metrics[name] for name in METRIC_NAMES if isinstance(metrics.get(name), dict)}
        item["rows"] = metrics.get("rows")
        return item | {"plots": self.card.plots is not None}


def list_models(bundles: Path) -> list[str]:
    """The names of the models that have at least one version."""
    if not bundles.is_dir():
        return []
    return sorted(
        folder.name for folder in bundles.iterdir() if NAME_PATTERN.fullmatch(folder.name) and list_versions(folder)
    )


def list_versions(folder: Path) -> list[str]:
    """The names of the versions in a model's folder, newest name first."""
    if not folder.is_dir():
        return []
    version_names = (
        path.name for path in folder.iterdir() if NAME_PATTERN.fullmatch(path.name) and (path / CARD).is_file()
    )
    return sorted(version_names, reverse=True)


def list_page(bundles: Path, public_key: Path, model: str, before: str, limit: int) -> tuple[list[StoredVersion], bool]:
    """(at most `limit` versions whose names come before `before`, newest first; whether there are more).

    before: "" for the first page.
    """
    version_names = [name for name in list_versions(bundles / model) if not before or name < before]
    return _load_versions(bundles, public_key, model, version_names[:limit]), len(version_names) > limit


def load_all(bundles: Path, public_key: Path) -> list[StoredVersion]:
    """Every version of every model, by model and by ascending version."""
    return [
        version
        for model in list_models(bundles)
        for version in _load_versions(bundles, public_key, model, list_versions(bundles / model)[::-1])
    ]


def _load_versions(bundles: Path, public_key: Path, model: str, names: list[str]) -> list[StoredVersion]:
    versions = (load_version(bundles, public_key, model, name) for name in names)
    return [version for version in versions if version is not None]


def load_version(bundles: Path, public_key: Path, model: str, name: str) -> StoredVersion | None:
    """One version, verified; None where there is no bundle of this name."""
    folder = bundles / model / name
    if not NAME_PATTERN.fullmatch(model) or not NAME_PATTERN.fullmatch(name) or not (folder / CARD).is_file():
        return None
    verified = _load_verified(folder, public_key, modification_times(folder))
    aliases = tuple(alias for alias in ("champion", "challenger") if read_alias(folder.parent, alias) == name)
    return StoredVersion(verified.model, verified.version, verified.digest, verified.card, verified.error, aliases)


@lru_cache(maxsize=512)
def _load_verified(folder: Path, public_key: Path, modified_at: tuple[int, ...]) -> StoredVersion:
    """Verify a bundle again only once one of its files was touched; its card is cached, its graphs are not."""
    model, name = folder.parent.name, folder.name
    try:
        verified = verify_bundle(folder, public_key)
        card = parse_bundle(verified, AnyCard).card
        if (card.model, card.version) != (model, name):
            raise BundleError(f"{folder}: its card is of {card.model} {card.version}. Publish it under its own name.")
        return StoredVersion(model, name, verified.digest, card)
    except (BundleError, OSError) as error:
        return StoredVersion(model, name, error=str(error).replace(f"{folder.parent.parent}/", ""))
