"""From a TOML file to the settings of a recipe: an unknown key is refused with the nearest known one beside it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.errors import did_you_mean


class ConfigError(ValueError):
    """A config that cannot be used: each line names a key, what was found and what is needed."""


class ConfigSection(BaseModel):
    """Base of every section of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load(path: Path | str, config_type: type[ConfigT], **defaults: Any) -> ConfigT:
    """The settings in a TOML file, `defaults` for what it leaves out; raises SettingsRefused with every fault."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file. Check the path.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is no TOML file in UTF-8: {error}. Correct it there.") from error
    return parse(defaults | values, config_type, str(path))


def parse(values: dict[str, Any], config_type: type[ConfigT], source: str = "config") -> ConfigT:
    """The settings in a dict as TOML gives it."""
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        lines = [f"{source}: {_format_error(detail, config_type)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _format_error(detail: Any, config_type: type[BaseModel]) -> str:
    location = [str(key) for key in detail["loc"]]
    name = ".".join(location)
    if detail["type"] == "extra_forbidden":
        known_keys = sorted(_find_section(config_type, location[:-1]).model_fields)
        return f"{name} is not known here{did_you_mean(location[-1], known_keys)}. Known: {', '.join(known_keys)}."
    if detail["type"] == "missing":
        return f"{name} is absent; it is needed."
    if detail["type"] == "value_error":
        return f"{name + ': ' if name else ''}{detail['msg'].removeprefix('Value error, ').rstrip('.')}."
    return f"{name} is {detail['input']!r}: {detail['msg']}."


def _find_section(config_type: type[BaseModel], location: list[str]) -> type[BaseModel]:
    """The model whose keys stand at `where`."""
    for key in location:
        field = config_type.model_fields.get(key)
        annotation = field.annotation if field else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        config_type = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), config_type)
    return config_type
