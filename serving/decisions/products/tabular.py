"""What the products of one row of indicators share: a verified bundle's graph, and the checks before it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import Fault
from datasets.schema import Column, Table
from models.bundle import Bundle
from models.card import Card
from models.feature_encoder import Encoder, all_read, encode
from models.trees.onnx_session import Graph, Scores
from serving.core.audit.provenance import lineage

LONGEST_TEXT = 1_000  # characters


class Tabular:
    """A bundle held ready. `policy`: the version of the one that decides."""

    def __init__(self, bundle: Bundle, policy: str, currency: str):
        self.card: Card = bundle.card
        self.digest = bundle.digest
        self.policy = policy
        self.currency = currency
        self.lineage = lineage(bundle.card, bundle.digest, hashlib.sha256(bundle.policy).hexdigest())
        self.table = Table(name=self.card.model, columns=(*self.card.inputs, *self.card.also))
        self.fields = tuple(column for column in self.table.columns if column.derived is None)
        self._graph = Graph(bundle.graph)
        read = all_read(self.card.inputs, self.card.also)
        self._encoder = Encoder(read)
        place = {column.name: at for at, column in enumerate(read)}
        self.inputs = [place[column.name] for column in self.card.inputs]
        self._texts = [column for column in self.card.also if column.kind == "text"]
        self._known = frozenset(column.name for column in self.fields)

    def check(self, values: Mapping[str, Any]) -> tuple[list[float], list[Fault]]:
        row, faults = self._encoder.one(values)
        faults += _texts(self._texts, values)
        if not values.keys() <= self._known:
            faults += self._encoder.unknown(values, [column.name for column in self.fields])
        return row, faults

    def score(self, row: list[float]) -> Scores:
        """Of one row, with its contributions."""
        return self._graph.run(np.array([[row[at] for at in self.inputs]], np.float32), reasons=True)

    def scores(self, frame: pl.DataFrame, reasons: bool) -> Scores:
        return self._graph.run(encode(frame, self.card.inputs), reasons=reasons)


def _texts(columns: list[Column], values: Mapping[str, Any]) -> list[Fault]:
    faults = []
    for column in columns:
        value = values.get(column.name)
        if value is None and not column.required:
            continue
        if not isinstance(value, str):
            faults.append(column.fault("missing" if value is None else value))
        elif len(value) > LONGEST_TEXT:
            needed = f"at most {LONGEST_TEXT:,} characters"
            faults.append(
                Fault(column.name, f"text of {len(value):,} characters", needed, f"最多 {LONGEST_TEXT:,} 个字符")
            )
    return faults
