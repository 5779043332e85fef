"""One piece of a batch: its rows checked, the good ones answered, the bad ones told, in the order they came.

A row tells its indicators, or names a subject whose indicators the store holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from datasets.errors import Fault
from datasets.schema import MOST_FAULTS, Table, conform
from serving.decisions.batch.formats import SUBJECT, Piece, json_column
from serving.decisions.batch.subjects import LONGEST, NAMES, Read, Subjects
from serving.decisions.inputs import unvalued
from serving.decisions.products.base import Held


@dataclass(frozen=True, slots=True)
class Answers:
    """`frame`: one row for each that came; decision columns null and `error` set where it is faulty."""

    frame: pl.DataFrame
    faults: list[Fault]
    faulty: int  # rows
    good: pl.DataFrame  # what the others told, as the model reads it
    read: Mapping[int, Read] = field(default_factory=dict)  # row -> what the store held of its subject; good ones

    @property
    def subjects(self) -> dict[int, str]:
        """Row -> pseudonym."""
        return {row: one.pseudonym for row, one in self.read.items() if one.pseudonym is not None}


def answer(piece: Piece, held: Held, batch: str, keep: Sequence[str], reasons: bool, text: int) -> Answers:
    """`text` bounds the characters of a text value."""
    known = [column.name for column in held.fields]
    raw = piece.frame.select([name for name in piece.frame.columns if name in known])
    typed, found = _conformed(raw, held.table, piece.first)
    faults = sorted(piece.faults + found + _long_texts(typed, held.table, piece.first, text), key=_row)
    bad = sorted({fault.row - piece.first for fault in faults if fault.row is not None})
    return _answers(piece, held, batch, keep, reasons, typed, faults, bad, None)


def answer_stored(
    piece: Piece, held: Held, batch: str, keep: Sequence[str], reasons: bool, text: int, subjects: Subjects
) -> Answers:
    """The same of a piece whose rows name stored subjects. Their ids stand in no fault, as faults are recorded."""
    ids_ = piece.frame.select(pl.when(pl.col(SUBJECT.name) != "").then(pl.col(SUBJECT.name)))
    named, found = _conformed(ids_, NAMES, piece.first)
    faults = [_unnamed(one) if one.column == SUBJECT.name else one for one in piece.faults + found]
    faults += _long_texts(named, NAMES, piece.first, LONGEST)
    wrong, ids = {fault.row for fault in faults}, named[SUBJECT.name].to_list()
    wanted = {piece.first + i: one for i, one in enumerate(ids) if one is not None and piece.first + i not in wrong}
    stated = subjects.read([*wanted.values()])
    read: dict[int, Read] = {}
    for row, one in wanted.items():
        if isinstance(told := stated[one], Read):
            read[row] = told
        else:
            faults.append(replace(told, row=row))
    values = [read[row].values if row in read else {} for row in range(piece.first, piece.first + len(ids))]
    misfits: list[Fault] = []
    raw = pl.DataFrame(
        json_column(column, [one.get(column.name) for one in values], piece.first, misfits) for column in held.fields
    )
    typed, found = _conformed(raw, held.table, piece.first)
    misfits += found + _long_texts(typed, held.table, piece.first, text)
    faults = sorted(faults + unvalued([one for one in misfits if one.row in read]), key=_row)
    bad = sorted({row - piece.first for row in range(piece.first, piece.first + len(ids)) if row not in read}
                 | {fault.row - piece.first for fault in faults if fault.row is not None})  # fmt: skip
    read = {row: one for row, one in read.items() if row - piece.first not in set(bad)}
    return _answers(piece, held, batch, keep, reasons, typed, faults, bad, read)


def _answers(
    piece: Piece, held: Held, batch: str, keep: Sequence[str], reasons: bool,
    typed: pl.DataFrame, faults: list[Fault], bad: list[int], read: Mapping[int, Read] | None,
) -> Answers:  # fmt: skip
    """`bad`: places in the piece. `read`: of the good ones, where they name stored subjects."""
    rows = np.arange(piece.first, piece.first + piece.frame.height)
    good = np.ones(len(rows), bool)
    good[bad] = False
    fine = typed.filter(pl.Series(good)) if bad else typed
    consent = True if read is None else np.array([not read[row].silent for row in rows[good].tolist()], bool)
    answered = held.many(fine, reasons, consent)
    if bad:
        answered = _spread(answered, good)
    front = pl.DataFrame({"row": rows}).with_columns(decision_id=pl.format(batch + "-{}", "row"))
    kept = piece.frame.select(pl.col(name).cast(pl.String) for name in keep if name in piece.frame.columns)
    told = _errors(faults, rows)
    maker = {
        "model": held.card.model,
        "version": held.card.version,
        "bundle": held.digest,
        "policy_version": held.policy,
        "simulated": held.card.simulated,
    }
    frame = pl.concat([front, kept, answered, told], how="horizontal")
    frame = frame.with_columns(pl.lit(value).alias(name) for name, value in maker.items())
    if read is not None:
        frame = frame.with_columns(_from_store([read.get(row) for row in rows.tolist()], held.card.simulated))
    return Answers(frame, faults, len(bad), fine, read or {})


def _unnamed(fault: Fault) -> Fault:
    return fault if fault.found == "missing" else replace(fault, found="no text")


def _from_store(read: Sequence[Read | None], simulated: bool) -> list[pl.Series]:
    """What is told of the rows' subjects: each by its pseudonym, without its values."""
    return [
        pl.Series("simulated", [simulated or (one is not None and one.simulated) for one in read], pl.Boolean),
        pl.Series("subject", [one and one.pseudonym for one in read], pl.String),
        pl.Series("inputs", [one and one.inputs for one in read], pl.String),
        pl.Series("indicators_from", ["store"] * len(read), pl.String),
        _lists("authorisations", [None if one is None else one.grants for one in read]),
        _lists("not_read", [None if one is None else one.silent for one in read]),
    ]


