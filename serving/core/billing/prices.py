"""What an answer costs: configs/prices.toml, whose versions are kept, as a statement of an earlier month names them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.settings import PRODUCTS, SLIDE_PRODUCT

PRICING_RULES = {"free": "公益免费", "set": "自主定价", "market": "市场竞价"}
Fen = Annotated[int, Field(ge=0, le=10**12)]


class PricesError(ValueError):
    """The price rules cannot be used as they stand."""


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PricingRule(_FrozenModel):
    rule: Literal["free", "set", "market"]
    fen: Fen = 0
    agreed: dict[str, Fen] = Field(default_factory=dict)  # tenant -> fen, of the market rule

    @model_validator(mode="after")
    def _check_consistency(self) -> PricingRule:
        if self.rule == "free" and self.fen:
            raise ValueError(f"a free product costs 0 fen, found {self.fen}")
        if self.rule != "market" and self.agreed:
            raise ValueError(f"prices are agreed with tenants under the rule market, not {self.rule}")
        return self


class PriceList(_FrozenModel):
    version: str = Field(min_length=1, max_length=32)
    valid_from: str = Field(alias="from", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
    products: dict[str, PricingRule]

    @model_validator(mode="after")
    def _check_products(self) -> PriceList:
        expected = {*PRODUCTS, SLIDE_PRODUCT}
        if set(self.products) != expected:
            raise ValueError(f"prices of {', '.join(sorted(expected))} are needed, found {', '.join(self.products)}")
        return self


@dataclass(frozen=True, slots=True)
class Price:
    """Of one answer."""

    price_list: str  # version
    rule: str
    fen: int

    def charge(self, decision: str, tenant: str, product: str, timestamp: str, units: int = 1) -> dict[str, Any]:
        """A line of the meter but for its leaf."""
        meter_row = {"decision": decision, "tenant": tenant, "product": product, "at": timestamp, "units": units}
        return meter_row | {"rules": self.price_list, "rule": self.rule, "fen": self.fen * units}

    def describe(self, units: int = 1) -> dict[str, Any]:
        """As a leaf tells it."""
        return {"rules": self.price_list, "rule": self.rule, "fen": self.fen * units, "units": units}


class Prices:
    def __init__(self, price_lists: list[PriceList]):
        self.price_lists = sorted(price_lists, key=lambda version: version.valid_from, reverse=True)

    @classmethod
    def load(cls, file: Path) -> Prices:
        """Raises PricesRefused."""
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
            price_lists = [PriceList.model_validate(item) for item in document.pop("versions", [])]
            if document:
                raise ValueError(f"{', '.join(document)} is not known; [[versions]] is")
            names, start_times = {item.version for item in price_lists}, {item.valid_from for item in price_lists}
            if not price_lists or len(names) < len(price_lists) or len(start_times) < len(price_lists):
                raise ValueError("one version or more is needed, each with a name and a beginning of its own")
        except (OSError, ValueError) as error:
            raise PricesError(f"{file}: {error}. Correct it; nothing is answered without a price.") from error
        return cls(price_lists)

    def price_for(self, product: str, tenant: str, timestamp: str) -> Price:
        """At a time; before the first version, by the first."""
        price_list = next(
            (version for version in self.price_lists if version.valid_from <= timestamp), self.price_lists[-1]
        )
        rule = price_list.products[product]
        return Price(price_list.version, rule.rule, rule.agreed.get(tenant, rule.fen))
