"""Scores one chunk of a batch: every row is validated, the valid ones are answered, the others get their faults.

A row states its indicators, or names a subject whose indicators are in the store. Rows keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from datasets.errors import FieldError
from datasets.schema import TableSchema
from datasets.tables.chunk import Chunk
from datasets.validation import MAX_ERRORS, validate
from serving.decisions.batch.files.formats import SUBJECT_COLUMN, json_column
from serving.decisions.batch.subjects import MAX_ID_CHARS, SUBJECT_SCHEMA, SubjectInputs, SubjectReader
from serving.decisions.inputs import redact_faults
from serving.decisions.products.base import DeployedModel


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """The answers of a chunk.

    frame: one row for each of the chunk; a faulty row has its `error`, and null in the columns of the decision.
    valid_rows: the indicators of the others, as the model reads them. subject_inputs: valid row -> what was read from
    the store for its subject.
    """

    frame: pl.DataFrame
    faults: list[FieldError]
    faulty_count: int
    valid_rows: pl.DataFrame
    subject_inputs: Mapping[int, SubjectInputs] = field(default_factory=dict)

    @property
    def pseudonyms(self) -> dict[int, str]:
        """Row -> pseudonym."""
        return {row: inputs.pseudonym for row, inputs in self.subject_inputs.items() if inputs.pseudonym is not None}


def score(
    chunk: Chunk, model: DeployedModel, batch_id: str, keep: Sequence[str], reasons: bool, max_text_chars: int
) -> ScoredChunk:
    """Score a chunk whose rows state their indicators. max_text_chars: of a text value."""
    field_names = [column.name for column in model.fields]
    raw = chunk.frame.select([name for name in chunk.frame.columns if name in field_names])
    typed, type_faults = _validate_rows(raw, model.table, chunk.first_row)
    faults = sorted(
        chunk.faults + type_faults + _long_text_faults(typed, model.table, chunk.first_row, max_text_chars),
        key=_fault_row,
    )
    bad_indices = sorted({fault.row - chunk.first_row for fault in faults if fault.row is not None})
    return _build_scored_chunk(chunk, model, batch_id, keep, reasons, typed, faults, bad_indices, None)


def score_stored(
    chunk: Chunk,
    model: DeployedModel,
    batch_id: str,
    keep: Sequence[str],
    reasons: bool,
    max_text_chars: int,
    subject_reader: SubjectReader,
) -> ScoredChunk:
    """Score a chunk whose rows name stored subjects. Faults are recorded, so they do not contain the ids."""
    raw_ids = chunk.frame.select(pl.when(pl.col(SUBJECT_COLUMN.name) != "").then(pl.col(SUBJECT_COLUMN.name)))
    typed_ids, type_faults = _validate_rows(raw_ids, SUBJECT_SCHEMA, chunk.first_row)
    faults = [
        _redact_id(fault) if fault.field == SUBJECT_COLUMN.name else fault for fault in chunk.faults + type_faults
    ]
    faults += _long_text_faults(typed_ids, SUBJECT_SCHEMA, chunk.first_row, MAX_ID_CHARS)
    faulty_rows, ids = {fault.row for fault in faults}, typed_ids[SUBJECT_COLUMN.name].to_list()
    requested = {
        chunk.first_row + i: subject_id
        for i, subject_id in enumerate(ids)
        if subject_id is not None and chunk.first_row + i not in faulty_rows
    }
    results = subject_reader.read([*requested.values()])
    inputs_by_row: dict[int, SubjectInputs] = {}
    for row, subject_id in requested.items():
        if isinstance(result := results[subject_id], SubjectInputs):
            inputs_by_row[row] = result
        else:
            faults.append(replace(result, row=row))
    values = [
        inputs_by_row[row].values if row in inputs_by_row else {}
        for row in range(chunk.first_row, chunk.first_row + len(ids))
    ]
    value_faults: list[FieldError] = []
    raw = pl.DataFrame(
        json_column(
            column,
            [row_values.get(column.name) for row_values in values],
            chunk.first_row,
            value_faults,
            model.card.missing,
        )
        for column in model.fields
    )
    typed, type_faults = _validate_rows(raw, model.table, chunk.first_row)
    value_faults += type_faults + _long_text_faults(typed, model.table, chunk.first_row, max_text_chars)
    faults = sorted(
        faults + redact_faults([fault for fault in value_faults if fault.row in inputs_by_row]), key=_fault_row
    )
    rows = range(chunk.first_row, chunk.first_row + len(ids))
    bad_rows = {row for row in rows if row not in inputs_by_row}
    bad_rows |= {fault.row for fault in faults if fault.row is not None}
    bad_indices = sorted(row - chunk.first_row for row in bad_rows)
    inputs_by_row = {row: inputs for row, inputs in inputs_by_row.items() if row not in bad_rows}
    return _build_scored_chunk(chunk, model, batch_id, keep, reasons, typed, faults, bad_indices, inputs_by_row)


def _build_scored_chunk(
    chunk: Chunk,
    model: DeployedModel,
    batch_id: str,
    keep: Sequence[str],
    reasons: bool,
    typed: pl.DataFrame,
    faults: list[FieldError],
    bad_indices: list[int],
    inputs_by_row: Mapping[int, SubjectInputs] | None,
) -> ScoredChunk:
    """bad_indices: positions of faulty rows in the chunk. inputs_by_row: of valid rows that name stored subjects."""
    rows = np.arange(chunk.first_row, chunk.first_row + chunk.frame.height)
    is_valid = np.ones(len(rows), bool)
    is_valid[bad_indices] = False
    valid_rows = typed.filter(pl.Series(is_valid)) if bad_indices else typed
    consent = (
        True
        if inputs_by_row is None
        else np.array([not inputs_by_row[row].withheld_groups for row in rows[is_valid].tolist()], bool)
    )
    answers = model.predict_batch(valid_rows, reasons, consent)
    if bad_indices:
        answers = _scatter(answers, is_valid)
    row_ids = pl.DataFrame({"row": rows}).with_columns(decision_id=pl.format(batch_id + "-{}", "row"))
    passthrough = chunk.frame.select(pl.col(name).cast(pl.String) for name in keep if name in chunk.frame.columns)
    error_columns = _error_columns(faults, rows)
    provenance = {
        "model": model.card.model,
        "version": model.card.version,
        "bundle": model.digest,
        "policy_version": model.policy,
        "simulated": model.card.simulated,
    }
    frame = pl.concat([row_ids, passthrough, answers, error_columns], how="horizontal")
    frame = frame.with_columns(pl.lit(value).alias(name) for name, value in provenance.items())
    if inputs_by_row is not None:
        frame = frame.with_columns(
            _subject_columns([inputs_by_row.get(row) for row in rows.tolist()], model.card.simulated)
        )
    return ScoredChunk(frame, faults, len(bad_indices), valid_rows, inputs_by_row or {})


def _redact_id(fault: FieldError) -> FieldError:
    """The fault without the id that it quotes."""
    return fault if fault.actual == "missing" else replace(fault, actual="no text")


def _subject_columns(inputs: Sequence[SubjectInputs | None], simulated: bool) -> list[pl.Series]:
    """The columns about the rows' subjects: each by its pseudonym, without its values."""
    return [
        pl.Series(
            "simulated", [simulated or (subject is not None and subject.simulated) for subject in inputs], pl.Boolean
        ),
        pl.Series("subject", [subject and subject.pseudonym for subject in inputs], pl.String),
        pl.Series("inputs", [subject and subject.inputs_digest for subject in inputs], pl.String),
        pl.Series("indicators_from", ["store"] * len(inputs), pl.String),
        _list_column("authorisations", [None if subject is None else subject.grants for subject in inputs]),
        _list_column("not_read", [None if subject is None else subject.withheld_groups for subject in inputs]),
    ]


