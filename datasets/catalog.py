"""Find a source of tabular data by its name; a new product adds one line.

module = load_source("taiwan")      # has TABLE, read(folder=None) and sample(rows, seed)
"""

from __future__ import annotations

import importlib
from types import ModuleType

from datasets.errors import DataError, did_you_mean

PRODUCTS = {
    "credit_limit": "datasets.credit_limit.catalog",
    "scitech_risk": "datasets.scitech_risk.catalog",
}


def source_modules(product: str | None = None) -> dict[str, str]:
    """Source name -> module, for one product or for all."""
    products = [product] if product else list(PRODUCTS)
    return {
        name: module
        for product_name in products
        for name, module in importlib.import_module(PRODUCTS[product_name]).SOURCES.items()
    }


def load_source(name: str, product: str | None = None) -> ModuleType:
    """The module of a source. Raises DataError for an unknown name."""
    modules = source_modules(product)
    if name not in modules:
        raise DataError(
            f"{name!r} is not a data source{did_you_mean(name, list(modules)) or '.'} "
            f"Known sources: {', '.join(modules)}. Give one of them, or the path of a file."
        )
    return importlib.import_module(modules[name])
