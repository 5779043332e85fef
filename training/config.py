"""From a TOML file to the settings of a recipe: an unknown key is refused with the nearest known one beside it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.schema import nearest


class SettingsRefused(ValueError):
    """A config that cannot be used: each line names a key, what was found and what is needed."""


class Settings(BaseModel):
    """Base of every section of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=BaseModel)


def load(path: Path | str, kind: type[Kind], **defaults: Any) -> Kind:
    """The settings in a TOML file, `defaults` for what it leaves out; raises SettingsRefused with every fault."""
    try:
        given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsRefused(f"{path}: there is no such file. Check the path.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsRefused(f"{path}: is no TOML file in UTF-8: {error}. Correct it there.") from error
    return parse(defaults | given, kind, str(path))


def parse(given: dict[str, Any], kind: type[Kind], place: str = "config") -> Kind:
    """The settings in a dict as TOML gives it."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        lines = [f"{place}: {_sentence(fault, kind)}" for fault in error.errors()]
        raise SettingsRefused("\n".join(lines)) from error


def _sentence(fault: Any, kind: type[BaseModel]) -> str:
    where = [str(part) for part in fault["loc"]]
    name = ".".join(where)
    if fault["type"] == "extra_forbidden":
        known = sorted(_section(kind, where[:-1]).model_fields)
        return f"{name} is not known here{nearest(where[-1], known)}. Known: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"{name} is absent; it is needed."
    if fault["type"] == "value_error":
        return f"{name + ': ' if name else ''}{fault['msg'].removeprefix('Value error, ').rstrip('.')}."
    return f"{name} is {fault['input']!r}: {fault['msg']}."


def _section(kind: type[BaseModel], where: list[str]) -> type[BaseModel]:
    """The model whose keys stand at `where`."""
    for part in where:
        field = kind.model_fields.get(part)
        inner = field.annotation if field else None
        options = [inner, *getattr(inner, "__args__", ())]
        kind = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), kind)
    return kind
