"""The pathology image sets by name. They hold images, not columns, so they have no TABLE and no sample.

cells = load_source("herlev").read()
"""

from __future__ import annotations

import importlib
from types import ModuleType

from datasets.errors import DataError, did_you_mean

SOURCES = {
    "herlev": "datasets.pathology.herlev",  # single cells with masks, to train and evaluate
    "bcss": "datasets.pathology.bcss",  # breast regions with tumour masks, to evaluate heatmaps
    "lbc": "datasets.pathology.lbc",  # fields with a shortcut, to test its detection
    "colon": "datasets.pathology.colon",  # another organ, to test abstention
}


def load_source(name: str) -> ModuleType:
    """The module of an image set. Raises DataError for an unknown name."""
    if name not in SOURCES:
        raise DataError(
            f"{name!r} is not an image set{did_you_mean(name, list(SOURCES)) or '.'} Known sets: {', '.join(SOURCES)}."
        )
    return importlib.import_module(SOURCES[name])
