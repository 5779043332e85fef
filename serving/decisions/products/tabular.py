"""The base of the deployed models that decide on a row of indicators: validation, and scoring by the bundle's graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import FieldError
from datasets.schema import ColumnSchema, TableSchema
from datasets.validation import validate_column
from models.bundle import Bundle
from models.card import Card
from models.feature_encoder import FeatureEncoder, date_operands, encode, required_columns
from models.trees.onnx_session import Scores, TabularSession
from serving.core.audit.provenance import build_provenance

MAX_TEXT_CHARS = 1_000  # characters


class TabularModel:
    """A verified bundle, loaded. policy: the version of its decision policy. codes: of columns that list codes."""

    def __init__(self, bundle: Bundle, policy: str, currency: str, codes: Mapping[str, Sequence[str]] | None = None):
        self.card: Card = bundle.card
        self.digest = bundle.digest
        self.policy = policy
        self.currency = currency
        self.lineage = build_provenance(bundle.card, bundle.digest, hashlib.sha256(bundle.policy).hexdigest())
        also = [
            column.model_copy(update={"codes": tuple((codes or {}).get(column.name, ()))})
            if column.kind == "text"
            else column
            for column in self.card.also
        ]
        ordered = sorted((*self.card.inputs, *also), key=lambda column: column.derived is not None)
        table = TableSchema(name=self.card.model, columns=tuple(ordered))
        self.table = table.model_copy(update={"missing": self.card.missing}) if self.card.missing else table
        self.fields = tuple(column for column in self.table.columns if column.derived is None)
        self._graph = TabularSession(bundle.graph)
        columns = required_columns(self.card.inputs, self.card.also)
        dates = date_operands(self.card.inputs, self.card.also)
        self._encoder = FeatureEncoder(columns, self.card.missing, dates)
        column_index = {column.name: index for index, column in enumerate(columns)}
        self.inputs = [column_index[column.name] for column in self.card.inputs]
        self._text_columns = [column for column in also if column.kind == "text" and column not in dates]
        self._open_categories = [column for column in self.fields if column.other_level]
        self._field_names = frozenset(column.name for column in self.fields)

    def validate(self, values: Mapping[str, Any]) -> tuple[list[float], list[FieldError]]:
        """(the numbers that model and policy read, every fault of the values)."""
        row, faults = self._encoder.encode_row(values)
        faults += _validate_texts(self._text_columns, values)
        for column in self._open_categories:
            if len(str(values.get(column.name, ""))) > MAX_TEXT_CHARS:
                faults.append(_long_text_fault(column, len(str(values[column.name]))))
        if not values.keys() <= self._field_names:
            faults += self._encoder.unknown_fields(values, [column.name for column in self.fields])
        return row, faults

    def plain_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Values without faults, each as a machine writes it."""
        return self._encoder.plain_values(values)

    def score(self, row: list[float]) -> Scores:
        """Score one row, as `validate` returned it, with the contribution of each input."""
        return self._graph.run(np.array([[row[index] for index in self.inputs]], np.float32), reasons=True)

    def score_batch(self, frame: pl.DataFrame, reasons: bool) -> Scores:
        """Score a validated frame; reasons: with the contribution of each input."""
        return self._graph.run(encode(frame, self.card.inputs), reasons=reasons)


def _validate_texts(columns: list[ColumnSchema], values: Mapping[str, Any]) -> list[FieldError]:
    faults = []
    for column in columns:
        value = values.get(column.name)
        if value is None and not column.required:
            continue
        if not isinstance(value, str):
            faults.append(column.field_error("missing" if value is None else value))
        elif len(value) > MAX_TEXT_CHARS:
            faults.append(_long_text_fault(column, len(value)))
        elif column.codes and len(validate_column(pl.Series(column.name, [value]), column, ())[1]):
            faults.append(column.field_error(value))
    return faults


def _long_text_fault(column: ColumnSchema, length: int) -> FieldError:
    expected, expected_zh = f"at most {MAX_TEXT_CHARS:,} characters", f"最多 {MAX_TEXT_CHARS:,} 个字符"
    return FieldError(column.name, f"text of {length:,} characters", expected, expected_zh)
