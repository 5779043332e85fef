"""What an answer costs: configs/prices.toml, whose versions are kept, as a statement of an earlier month names them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.decisions.products.base import PRODUCTS, SLIDES

RULES = {"free": "公益免费", "set": "自主定价", "market": "市场竞价"}
Fen = Annotated[int, Field(ge=0, le=10**12)]


class PricesRefused(ValueError):
    """The price rules cannot be used as they stand."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Part):
    rule: Literal["free", "set", "market"]
    fen: Fen = 0
    agreed: dict[str, Fen] = Field(default_factory=dict)  # tenant -> fen, of the market rule

    @model_validator(mode="after")
    def _of_its_kind(self) -> Rule:
        if self.rule == "free" and self.fen:
            raise ValueError(f"a free product costs 0 fen, found {self.fen}")
        if self.rule != "market" and self.agreed:
            raise ValueError(f"prices are agreed with tenants under the rule market, not {self.rule}")
        return self


class Version(_Part):
    version: str = Field(min_length=1, max_length=32)
    begins: str = Field(alias="from", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
    products: dict[str, Rule]

    @model_validator(mode="after")
    def _of_every_product(self) -> Version:
        needed = {*PRODUCTS, SLIDES}
        if set(self.products) != needed:
            raise ValueError(f"prices of {', '.join(sorted(needed))} are needed, found {', '.join(self.products)}")
        return self


@dataclass(frozen=True, slots=True)
class Price:
    """Of one answer."""

    rules: str  # version
    rule: str
    fen: int

    def charge(self, decision: str, tenant: str, product: str, at: str, units: int = 1) -> dict[str, Any]:
        """A line of the meter but for its leaf."""
        told = {"decision": decision, "tenant": tenant, "product": product, "at": at, "units": units}
        return told | {"rules": self.rules, "rule": self.rule, "fen": self.fen * units}

    def told(self, units: int = 1) -> dict[str, Any]:
        """As a leaf tells it."""
        return {"rules": self.rules, "rule": self.rule, "fen": self.fen * units, "units": units}


class Prices:
    def __init__(self, versions: list[Version]):
        self.versions = sorted(versions, key=lambda version: version.begins, reverse=True)

    @classmethod
    def load(cls, file: Path) -> Prices:
        """Raises PricesRefused."""
        try:
            found = tomllib.loads(file.read_text(encoding="utf-8"))
            versions = [Version.model_validate(item) for item in found.pop("versions", [])]
            if found:
                raise ValueError(f"{', '.join(found)} is not known; [[versions]] is")
            names, begins = {item.version for item in versions}, {item.begins for item in versions}
            if not versions or len(names) < len(versions) or len(begins) < len(versions):
                raise ValueError("one version or more is needed, each with a name and a beginning of its own")
        except (OSError, ValueError) as error:
            raise PricesRefused(f"{file}: {error}. Correct it; nothing is answered without a price.") from error
        return cls(versions)

    def of(self, product: str, tenant: str, at: str) -> Price:
        """At a time; before the first version, by the first."""
        version = next((version for version in self.versions if version.begins <= at), self.versions[-1])
        rule = version.products[product]
        return Price(version.version, rule.rule, rule.agreed.get(tenant, rule.fen))
