"""The price of an answer by configs/prices.toml, which keeps old versions for the statements of earlier months."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.core.db.tables.billing import UnloggedMeterRow
from serving.settings import PRODUCTS, SLIDE_PRODUCT

PRICING_RULES = {"free": "公益免费", "set": "自主定价", "market": "市场竞价"}
Fen = Annotated[int, Field(ge=0, le=10**12)]


class PricesError(ValueError):
    """The price lists cannot be used as they are."""


class _FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PricingRule(_FrozenModel):
    """How a product is priced. `fen`: price per answer in 0.01 CNY."""

    rule: Literal["free", "set", "market"]
    fen: Fen = 0
    agreed: dict[str, Fen] = Field(default_factory=dict)  # tenant -> fen; only with the rule market

    @model_validator(mode="after")
    def _check_consistency(self) -> PricingRule:
        if self.rule == "free" and self.fen:
            raise ValueError(f"a free product has the price {self.fen} fen; expected 0")
        if self.rule != "market" and self.agreed:
            raise ValueError(f"agreed prices need the rule market, found {self.rule}")
        return self


class PriceList(_FrozenModel):
    """The prices of all products from a point in time on."""

    version: str = Field(min_length=1, max_length=32)
    valid_from: str = Field(alias="from", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
    products: dict[str, PricingRule]

    @model_validator(mode="after")
    def _check_products(self) -> PriceList:
        expected = {*PRODUCTS, SLIDE_PRODUCT}
        if set(self.products) != expected:
            raise ValueError(f"there are prices for {', '.join(self.products)}; expected {', '.join(sorted(expected))}")
        return self


def rules_digest(price_list: PriceList) -> str:
    """The digest of all rules of a price list, by which a log entry names it beside its version."""
    content = orjson.dumps(price_list.model_dump(by_alias=True), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one answer in fen, 0.01 CNY."""

    price_list: str  # version
    rule: str
    fen: int
    rules_sha256: str = ""  # of the price list

    def charge(self, decision: str, tenant: str, product: str, timestamp: str, units: int = 1) -> UnloggedMeterRow:
        """The row of METER for `units` answers."""
        return {
            "decision": decision,
            "tenant": tenant,
            "product": product,
            "at": timestamp,
            "units": units,
            "rules": self.price_list,
            "rule": self.rule,
            "fen": self.fen * units,
        }

    def describe(self, units: int = 1) -> dict[str, Any]:
        """The price as in a log entry."""
        price = {"rules": self.price_list, "rule": self.rule, "fen": self.fen * units, "units": units}
        return price | {"sha256": self.rules_sha256}


class Prices:
    """Price lists, the newest first."""

    def __init__(self, price_lists: list[PriceList]):
        self.price_lists = sorted(price_lists, key=lambda version: version.valid_from, reverse=True)
        self.digests = {price_list.version: rules_digest(price_list) for price_list in price_lists}

    @classmethod
    def load(cls, file: Path) -> Prices:
        """Read a TOML file of price lists. Raises PricesError."""
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
            price_lists = [PriceList.model_validate(item) for item in document.pop("versions", [])]
            if document:
                raise ValueError(f"unknown keys {', '.join(document)}; expected only [[versions]]")
            names, start_times = {item.version for item in price_lists}, {item.valid_from for item in price_lists}
            if not price_lists or len(names) < len(price_lists) or len(start_times) < len(price_lists):
                raise ValueError("expected one or more versions, each with its own name and start")
        except (OSError, ValueError) as error:
            raise PricesError(f"{file}: {error}. Correct the file; no request is answered without a price.") from error
        return cls(price_lists)

    def price_for(self, product: str, tenant: str, timestamp: str) -> Price:
        """The price at a time; before the first price list, by the first."""
        price_list = next(
            (version for version in self.price_lists if version.valid_from <= timestamp), self.price_lists[-1]
        )
        rule = price_list.products[product]
        fen = rule.agreed.get(tenant, rule.fen)
        return Price(price_list.version, rule.rule, fen, self.digests[price_list.version])
