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

from datasets.errors import FieldError
from datasets.schema import ColumnSchema, TableSchema
from models.bundle import Bundle, BundleError, VerifiedBundle, parse_bundle
from models.card import Card
from models.pathology.card import SlideCard, require_readable
from serving.core.audit.provenance import Provenance
from serving.decisions.request import RequestOption, RequestSchema
from serving.settings import PRODUCTS, SLIDE_PRODUCT


class DeployedModel(Protocol):
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
    def lineage(self) -> Provenance: ...
    @property
    def table(self) -> TableSchema: ...  # the columns read, and those derived from them
    @property
    def fields(self) -> tuple[ColumnSchema, ...]: ...  # what an applicant may state
    @property
    def inputs(self) -> list[int]: ...  # where the model's inputs stand in the row that `check` makes

    def validate(self, values: Mapping[str, Any]) -> tuple[list[float], list[FieldError]]:
        """(all numbers that the model and its decision read, all that is wrong with one applicant's indicators)."""
        ...

    def decide(self, values: Mapping[str, Any], row: list[float], options: Mapping[str, bool]) -> dict[str, Any]:
        """The answer for indicators without faults: a dict of JSON types with a `decision`."""
        ...

    def predict_batch(
        self, frame: pl.DataFrame, reasons: bool, consent: bool | NDArray[np.bool_] = True
    ) -> pl.DataFrame:
        """The same for a conformed frame: one row each, flat columns. consent: whether conduct counts, of all or of
        each; where none is read it says nothing."""
        ...


@dataclass(frozen=True)
class Product:
    """What the service must know of a product before a bundle of it serves."""

    name: str  # as a card names it
    route: str  # one applicant; many at `route`/batch
    scope: str  # of the store: within which an idempotency key means one request
    operation_id: str  # of the OpenAPI document; the batch's is `operation` and "Many"
    question: str  # its one question, a sentence
    summary: str  # what its routes answer, a line each
    batch_summary: str
    options: tuple[RequestOption, ...]
    answer_fields: Mapping[str, Any]  # JSON schemas of what stands in its answers and not in every product's
    required_fields: tuple[str, ...]  # of `answer`, what is never left out
    deploy: Callable[[Bundle], DeployedModel]  # raises BundleError

    @cached_property
    def request_schema(self) -> RequestSchema:
        return RequestSchema(self.options)


@cache
def products() -> Mapping[str, Product]:
    return {name: import_module(module).PRODUCT for name, module in PRODUCTS.items()}


def is_slide_product(product: str) -> bool:
    return product == SLIDE_PRODUCT


def is_tabular_product(product: str) -> bool:
    """What names no product is looked at as well, so that somebody says what is wrong with it."""
    return product != SLIDE_PRODUCT


def deploy(verified: VerifiedBundle) -> DeployedModel | None:
    """Raises BundleError for a product that this service does not know."""
    product = products().get(verified.product)
    if product is None:
        raise BundleError(
            f"The bundle answers for {verified.product!r}; this service knows {', '.join((*PRODUCTS, SLIDE_PRODUCT))}. "
            "Serve it elsewhere."
        )
    return product.deploy(parse_bundle(verified, Card))


def deploy_slide_model(verified: VerifiedBundle) -> Bundle[SlideCard] | None:
    """A model that can read slides; None for one of single cells."""
    bundle = parse_bundle(verified, SlideCard)
    return None if bundle.card.slide is None else require_readable(bundle)
