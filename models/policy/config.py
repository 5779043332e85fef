"""What the policies of every product share: TOML read into frozen sections, all faults told together.

A policy is a Section with its keys; `load(Policy, source)` reads it from a path or a file's bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from datasets.schema import nearest

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Some = Annotated[int, Field(gt=0, strict=True)]
Text = Annotated[str, Field(min_length=1)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]  # ISO 4217


class PolicyRefused(ValueError):
    """A policy that cannot be used: each line names a key, what was found and what is needed."""

    def __init__(self, place: str, faults: list[str]):
        self.place, self.faults = place, faults
        super().__init__("\n".join(f"{place}: {fault}" for fault in faults))


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Section)


def on_rails(info: ValidationInfo) -> bool:
    """Whether a policy that breaks a guard rail is to be refused."""
    return (info.context or {}).get("rails") is not False


class Words(Section):
    en: Text
    zh: Text


class Grade(Section):
    name: Text
    pd_up_to: Annotated[float, Field(gt=0, le=1, strict=True)]  # inclusive
    loss_budget: Amount  # expected loss that one borrower may cost, per year


def grade_faults(grades: Sequence[Grade], floor_grade: str, info: ValidationInfo) -> list[str]:
    """What is wrong with a scale of grades, the best first, and with the worst that a machine may approve."""
    names = [grade.name for grade in grades]
    edges = [grade.pd_up_to for grade in grades]
    faults = []
    if len(set(names)) != len(names):
        faults.append(f"grades {names} must each have a name of their own")
    if len(grades) < 2 or any(b <= a for a, b in zip(edges, edges[1:], strict=False)) or edges[-1] != 1.0:
        faults.append(f"pd_up_to is {edges}; it must rise from the best grade to the worst and end at 1")
    if floor_grade not in names[:-1]:
        faults.append(f"floor_grade {floor_grade!r} must be one of {names[:-1]}{nearest(floor_grade, names[:-1])}")
    budgets = [grade.loss_budget for grade in grades]
    if on_rails(info) and any(b > a for a, b in zip(budgets, budgets[1:], strict=False)):
        faults.append(f"loss_budget of the grades is {budgets}; it must never rise as the grade gets worse")
    return faults


def approval_line(grades: Sequence[Grade], floor_grade: str) -> float:
    """The greatest PD of the floor grade."""
    return next(grade.pd_up_to for grade in grades if grade.name == floor_grade)


def load(model: type[S], source: Path | str | bytes, *, rails: bool = True) -> S:
    """From a path or a file's bytes. `rails=False` admits a policy that breaks a guard rail, for the checker."""
    place = "policy" if isinstance(source, bytes) else str(source)
    try:
        text = (source if isinstance(source, bytes) else Path(source).read_bytes()).decode()
        return model.model_validate(tomllib.loads(text), context={"rails": rails})
    except FileNotFoundError as error:
        raise PolicyRefused(place, ["there is no such file. Check the path."]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, IsADirectoryError) as error:
        raise PolicyRefused(place, [f"is no TOML file in UTF-8: {error}. Correct it there."]) from error
    except ValidationError as error:
        raise PolicyRefused(place, [_fault(fault, model) for fault in error.errors()]) from error


def _fault(error: Any, model: type[Section]) -> str:
    """One pydantic error as a sentence."""
    loc = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        section = ".".join(loc[:-1])
        known = sorted(_section(model, loc[:-1]).model_fields)
        where = f"[{section}]" if section else "a policy"
        close = nearest(loc[-1], known) or f"; it has {', '.join(known)}."
        return f"{'.'.join(loc)} is not a key of {where}{close}"
    if error["type"] == "missing":
        return f"{'.'.join(loc)} is absent; it is needed."
    if error["type"] == "value_error":
        said = f"{error['msg'].removeprefix('Value error, ')}."
        return f"{'.'.join(loc)}: {said}" if loc else said
    return f"{'.'.join(loc)} is {error['input']!r}: {error['msg']}."


def _section(model: type[Section], loc: list[str]) -> type[Section]:
    """The section whose keys stand at `loc`."""
    found = model
    for part in loc:
        if part in found.model_fields:
            found = _model(found.model_fields[part].annotation)
    return found


def _model(annotation: Any) -> type[Section]:
    """`tuple[Grade, ...]`, `Conduct | None`, `dict[str, Words]` -> the section inside."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(_model(inner) for inner in get_args(annotation) if inner not in (str, type(None), Ellipsis))
