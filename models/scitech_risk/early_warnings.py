"""Early warnings: what in a company's recent months asks to be watched, or for an act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.policy.arithmetic import Flag, Number
from models.scitech_risk.policy import Signal


def raised(signals: tuple[Signal, ...], a: Mapping[str, Number], ops: Any) -> dict[str, Flag]:
    """Code -> whether it is told, for one company or for many; a signal whose indicator is missing is not."""
    met: dict[str, Flag] = {}
    for signal in signals:
        value = a[signal.indicator]
        met[signal.code] = value >= signal.at_least if signal.at_least is not None else value <= signal.at_most
    told = dict(met)
    for signal in signals:
        if signal.instead_of is not None:
            told[signal.instead_of] = ops.both(told[signal.instead_of], ops.negate(met[signal.code]))
    return told
