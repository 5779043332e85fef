"""Encode the outcome of a user's table as 0 and 1, whatever its values are called."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from datasets.errors import DataError
from datasets.tables.values.marks import NONE_WORDS, missing_mask
from datasets.tables.values.numbers import canonical_level

TargetValue = str | int | float | bool


def encode_target(
    series: pl.Series,
    positive_labels: Sequence[TargetValue],
    negative_labels: Sequence[TargetValue],
    missing: Sequence[str],
) -> pl.Series:
    """The target as 0.0, 1.0 or null. 1, 1.0, "1" and true are one value each way. Raises DataError.

    positive_labels: values that mean a default; negative_labels: no default; missing: texts that mean "not known".
    """
    has_positive, has_negative = bool(positive_labels), bool(negative_labels)
    text = series.cast(pl.String)
    text = text.set(_is_unknown_outcome(text, missing), None) if text.len() else text
    canonical = {value: canonical_level(value) for value in text.drop_nulls().unique()}
    text = text.replace(canonical) if canonical else text
    distinct_values = text.drop_nulls().unique().sort().to_list()
    if not has_positive:
        positive_labels, negative_labels = ("1", "true"), ("0", "false")
    label_masks = [_matches_any(text, options) for options in (positive_labels, negative_labels)]
    if has_positive and not has_negative:
        if len(distinct_values) != 2:
            raise DataError(
                f"{series.name} has {len(distinct_values)} values ({_format_values(distinct_values)}), where two are "
                "expected. Name the values without a default too: negative_labels = [...]."
            )
        label_masks[1] = text.is_not_null() & ~label_masks[0]
    unknown_labels = text.filter(~label_masks[0] & ~label_masks[1]).drop_nulls().unique().sort().to_list()
    if unknown_labels and not (has_positive and has_negative):
        raise DataError(
            f"{series.name} has the values {_format_values(unknown_labels)}; 0 (good) or 1 (bad) is expected. "
            f"Name the value of a default, for example, as it is rarer: positive_labels = {_rarest(text)!r} in the "
            f"config, --bad {_rarest(text)} to init-config."
        )
    if not label_masks[0].any() or not label_masks[1].any():
        raise DataError(
            f"{series.name} has the values {_format_values(distinct_values)}; both outcomes must occur. "
            "Check positive_labels and negative_labels."
        )
    outcome = pl.Series(series.name, [None] * len(text), dtype=pl.Float64)
    return outcome.set(label_masks[0].fill_null(False), 1.0).set(label_masks[1].fill_null(False), 0.0)


def _is_unknown_outcome(text: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Whether each outcome is missing. A word for "none" is so beside two other values, else an outcome (有, 无)."""
    is_mark = missing_mask(text, missing)
    is_none_word = missing_mask(text, NONE_WORDS)
    others = text.filter(~is_mark & ~is_none_word).drop_nulls().n_unique()
    return is_mark | is_none_word if others >= 2 else is_mark


def _rarest(text: pl.Series) -> str:
    return str(text.drop_nulls().value_counts().sort("count", text.name)[text.name][0])


def _matches_any(text: pl.Series, options: Sequence[TargetValue]) -> pl.Series:
    """Whether each text is one of the options, true being 1 where the column has numbers."""
    names = {canonical_level(option) for option in options}
    present = set(text.drop_nulls().unique())
    for truth, number in (("true", "1"), ("false", "0")):
        if truth in names and truth not in present:
            names.add(number)
        if number in names and number not in present:
            names.add(truth)
    return text.is_in(sorted(names)).fill_null(False)


def _format_values(values: list[str]) -> str:
    return ", ".join(repr(value) for value in values[:6]) + (", ..." if len(values) > 6 else "")
