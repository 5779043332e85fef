"""The parts of a ledger that all products share: amounts of money in sentences, the binding bound, applied caps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.policy.arithmetic import Bound
from models.scorecard.batch_columns import amount_or_nan, gather_codes, to_nullable_int

Sentence = tuple[str, str]  # English, Chinese


class BaseLedger:
    """unit: what the unit of money is called. caps: code of a cap -> its sentence with {amount}."""

    def __init__(self, unit: Sentence, caps: Mapping[str, Sentence]):
        self._unit_en, self._unit_zh = f" {unit[0]}", f" {unit[1]}"
        self._caps = caps

    def format_money(self, amount: float) -> Sentence:
        """An amount in whole units, rounded down."""
        text = f"{int(amount):,}"
        return text + self._unit_en, text + self._unit_zh

    def cap_entry(self, code: str, amount: float, applied: bool) -> dict[str, Any]:
        money, money_zh = self.format_money(amount)
        en, zh = self._caps[code]
        en, zh = en.format(amount=money), zh.format(amount=money_zh)
        return {"code": code, "amount": int(amount), "applied": applied, "en": en, "zh": zh}


def known_amounts(bounds: Mapping[str, Bound]) -> dict[str, float]:
    """Code -> amount of the bounds whose inputs are known, for one answer."""
    return {code: amount for code, (amount, known) in bounds.items() if known}


def bound_columns(bounds: Mapping[str, Bound], rows: int) -> dict[str, pl.Series]:
    """bound_CODE in whole units of money, and the code of the binding (smallest) bound, for a batch."""
    amounts = {code: amount_or_nan(bound, rows) for code, bound in bounds.items()}
    binding: NDArray[np.int64] = np.argmin(
        np.stack([np.where(np.isnan(amount), np.inf, amount) for amount in amounts.values()]), axis=0
    )
    return {f"bound_{code}": to_nullable_int(amount) for code, amount in amounts.items()} | {
        "binding": gather_codes(list(amounts), binding)
    }