def _list_column(name: str, values: Sequence[Sequence[str] | None]) -> pl.Series:
    """A column of lists, split from one of joined texts: built list by list it takes five times as long."""
    joined = pl.Series(name, [None if items is None else ";".join(items) for items in values], pl.String)
    return joined.str.split(";").list.eval(pl.element().filter(pl.element() != ""))


def _scatter(answers: pl.DataFrame, is_valid: np.ndarray) -> pl.DataFrame:
    """The answers of the valid rows at their positions, null at the others."""
    if not len(answers):
        return answers.clear(len(is_valid))
    positions = np.cumsum(is_valid) - 1
    return answers.select(
        pl.all().gather([int(position) if valid else None for position, valid in zip(positions, is_valid, strict=True)])
    )


def _fault_row(fault: FieldError) -> int:
    return fault.row or 0


def _validate_rows(raw: pl.DataFrame, table: TableSchema, first_row: int) -> tuple[pl.DataFrame, list[FieldError]]:
    """Typed rows and every fault: a chunk with more faults than `validate` lists is split in half."""
    typed, faults, total = validate(raw, table, None, first_row)
    if total <= min(len(faults), MAX_ERRORS) or raw.height <= 1:
        return typed, faults
    half = raw.height // 2
    left, right = _validate_rows(raw[:half], table, first_row), _validate_rows(raw[half:], table, first_row + half)
    return pl.concat([left[0], right[0]]), left[1] + right[1]


def _long_text_faults(frame: pl.DataFrame, table: TableSchema, first_row: int, max_chars: int) -> list[FieldError]:
    faults = []
    for column in table.columns:
        if column.kind == "text":
            for i in (frame[column.name].str.len_chars() > max_chars).fill_null(False).arg_true().to_list():
                actual = f"text of {len(frame[column.name][i]):,} characters"
                faults.append(
                    FieldError(
                        column.name, actual, f"at most {max_chars:,}", f"最多 {max_chars:,} 个字符", first_row + i
                    )
                )
    return faults


def _error_columns(faults: Sequence[FieldError], rows: np.ndarray) -> pl.DataFrame:
    """The columns `error` and `error_zh`: the faults of each row as sentences."""
    messages: dict[str, list[str | None]] = {"error": [None] * len(rows), "error_zh": [None] * len(rows)}
    for fault in faults:
        if fault.row is None:
            continue
        i = fault.row - int(rows[0])
        for name, sentence in (
            ("error", f"{fault.field} is {fault.actual}; it must be {fault.expected}."),
            ("error_zh", f"{fault.field} 为 {fault.actual}；应为{fault.expected_zh}。"),
        ):
            previous = messages[name][i]
            messages[name][i] = sentence if previous is None else f"{previous} {sentence}"
    return pl.DataFrame(messages, schema={"error": pl.String, "error_zh": pl.String})
