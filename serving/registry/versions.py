"""What stands under the bundles' folder: models, their versions, and each version's card once its signature holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from models.bundle import CARD, BundleRefused, pointed, read, verify
from models.card import Stamp
from serving.registry.loader import times

NAME = re.compile(r"[\w-][\w.-]{0,127}", re.ASCII)
MOST = 200  # versions on a page
FIGURES = ("auc", "ks", "brier", "slope", "intercept", "sensitivity", "specificity", "accuracy")


class AnyCard(Stamp):
    """A card of any product, read for what all of them tell."""

    model_config = {"frozen": True, "extra": "ignore"}

    horizon: str = ""
    target: str = ""
    inputs: tuple[Any, ...] = ()
    classes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Version:
    """A bundle on the disk. `refused`: why its card proves nothing; then there is none."""

    model: str
    version: str
    digest: str = ""
    card: AnyCard | None = None
    refused: str = ""
    aliases: tuple[str, ...] = field(default=(), compare=False)

    @property
    def passed(self) -> bool | None:
        """What the gate said; None where the card does not tell."""
        verdict = None if self.card is None else self.card.verdict
        return None if verdict is None else verdict.passed

    @property
    def failing(self) -> list[dict[str, Any]]:
        verdict = None if self.card is None else self.card.verdict
        return [] if verdict is None else [one.model_dump() for one in verdict.checks if not one.passed]

    def told(self) -> dict[str, Any]:
        """A line of the list."""
        line: dict[str, Any] = {"version": self.version, "bundle": self.digest, "aliases": list(self.aliases)}
        line |= {"refused": self.refused or None, "gate": self.passed}
        if self.card is None:
            return line
        names = {"product", "created", "simulated", "run_id", "git_commit"}
        names |= {"purpose", "not_for", "purpose_zh", "not_for_zh"}
        line |= self.card.model_dump(include=names)
        metrics = self.card.metrics
        line["figures"] = {name: metrics[name] for name in FIGURES if isinstance(metrics.get(name), dict)}
        line["rows"] = metrics.get("rows")
        return line | {"plots": self.card.plots is not None}


def models(bundles: Path) -> list[str]:
    if not bundles.is_dir():
        return []
    return sorted(folder.name for folder in bundles.iterdir() if NAME.fullmatch(folder.name) and names(folder))


def names(folder: Path) -> list[str]:
    """Versions of the model whose folder this is, the newest name first."""
    if not folder.is_dir():
        return []
    there = (one.name for one in folder.iterdir() if NAME.fullmatch(one.name) and (one / CARD).is_file())
    return sorted(there, reverse=True)


def page(bundles: Path, public_key: Path, model: str, before: str, limit: int) -> tuple[list[Version], bool]:
    """(versions named before `before`, newest first, at most `limit`; whether there are more)."""
    found = [name for name in names(bundles / model) if not before or name < before]
    some = [one for name in found[:limit] if (one := version(bundles, public_key, model, name)) is not None]
    return some, len(found) > limit


def version(bundles: Path, public_key: Path, model: str, name: str) -> Version | None:
    """None where there is no such folder."""
    folder = bundles / model / name
    if not NAME.fullmatch(model) or not NAME.fullmatch(name) or not (folder / CARD).is_file():
        return None
    found = _verified(folder, public_key, times(folder))
    aliases = tuple(alias for alias in ("champion", "challenger") if pointed(folder.parent, alias) == name)
    return Version(found.model, found.version, found.digest, found.card, found.refused, aliases)


@lru_cache(maxsize=512)
def _verified(folder: Path, public_key: Path, seen: tuple[int, ...]) -> Version:
    """Anew whenever a file of it was touched; the graphs' bytes are not kept."""
    model, name = folder.parent.name, folder.name
    try:
        verified = verify(folder, public_key)
        card = read(verified, AnyCard).card
        if (card.model, card.version) != (model, name):
            raise BundleRefused(f"{folder}: its card says {card.model} {card.version}. Publish it under its own name.")
        return Version(model, name, verified.digest, card)
    except (BundleRefused, OSError) as error:
        return Version(model, name, refused=str(error).replace(f"{folder.parent.parent}/", ""))
