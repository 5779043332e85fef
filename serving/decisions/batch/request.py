"""A batch's request: its options, and the checks of its header before any row is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import FieldError
from datasets.schema import MAX_UNKNOWN_NAMES, ColumnSchema, find_unknown_names
from serving.core.http.problems import ProblemError
from serving.decisions.batch.files.confined import FileHeader
from serving.decisions.batch.files.formats import EXPECTED_COLUMN, SUBJECT_COLUMN
from serving.decisions.batch.subjects import EXTRA_COLUMNS


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """An uploaded file and how it is to be answered."""

    id: str
    tenant: str
    scope: str
    key: str | None  # the Idempotency-Key
    digest: str  # of the upload and its options
    path: Path
    input_format: str
    output_format: str
    keep: tuple[str, ...]  # columns to copy unread into the answer
    reasons: bool

    @property
    def key_scope(self) -> tuple[str, str, str | None]:
        """What identifies a batch by its key: (tenant, scope, key)."""
        return self.tenant, self.scope, self.key


def validate_header(header: FileHeader, keep: Sequence[str], fields: Sequence[ColumnSchema], max_rows: int) -> bool:
    """Check the file's columns, and its number of rows where the format states it; return whether it names subjects.

    keep: columns to copy unread. fields: the columns that the model reads. Raises ProblemError.
    """
    if header.rows is not None and header.rows > max_rows:
        raise batch_problem("rows", f"{header.rows:,}", f"at most {max_rows:,}", f"最多 {max_rows:,} 行")
    # what has no heading is not read
    names = None if header.names is None else [name for name in header.names if name]
    first_names = header.first_names if names is None else names
    field_names = [column.name for column in fields]
    names_subjects = SUBJECT_COLUMN.name in first_names and SUBJECT_COLUMN.name not in (*field_names, *keep)
    if names_subjects:
        faults = _subject_header_faults(first_names, field_names, keep)
    else:
        faults = [] if names is None else _header_faults(names, fields, keep)
    if faults:
        raise ProblemError("invalid_batch", errors=faults)
    return names_subjects


def _header_faults(names: list[str], fields: Sequence[ColumnSchema], keep: Sequence[str]) -> list[FieldError]:
    """Of a file that states indicators."""
    field_names = [column.name for column in fields]
    faults = find_unknown_names(names, {*field_names, *keep}, *EXPECTED_COLUMN)
    duplicates = sorted((name, count) for name, count in Counter(names).items() if count > 1)
    faults += [
        FieldError(name[:60], f"{count} columns", "one column", "一列")
        for name, count in duplicates[:MAX_UNKNOWN_NAMES]
    ]
    faults += [
        FieldError(column.name, "absent", "a column of the file", "文件中的一列")
        for column in fields
        if column.required and column.name not in names
    ]
    if not faults and not set(field_names) & set(names):
        expected = f"one that has some of {', '.join(field_names[:8])}, ..."
        faults.append(FieldError("(header)", "without a column of the model", expected, "至少含模型的一列"))
    return faults


def _subject_header_faults(names: list[str], field_names: list[str], keep: Sequence[str]) -> list[FieldError]:
    """Of a file that names stored subjects, which has no other columns but those of `keep`."""
    faults = [
        FieldError("keep", name, "a column that the answer does not have", "结果中没有的列")
        for name in keep
        if name in EXTRA_COLUMNS
    ]
    if model_columns := [name for name in names if name in field_names]:
        examples = ", ".join(model_columns[:4]) + (", ..." if len(model_columns) > 4 else "")
        faults.append(
            FieldError(
                SUBJECT_COLUMN.name,
                f"beside {len(model_columns)} of the model's columns ({examples})",
                "alone: a file either names stored subjects, whose indicators are in the store, or states indicators; "
                "leave out one of the two, or use ?keep=subject_id to copy the column unread",
                "单独出现：文件要么只写已入库主体编号，要么只写指标，请删去其一；仅需原样带回时用 ?keep=subject_id",
            )
        )
    expected = "left out, or named in ?keep=, where the file has subject_id", "删去，或列入 ?keep="
    faults += find_unknown_names(names, {SUBJECT_COLUMN.name, *field_names, *keep}, *expected)
    if (count := names.count(SUBJECT_COLUMN.name)) > 1:
        faults.append(FieldError(SUBJECT_COLUMN.name, f"{count} columns", "one column", "一列"))
    return faults


def batch_problem(name: str, actual: str, expected: str, expected_zh: str) -> ProblemError:
    """The problem of a file that cannot be answered as a whole."""
    return ProblemError("invalid_batch", errors=[FieldError(name, actual, expected, expected_zh)])
