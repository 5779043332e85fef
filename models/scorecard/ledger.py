"""The parts of a ledger that all products share: amounts of money in sentences, the binding bound, applied caps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.schema import format_number
from models.policy.arithmetic import Bound
from models.policy.config import StopFact
from models.scorecard.batch_columns import gather_codes, to_nullable_int

Sentence = tuple[str, str]  # English, Chinese


INDICATIVE = ("At most {amount} if {assumed} {verb} confirmed.", "至多 {amount}，以核实{assumed}为前提。")
NOTHING_INDICATED = (
    "No limit can be indicated before it is known: {lacks}.",
    "核实{lacks}之前，无法给出参考额度。",
)


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

    def assumed_texts(self, assumed: Mapping[str, float], sentences: Mapping[str, Sentence]) -> Sentence:
        """What unknown inputs count as, in words. assumed: amounts of money; sentences: with {value}."""
        pairs = [(sentences[name], self.format_money(amount)) for name, amount in assumed.items()]
        texts = [(sentence[0].format(value=money[0]), sentence[1].format(value=money[1])) for sentence, money in pairs]
        return " and ".join(en for en, _ in texts), "、".join(zh for _, zh in texts)

    def indicative_entry(
        self, limit: int, counts_as: Mapping[str, float], texts: Sentence, labels: Sentence
    ) -> dict[str, Any]:
        """An indicative limit as a sentence: what it assumes and must be confirmed.

        counts_as: unknown inputs with what they count as; texts: the same in words; labels: what is not known.
        """
        if limit:
            (amount, amount_zh), verb = self.format_money(limit), "are" if len(counts_as) > 1 else "is"
            en = INDICATIVE[0].format(amount=amount, assumed=texts[0], verb=verb)
            zh = INDICATIVE[1].format(amount=amount_zh, assumed=texts[1])
        else:
            en, zh = (text.format(lacks=names) for text, names in zip(NOTHING_INDICATED, labels, strict=True))
        entries = [{"indicator": name, "counts_as": value} for name, value in counts_as.items()]
        return {"amount": limit, "assumed": entries, "en": en, "zh": zh}


def binding_bound(bounds: Mapping[str, Bound]) -> str:
    """The code of the smallest bound, for one answer; the first of equal ones."""
    return min(bounds, key=lambda code: bounds[code][0])


def stop_entry(stop: StopFact) -> dict[str, Any]:
    """The referral entry of a stop fact that holds."""
    bound = format_number(stop.bound)
    return {"code": stop.code, "en": stop.en.format(bound=bound), "zh": stop.zh.format(bound=bound)}


def bound_columns(bounds: Mapping[str, Bound], rows: int) -> dict[str, pl.Series]:
    """bound_CODE in whole units of money, and the code of the binding (smallest) bound, for a batch."""
    amounts = {code: np.broadcast_to(amount, rows) for code, (amount, _) in bounds.items()}
    binding: NDArray[np.int64] = np.argmin(np.stack(list(amounts.values())), axis=0)
    return {f"bound_{code}": to_nullable_int(amount) for code, amount in amounts.items()} | {
        "binding": gather_codes(list(amounts), binding)
    }
