"""What an answer rests on: the indicators that were stated or read, and what is said where some were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets.errors import Fault
from serving.core.http.problems import Problem
from serving.privacy.consent.rules import KINDS_ZH


@dataclass(frozen=True, slots=True)
class Stated:
    """What an answer rests on. `pseudonym`: of the subject whose indicators the store held."""

    values: Mapping[str, Any]
    simulated: bool = False
    pseudonym: str | None = None
    grants: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()  # groups of conduct that no grant opens


def unvalued(faults: Sequence[Fault]) -> list[Fault]:
    """What is wrong with stored indicators, without their values, which the caller may not see."""
    shown = {"missing", "not known"}
    return [one if one.found in shown else replace(one, found="another value in the store") for one in faults]


def silence(groups: Sequence[str]) -> dict[str, Any]:
    """What is said where conduct was not read."""
    told = ", ".join(groups)
    return {
        "code": "conduct_not_authorised",
        "groups": list(groups),
        "en": f"No personal authorisation opens {told}: it was not read and raises no limit; nothing else changes.",
        "zh": f"{told} 无有效个人授权：未予读取，不作上浮，其他不受影响。",
    }


def not_authorised(lacking: Mapping[str, Sequence[str]]) -> Problem:
    """`lacking`: group -> the kinds of grant that it wants."""
    kinds = sorted({kind for wanted in lacking.values() for kind in wanted})
    groups = ", ".join(lacking)
    needed_zh = "、".join(KINDS_ZH[kind] for kind in kinds)
    return Problem("not_authorised", found=groups, needed=" and ".join(kinds) + " kind", needed_zh=needed_zh)