def _lists(name: str, told: Sequence[Sequence[str] | None]) -> pl.Series:
    """As one column of texts that is cut up again: made list by list it takes five times as long."""
    joined = pl.Series(name, [None if one is None else ";".join(one) for one in told], pl.String)
    return joined.str.split(";").list.eval(pl.element().filter(pl.element() != ""))


def _spread(answered: pl.DataFrame, good: np.ndarray) -> pl.DataFrame:
    """The good rows' answers in their places, null in the others'."""
    if not len(answered):
        return answered.clear(len(good))
    places = np.cumsum(good) - 1
    return answered.select(
        pl.all().gather([int(place) if fine else None for place, fine in zip(places, good, strict=True)])
    )


def _row(fault: Fault) -> int:
    return fault.row or 0


def _conformed(raw: pl.DataFrame, table: Table, first: int) -> tuple[pl.DataFrame, list[Fault]]:
    """Typed rows and every fault: a piece with more than one call spells out is halved."""
    typed, faults, total = conform(raw, table, None, first)
    if total <= min(len(faults), MOST_FAULTS) or raw.height <= 1:
        return typed, faults
    half = raw.height // 2
    left, right = _conformed(raw[:half], table, first), _conformed(raw[half:], table, first + half)
    return pl.concat([left[0], right[0]]), left[1] + right[1]


def _long_texts(frame: pl.DataFrame, table: Table, first: int, most: int) -> list[Fault]:
    faults = []
    for column in table.columns:
        if column.kind == "text":
            for i in (frame[column.name].str.len_chars() > most).fill_null(False).arg_true().to_list():
                found = f"text of {len(frame[column.name][i]):,} characters"
                faults.append(Fault(column.name, found, f"at most {most:,}", f"最多 {most:,} 个字符", first + i))
    return faults


def _errors(faults: Sequence[Fault], rows: np.ndarray) -> pl.DataFrame:
    """The faults of each row as one sentence or more, in both languages."""
    told: dict[str, list[str | None]] = {"error": [None] * len(rows), "error_zh": [None] * len(rows)}
    for fault in faults:
        if fault.row is None:
            continue
        i = fault.row - int(rows[0])
        for name, sentence in (
            ("error", f"{fault.column} is {fault.found}; it must be {fault.needed}."),
            ("error_zh", f"{fault.column} 为 {fault.found}；应为{fault.needed_zh}。"),
        ):
            before = told[name][i]
            told[name][i] = sentence if before is None else f"{before} {sentence}"
    return pl.DataFrame(told, schema={"error": pl.String, "error_zh": pl.String})
