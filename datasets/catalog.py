"""The sources of data by product; a fourth product adds one line.

module = source("taiwan")      # its TABLE, `read(folder=None)` and `sample(rows, seed)`
"""

from __future__ import annotations

import importlib
from types import ModuleType

from datasets.errors import DataError
from datasets.schema import did_you_mean

PRODUCTS = {
    "credit_limit": "datasets.credit_limit.catalog",
    "scitech_risk": "datasets.scitech_risk.catalog",
}


def source_modules(product: str | None = None) -> dict[str, str]:
    """Each source's module, of one product or of all."""
    products = [product] if product else list(PRODUCTS)
    return {
        name: module
        for name_of_product in products
        for name, module in importlib.import_module(PRODUCTS[name_of_product]).SOURCES.items()
    }


def load_source(name: str, product: str | None = None) -> ModuleType:
    """Raises DataError for a name that no source has."""
    modules = source_modules(product)
    if name not in modules:
        raise DataError(
            f"{name!r} is no source of data{did_you_mean(name, list(modules))}. Known: {', '.join(modules)}; or name a file."
        )
    return importlib.import_module(modules[name])
