"""Read a recipe's settings from a TOML file; an unknown key is refused together with the nearest known one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets.errors import did_you_mean


class ConfigError(ValueError):
    """A config that cannot be used: each line names a key, what was found, and what is expected."""


class ConfigSection(BaseModel):
    """Base class of every section of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingConfig(ConfigSection):
    """The settings that every product has. `name` is the model's: the folder of its bundles, its registry entry."""

    product: ClassVar[str]

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    purpose: str
    not_for: str
    purpose_zh: str = ""  # no default: it would describe another purpose where a config states its own in English
    not_for_zh: str = ""
    policy: Path
    seed: int = 0


ConfigT = TypeVar("ConfigT", bound=BaseModel)
TrainingConfigT = TypeVar("TrainingConfigT", bound=TrainingConfig)


def load(path: Path | str, config_type: type[ConfigT], **defaults: Any) -> ConfigT:
    """Read a TOML file; `defaults` fill the keys that it leaves out. Raises ConfigError listing every fault."""
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file. Check the path.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file in UTF-8: {error}. Correct the file.") from error
    return parse(defaults | values, config_type, str(path))


def load_training_config(path: Path, config_type: type[TrainingConfigT]) -> TrainingConfigT:
    """Read a recipe's config; the model is named after the file unless the file says otherwise. Raises ConfigError."""
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")[:56].rstrip("_")
    name = f"model_{name}" if name[:1].isdigit() else name
    if name:
        return load(path, config_type, name=name)
    try:
        return load(path, config_type)
    except ConfigError as error:
        if "name is missing" not in str(error):
            raise
        raise ConfigError(
            f"{path}: its file name has no Latin letter or digit to name the model by. "
            'Write name = "..." at the top of it: lower-case letters, digits and _.\n'
            f'{path}：文件名中没有可用于模型命名的拉丁字母或数字。请在文件开头写上 name = "..."（小写字母、数字和 _）。'
        ) from error


def parse(values: dict[str, Any], config_type: type[ConfigT], source: str = "config") -> ConfigT:
    """Validate a dict as TOML gives it; `source` names it in the messages. Raises ConfigError listing every fault."""
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
        hint = did_you_mean(location[-1], known_keys)
        return f"{name} is not a known key{hint}. Known keys: {', '.join(known_keys)}."
    if detail["type"] == "missing":
        return f"{name} is missing; it is required."
    if detail["type"] == "value_error":
        return f"{name + ': ' if name else ''}{detail['msg'].removeprefix('Value error, ').rstrip('.')}."
    return f"{name} is {detail['input']!r}: {detail['msg']}."


def _find_section(config_type: type[BaseModel], location: list[str]) -> type[BaseModel]:
    """The section that the keys of `location` lead to."""
    for key in location:
        field = config_type.model_fields.get(key)
        annotation = field.annotation if field else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        config_type = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), config_type)
    return config_type
