"""One piece of a batch: its rows checked, the good ones answered, the bad ones told, in the order they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.faults import Fault
from datasets.table import MOST_FAULTS, Table, conform
from serving.batch.formats import Piece
from serving.products import Held


@dataclass(frozen=True, slots=True)
class Answers:
    """`frame`: one row for each that came; decision columns null and `error` set where it is faulty."""

    frame: pl.DataFrame
    faults: list[Fault]
    faulty: int  # rows
    good: pl.DataFrame  # what the others told, as the model reads it


def answer(piece: Piece, held: Held, batch: str, keep: Sequence[str], reasons: bool, text: int) -> Answers:
    """`text` bounds the characters of a text value."""
    known = [column.name for column in held.fields]
    raw = piece.frame.select([name for name in piece.frame.columns if name in known])
    typed, found = _conformed(raw, held.table, piece.first)
    faults = sorted(piece.faults + found + _long_texts(typed, held.table, piece.first, text), key=_row)
    bad = sorted({fault.row - piece.first for fault in faults if fault.row is not None})
    rows = np.arange(piece.first, piece.first + piece.frame.height)
    good = np.ones(len(rows), bool)
    good[bad] = False
    fine = typed.filter(pl.Series(good)) if bad else typed
    answered = held.many(fine, reasons)
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
    return Answers(frame, faults, len(bad), fine)


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
