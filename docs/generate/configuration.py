"""docs/reference/configuration.md: every key of every file under configs/."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from docs.generate.markdown import (
    ROOT,
    bounds_text,
    code,
    field_comments,
    model_sections,
    nested_models,
    page,
    table,
    trailing_comments,
    type_text,
)

# What a file under configs/ is parsed into: title, files, module, class.
CONFIG_FILES = (
    ("Recipe of a credit-limit model", "configs/credit_limit*.toml", "training.credit_limit", "Config"),
    ("Recipe of a company-risk model", "configs/scitech_risk*.toml", "training.scitech_risk", "Config"),
    ("Recipe of a slide model", "configs/pathology*.toml", "training.pathology.recipe", "Config"),
    ("Policy of credit limits", "configs/policies/credit_limit*.toml", "models.credit_limit.policy", "Policy"),
    ("Policy of company risk", "configs/policies/scitech_risk*.toml", "models.scitech_risk.policy", "Policy"),
    ("Policy of slide readings", "configs/policies/pathology.toml", "models.pathology.policy", "ReadingPolicy"),
    ("Stress scenarios", "configs/stress.toml", "models.scitech_risk.stress", "StressConfig"),
    ("Consent rules", "configs/consent.toml", "serving.privacy.consent.rules", "ConsentRules"),
    ("Authority of people", "configs/authority.toml", "serving.governance.human_decisions.authority", "Authority"),
    ("Prices", "configs/prices.toml", "serving.core.billing.prices", "PriceList"),
)


def config_models() -> Iterator[tuple[str, str, type[BaseModel]]]:
    for title, files, module, name in CONFIG_FILES:
        yield title, files, getattr(import_module(module), name)


def setting_keys() -> Iterator[str]:
    """Every key of configs/serving.toml, with its section."""
    for section, model in _service_sections():
        for name, field in model.model_fields.items():
            if section or not any(nested_models(field.annotation)):
                yield f"{section}.{name}".removeprefix(".")


def build_page() -> str:
    seen: set[type[BaseModel]] = set()
    sections = [_service_settings()]
    for title, files, model in config_models():
        sections.append(f"## {title}\n\n`{files}`\n\n{model_sections(model, 3, seen)}")
    return page(
        "Configuration",
        "Every file is TOML. An unknown key is an error that names the nearest known one. Numbers that a risk "
        "officer or "
        "a pathologist may argue about stand in these files and nowhere in code; the shipped files explain each value "
        "beside it. A section that several files share is described once, where it first occurs.",
        *sections,
    )


def _service_sections() -> Iterator[tuple[str, type[BaseModel]]]:
    from serving.settings import Settings

    yield "", Settings
    for name, field in Settings.model_fields.items():
        for model in nested_models(field.annotation):
            yield name, model
            for inner_name, inner in model.model_fields.items():
                yield from ((f"{name}.{inner_name}.TENANT", deeper) for deeper in nested_models(inner.annotation))


def _service_settings() -> str:
    text = (ROOT / "configs/serving.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    parts = [
        "## Service\n\n`configs/serving.toml`, read by `serve`, `serve-slides` and every command that opens the store. "
        "An environment variable replaces the value in the file. `YUHENG_SERVING` names another file; relative paths "
        "start at `YUHENG_HOME`, or at the folder that holds `serving/`."
    ]
    for section, model in _service_sections():
        section_text = _section_text(text, section)
        comments = field_comments(model) | trailing_comments(section_text, r"(\w+)\s*=")
        section_values = values.get(section, {}) if section else values
        rows = []
        for name, field in model.model_fields.items():
            value = section_values.get(name)
            if any(nested_models(field.annotation)):
                if not section:
                    continue  # a section of its own, below
                meaning, variable = "a table for each tenant, below", ""
            elif isinstance(value, dict):
                variable = ", ".join(code(f"YUHENG_{name}_{key}".upper()) for key in value)
                meaning = _section_comment(text, name)
            else:
                parts_of_name = ("YUHENG", *(() if section in ("", "paths") else (section,)), name)
                variable = "" if "TENANT" in section else code("_".join(parts_of_name).upper())
                meaning = comments.get(name, "")
            types = ", ".join(filter(None, (type_text(field.annotation), bounds_text(field))))
            rows.append((code(name), types, _toml(value), variable, meaning))
        heading = f"### [{section}]" if section else "### Top level"
        parts += [heading, table(("key", "type", "shipped", "environment", "meaning"), rows)]
    return "\n\n".join(parts)


def _section_text(text: str, section: str) -> str:
    """The lines of a section of a TOML file."""
    lines, current = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            current = line[1 : line.index("]")]
        elif current == section:
            lines.append(line)
    return "\n".join(lines)


def _section_comment(text: str, section: str) -> str:
    """The comment beside the heading of a section."""
    return next(line.partition("#")[2].strip() for line in text.splitlines() if line.startswith(f"[{section}]"))


def _toml(value: Any) -> str:
    return "" if value is None else code(json.dumps(value, ensure_ascii=False))
