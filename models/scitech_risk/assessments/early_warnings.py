"""Evaluate early warnings: signs in a company's recent months that ask for attention (watch) or for action (act)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.policy.arithmetic import Flag, Number
from models.scitech_risk.policy import WarningSignal


def active_warnings(signals: tuple[WarningSignal, ...], inputs: Mapping[str, Number], ops: Any) -> dict[str, Flag]:
    """Code -> whether the warning is active, for one company or for many; it is not if its indicator is missing."""
    condition_met: dict[str, Flag] = {}
    for signal in signals:
        value = inputs[signal.indicator]
        condition_met[signal.code] = (
            value >= signal.at_least if signal.at_least is not None else value <= signal.at_most
        )
    active = dict(condition_met)
    for signal in signals:
        if signal.instead_of is not None:
            active[signal.instead_of] = ops.logical_and(
                active[signal.instead_of], ops.logical_not(condition_met[signal.code])
            )
    return active
