"""Alarms: what an operator must look at now, from refused bundles to a failing store."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from serving.core.alarms import describe_alarm_zh
from serving.decisions.service import DecisionService

Row = dict[str, Any]


async def current_alarms(service: DecisionService) -> list[Row]:
    """Every alarm with its reason in both languages, the oldest first; those without a time come before the others."""
    failures = {**service.model_loader.failures, **service.slide_model_loader.failures}
    alarms: list[Row] = [
        {"what": "bundle", "name": name, **asdict(failure), "why_zh": failure.why_zh}
        for name, failure in failures.items()
    ]
    reasons = {
        "store": await service.store.probe(),
        "log": service.store.log_alarm,
        "counts": service.input_counter.failure,
        "loop": "; ".join(service.loop_failures.values()) or None,
    }
    for component, reason in reasons.items():
        if reason is not None:
            alarm = {"what": component, "name": component, "version": "", "why": reason, "since": ""}
            alarms.append(alarm | {"why_zh": describe_alarm_zh(component, reason)})
    return sorted(alarms, key=lambda alarm: (alarm["since"], alarm["name"]))
