"""What an answer rests on: the indicators that were stated or read, and what is said where some were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets.errors import FieldError
from serving.core.http.problems import ProblemError
from serving.privacy.consent.rules import GRANT_KINDS_ZH


@dataclass(frozen=True, slots=True)
class ResolvedInputs:
    """What an answer rests on. `pseudonym`: of the subject whose indicators the store held."""

    values: Mapping[str, Any]
    simulated: bool = False
    pseudonym: str | None = None
    grants: tuple[str, ...] = ()
    withheld_groups: tuple[str, ...] = ()  # groups of conduct that no grant opens


def redact_faults(faults: Sequence[FieldError]) -> list[FieldError]:
    """What is wrong with stored indicators, without their values, which the caller may not see."""
    value_free = {"missing", "not known"}
    return [
        fault if fault.actual in value_free else replace(fault, actual="another value in the store") for fault in faults
    ]


def withheld_notice(groups: Sequence[str]) -> dict[str, Any]:
    """What is said where conduct was not read."""
    group_list = ", ".join(groups)
    return {
        "code": "conduct_not_authorised",
        "groups": list(groups),
        "en": f"No personal authorisation opens {group_list}: it was not read and raises no limit; nothing else changes.",
        "zh": f"{group_list} 无有效个人授权：未予读取，不作上浮，其他不受影响。",
    }


def not_authorised_problem(missing: Mapping[str, Sequence[str]]) -> ProblemError:
    """`lacking`: group -> the kinds of grant that it wants."""
    kinds = sorted({kind for group_kinds in missing.values() for kind in group_kinds})
    groups = ", ".join(missing)
    expected_zh = "、".join(GRANT_KINDS_ZH[kind] for kind in kinds)
    return ProblemError(
        "not_authorised", actual=groups, expected=" and ".join(kinds) + " kind", expected_zh=expected_zh
    )
