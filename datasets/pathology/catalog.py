"""The sets of pathology pictures by name. They hold pictures, not columns: a table of their own, and no sample.

cells = source("herlev").read()
"""

from __future__ import annotations

import importlib
from types import ModuleType

from datasets.errors import DataError
from datasets.schema import did_you_mean

SOURCES = {
    "herlev": "datasets.pathology.herlev",  # single cells with masks: train and judge
    "bcss": "datasets.pathology.bcss",  # breast regions with tumour masks: judge a heatmap
    "lbc": "datasets.pathology.lbc",  # fields with a shortcut: load, and notice it
    "colon": "datasets.pathology.colon",  # the wrong organ: refuse it
}


def load_source(name: str) -> ModuleType:
    """Raises DataError for a name that no set has."""
    if name not in SOURCES:
        raise DataError(
            f"{name!r} is no set of pictures{did_you_mean(name, list(SOURCES))}. Known: {', '.join(SOURCES)}."
        )
    return importlib.import_module(SOURCES[name])
