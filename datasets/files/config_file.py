"""Read a TOML file into a pydantic model, and report all of its errors together.

config = read_config("configs/credit_limit.toml", Config)     # ConfigFileError: one line per error

Every configuration of the project is read here: recipes, policies, contracts, settings, prices and consent rules.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from datasets.errors import did_you_mean

ModelT = TypeVar("ModelT", bound=BaseModel)


class ConfigFileError(ValueError):
    """A configuration that cannot be used. Each line names a key, the value found and the value expected."""

    def __init__(self, source: str, faults: list[str]):
        self.source, self.faults = source, faults
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))


def read_config(
    source: Path | str | bytes,
    model: type[ModelT],
    *,
    name: str = "config",
    error: type[ConfigFileError] = ConfigFileError,
    context: Mapping[str, Any] | None = None,
    **defaults: Any,
) -> ModelT:
    """Read a TOML file, given by its path or its bytes, into `model`.

    name: what messages call bytes. context: pydantic's validation context. defaults: values of absent keys. Raises
    `error` with every fault of the file.
    """
    values = defaults | read_toml(source, name=name, error=error)
    return parse_config(values, model, _source_name(source, name), error=error, context=context)


def read_toml(
    source: Path | str | bytes, *, name: str = "config", error: type[ConfigFileError] = ConfigFileError
) -> dict[str, Any]:
    """The tables of a TOML file in UTF-8. Raises `error` if there is no such file, or if it is not TOML."""
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return tomllib.loads(data.decode())
    except FileNotFoundError as cause:
        raise error(_source_name(source, name), ["there is no such file. Check the path."]) from cause
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        fault = f"is not a TOML file in UTF-8: {cause}. Correct the file."
        raise error(_source_name(source, name), [fault]) from cause


def parse_config(
    values: Mapping[str, Any],
    model: type[ModelT],
    source: str = "config",
    *,
    error: type[ConfigFileError] = ConfigFileError,
    context: Mapping[str, Any] | None = None,
) -> ModelT:
    """Validate values as TOML has them. Raises `error` with every fault."""
    try:
        return model.model_validate(values, context=None if context is None else dict(context))
    except ValidationError as cause:
        raise error(source, [_describe_fault(fault, model) for fault in cause.errors()]) from cause


def _source_name(source: Path | str | bytes, name: str) -> str:
    return name if isinstance(source, bytes) else str(source)


def _describe_fault(fault: Any, model: type[BaseModel]) -> str:
    """One pydantic error as a sentence."""
    location = [str(key) for key in fault["loc"]]
    name = ".".join(location)
    if fault["type"] == "extra_forbidden":
        known_keys = sorted(_model_at(model, location[:-1]).model_fields)
        hint = did_you_mean(location[-1], known_keys) or f"; known keys are {', '.join(known_keys)}."
        return f"{name} is not a known key{hint}"
    if fault["type"] == "missing":
        return f"{name} is absent; it is required."
    if fault["type"] == "value_error":
        message = f"{fault['msg'].removeprefix('Value error, ').rstrip('.')}."
        return f"{name}: {message}" if name else message
    return f"{name} is {fault['input']!r}: {fault['msg']}."


def _model_at(model: type[BaseModel], location: list[str]) -> type[BaseModel]:
    """The model whose keys are at `location`, inside `tuple[Grade, ...]`, `Conduct | None` and the like too."""
    for key in location:
        if key in model.model_fields:
            model = _find_model(model.model_fields[key].annotation) or model
    return model


def _find_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _find_model(inner)) is not None), None)
