"""What the policies of every product share: TOML read into frozen sections, all faults told together.

A policy is a Section with its keys; `load_section(Policy, source)` reads it from a path or a file's bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from datasets.errors import did_you_mean

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
NonEmptyText = Annotated[str, Field(min_length=1)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]  # ISO 4217


class PolicyError(ValueError):
    """A policy that cannot be used: each line names a key, what was found and what is needed."""

    def __init__(self, source: str, faults: list[str]):
        self.source, self.faults = source, faults
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


SectionT = TypeVar("SectionT", bound=Section)


def enforces_guardrails(info: ValidationInfo) -> bool:
    """Whether a policy that breaks a guard rail is to be refused."""
    return (info.context or {}).get("rails") is not False


class BilingualText(Section):
    en: NonEmptyText
    zh: NonEmptyText


class Grade(Section):
    name: NonEmptyText
    pd_up_to: Annotated[float, Field(gt=0, le=1, strict=True)]  # inclusive
    loss_budget: Amount  # expected loss that one borrower may cost, per year


def find_grade_faults(grades: Sequence[Grade], floor_grade: str, info: ValidationInfo) -> list[str]:
    """What is wrong with a scale of grades, the best first, and with the worst that a machine may approve."""
    names = [grade.name for grade in grades]
    edges = [grade.pd_up_to for grade in grades]
    faults = []
    if len(set(names)) != len(names):
        faults.append(f"grades {names} must each have a name of their own")
    if len(grades) < 2 or any(b <= a for a, b in zip(edges, edges[1:], strict=False)) or edges[-1] != 1.0:
        faults.append(f"pd_up_to is {edges}; it must rise from the best grade to the worst and end at 1")
    if floor_grade not in names[:-1]:
        faults.append(f"floor_grade {floor_grade!r} must be one of {names[:-1]}{did_you_mean(floor_grade, names[:-1])}")
    budgets = [grade.loss_budget for grade in grades]
    if enforces_guardrails(info) and any(b > a for a, b in zip(budgets, budgets[1:], strict=False)):
        faults.append(f"loss_budget of the grades is {budgets}; it must never rise as the grade gets worse")
    return faults


def approval_cutoff(grades: Sequence[Grade], floor_grade: str) -> float:
    """The greatest PD of the floor grade."""
    return next(grade.pd_up_to for grade in grades if grade.name == floor_grade)


def load_section(
    section_type: type[SectionT], source: Path | str | bytes, *, enforce_guardrails: bool = True
) -> SectionT:
    """From a path or a file's bytes. `enforce_guardrails=False` admits a policy that breaks a guard rail, for the checker."""
    source_name = "policy" if isinstance(source, bytes) else str(source)
    try:
        text = (source if isinstance(source, bytes) else Path(source).read_bytes()).decode()
        return section_type.model_validate(tomllib.loads(text), context={"rails": enforce_guardrails})
    except FileNotFoundError as error:
        raise PolicyError(source_name, ["there is no such file. Check the path."]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, IsADirectoryError) as error:
        raise PolicyError(source_name, [f"is no TOML file in UTF-8: {error}. Correct it there."]) from error
    except ValidationError as error:
        raise PolicyError(source_name, [_describe_error(fault, section_type) for fault in error.errors()]) from error


def _describe_error(error: Any, section_type: type[Section]) -> str:
    """One pydantic error as a sentence."""
    loc = [str(key) for key in error["loc"]]
    if error["type"] == "extra_forbidden":
        section_name = ".".join(loc[:-1])
        known = sorted(_find_section(section_type, loc[:-1]).model_fields)
        location = f"[{section_name}]" if section_name else "a policy"
        suggestion = did_you_mean(loc[-1], known) or f"; it has {', '.join(known)}."
        return f"{'.'.join(loc)} is not a key of {location}{suggestion}"
    if error["type"] == "missing":
        return f"{'.'.join(loc)} is absent; it is needed."
    if error["type"] == "value_error":
        message = f"{error['msg'].removeprefix('Value error, ')}."
        return f"{'.'.join(loc)}: {message}" if loc else message
    return f"{'.'.join(loc)} is {error['input']!r}: {error['msg']}."


def _find_section(section_type: type[Section], path: list[str]) -> type[Section]:
    """The section whose keys stand at `path`."""
    section = section_type
    for key in path:
        if key in section.model_fields:
            section = _section_type(section.model_fields[key].annotation)
    return section


def _section_type(annotation: Any) -> type[Section]:
    """`tuple[Grade, ...]`, `Conduct | None`, `dict[str, Words]` -> the section inside."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(_section_type(inner) for inner in get_args(annotation) if inner not in (str, type(None), Ellipsis))
