"""The sources of data by product; a fourth product adds one line.

module = source("taiwan")      # its TABLE, `read(folder=None)` and `sample(rows, seed)`
"""

from __future__ import annotations

import importlib
from types import ModuleType

from datasets.errors import DataError
from datasets.schema import nearest

PRODUCTS = {
    "credit_limit": "datasets.credit_limit.catalog",
    "scitech_risk": "datasets.scitech_risk.catalog",
}


def names(product: str | None = None) -> dict[str, str]:
    """Each source's module, of one product or of all."""
    chosen = [product] if product else list(PRODUCTS)
    return {name: module for one in chosen for name, module in importlib.import_module(PRODUCTS[one]).SOURCES.items()}


def source(name: str, product: str | None = None) -> ModuleType:
    """Raises DataError for a name that no source has."""
    known = names(product)
    if name not in known:
        raise DataError(
            f"{name!r} is no source of data{nearest(name, list(known))}. Known: {', '.join(known)}; or name a file."
        )
    return importlib.import_module(known[name])
