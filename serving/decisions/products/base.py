"""The table of products: where each is asked, and who answers a bundle's one question. A fourth adds one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.errors import Fault
from datasets.schema import Column, Table
from models.bundle import Bundle, BundleRefused, Verified, read
from models.card import Card
from models.pathology.card import SlideCard, readable
from serving.core.audit.provenance import Lineage
from serving.decisions.request import Form, Wish
from serving.settings import PRODUCTS, SLIDES


class Held(Protocol):
    """A bundle held ready: one row's question, and a million's."""

    @property
    def card(self) -> Card: ...
    @property
    def digest(self) -> str: ...
    @property
    def policy(self) -> str: ...  # version
    @property
    def currency(self) -> str: ...  # ISO 4217, of the amounts in its answers
    @property
    def lineage(self) -> Lineage: ...
    @property
    def table(self) -> Table: ...  # the columns read, and those derived from them
    @property
    def fields(self) -> tuple[Column, ...]: ...  # what an applicant may state
    @property
    def inputs(self) -> list[int]: ...  # where the model's inputs stand in the row that `check` makes

    def check(self, values: Mapping[str, Any]) -> tuple[list[float], list[Fault]]:
        """(all numbers that the model and its decision read, all that is wrong with one applicant's indicators)."""
        ...

    def answer(self, values: Mapping[str, Any], row: list[float], wishes: Mapping[str, bool]) -> dict[str, Any]:
        """The answer for indicators without faults: a dict of JSON types with a `decision`."""
        ...

    def many(self, frame: pl.DataFrame, reasons: bool, consent: bool | NDArray[np.bool_] = True) -> pl.DataFrame:
        """The same for a conformed frame: one row each, flat columns. consent: whether conduct counts, of all or of
        each; where none is read it says nothing."""
        ...


@dataclass(frozen=True)
class Product:
    """What the service must know of a product before a bundle of it serves."""

    name: str  # as a card names it
    route: str  # one applicant; many at `route`/batch
    scope: str  # of the store: within which an idempotency key means one request
    operation: str  # of the OpenAPI document; the batch's is `operation` and "Many"
    asks: str  # its one question, a sentence
    one: str  # what its routes answer, a line each
    many: str
    wishes: tuple[Wish, ...]
    answer: Mapping[str, Any]  # JSON schemas of what stands in its answers and not in every product's
    always: tuple[str, ...]  # of `answer`, what is never left out
    hold: Callable[[Bundle], Held]  # raises BundleRefused

    @cached_property
    def form(self) -> Form:
        return Form(self.wishes)


@cache
def products() -> Mapping[str, Product]:
    return {name: import_module(module).PRODUCT for name, module in PRODUCTS.items()}


def of_slides(product: str) -> bool:
    return product == SLIDES


def of_tables(product: str) -> bool:
    """What names no product is looked at as well, so that somebody says what is wrong with it."""
    return product != SLIDES


def hold(verified: Verified) -> Held | None:
    """Raises BundleRefused for a product that this service does not know."""
    product = products().get(verified.product)
    if product is None:
        raise BundleRefused(
            f"The bundle answers for {verified.product!r}; this service knows {', '.join((*PRODUCTS, SLIDES))}. "
            "Serve it elsewhere."
        )
    return product.hold(read(verified, Card))


def hold_slides(verified: Verified) -> Bundle[SlideCard] | None:
    """A model that can read slides; None for one of single cells."""
    bundle = read(verified, SlideCard)
    return None if bundle.card.slide is None else readable(bundle)
