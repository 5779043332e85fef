"""The table of products and the interface of a deployed model. A new product adds one line to serving/settings.py."""

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
from serving.registry.loader import ModelLoader, ModelT
from serving.settings import PRODUCTS, SLIDE_PRODUCT, Settings


class DeployedModel(Protocol):
    """A verified bundle that decides, one row or a whole frame at a time."""

    @property
    def card(self) -> Card: ...
    @property
    def digest(self) -> str: ...
    @property
    def policy(self) -> str: ...  # its version
    @property
    def currency(self) -> str: ...  # ISO 4217, of the amounts in its answers
    @property
    def lineage(self) -> Provenance: ...
    @property
    def table(self) -> TableSchema: ...  # the columns it reads, derived ones included
    @property
    def fields(self) -> tuple[ColumnSchema, ...]: ...  # the columns that a request may state
    @property
    def inputs(self) -> list[int]: ...  # positions of the model's inputs in the row that `validate` returns

    def validate(self, values: Mapping[str, Any]) -> tuple[list[float], list[FieldError]]:
        """(the numbers that the model and its policy read, every fault of one applicant's indicators)."""
        ...

    def decide(self, values: Mapping[str, Any], row: list[float], options: Mapping[str, bool]) -> dict[str, Any]:
        """Decide on indicators without faults. row: as `validate` returned it. The answer is JSON with a `decision`."""
        ...

    def predict_batch(
        self, frame: pl.DataFrame, reasons: bool, consent: bool | NDArray[np.bool_] = True
    ) -> pl.DataFrame:
        """Decide on each row of a validated frame; the answers have flat columns.

        consent: whether conduct counts, for all rows or (rows,) for each; without effect on a model that reads none.
        """
        ...


@dataclass(frozen=True)
class Product:
    """What the service knows of a product before a bundle of it is deployed."""

    name: str  # as in a card
    route: str  # of single decisions; batches are at `route`/batch
    scope: str  # in the store: within it, an idempotency key means one request
    operation_id: str  # in the OpenAPI document; the batch's is this and "Many"
    question: str  # the question that the product answers, one sentence
    summary: str  # of the two routes, one line each
    batch_summary: str
    options: tuple[RequestOption, ...]
    answer_fields: Mapping[str, Any]  # JSON schemas of the fields that only this product's answers have
    required_fields: tuple[str, ...]  # those of `answer_fields` that are never left out
    deploy: Callable[[Bundle], DeployedModel]  # raises BundleError

    @cached_property
    def request_schema(self) -> RequestSchema:
        return RequestSchema(self.options)


@cache
def products() -> Mapping[str, Product]:
    """Name -> product, for every product that decides on a row of indicators."""
    return {name: import_module(module).PRODUCT for name, module in PRODUCTS.items()}


def decision_model_loader(settings: Settings) -> ModelLoader[DeployedModel]:
    """A loader of the models that decide. A bundle of an unknown product is looked at too, and reported as refused."""
    return _model_loader(settings, deploy, lambda product: product != SLIDE_PRODUCT)


def slide_model_loader(settings: Settings) -> ModelLoader[Bundle[SlideCard]]:
    """A loader of the models that read slides."""
    return _model_loader(settings, deploy_slide_model, lambda product: product == SLIDE_PRODUCT)


def _model_loader(
    settings: Settings, deploy: Callable[[VerifiedBundle], ModelT | None], accepts: Callable[[str], bool]
) -> ModelLoader[ModelT]:
    paths, champion = settings.paths, settings.champion
    return ModelLoader(paths.bundles, paths.public_key, champion.poll_seconds, champion.retry_seconds, deploy, accepts)


def deploy(verified: VerifiedBundle) -> DeployedModel | None:
    """Raises BundleError for a product that this service does not know."""
    product = products().get(verified.product)
    if product is None:
        raise BundleError(
            f"The bundle is of the product {verified.product!r}; this service knows "
            f"{', '.join((*PRODUCTS, SLIDE_PRODUCT))}. Serve it elsewhere."
        )
    return product.deploy(parse_bundle(verified, Card))


def deploy_slide_model(verified: VerifiedBundle) -> Bundle[SlideCard] | None:
    """The bundle of a model that reads slides; None for one of single cells."""
    bundle = parse_bundle(verified, SlideCard)
    return None if bundle.card.slide is None else require_readable(bundle)
