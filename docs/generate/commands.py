"""docs/reference/commands.md: every command of every package, with its arguments and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from docs.generate.markdown import ROOT, code, page, paragraphs, table

TYPER_APPS = (
    "serving.__main__",
    "training.__main__",
    "datasets.__main__",
    "models.credit_limit.__main__",
    "models.scitech_risk.__main__",
)


def typer_commands() -> Iterator[tuple[str, Any]]:
    """(as it is typed, command) of every command that Typer parses."""
    import typer

    for module in TYPER_APPS:
        command: Any = typer.main.get_command(import_module(module).app)
        yield from _walk(f"python -m {module.removesuffix('.__main__')}", command)


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from _walk(f"{path} {name}", inner)


def make_targets() -> dict[str, str]:
    """Target -> what the Makefile says of it."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z][a-z-]*):[^\n#]*##\s*(.+)$", text, flags=re.MULTILINE))


def build_page() -> str:
    sections = [
        "## make\n\n"
        + table(("command", "does"), ((code(f"make {name}"), text) for name, text in make_targets().items()))
    ]
    package = ""
    for path, command in typer_commands():
        if (current := " ".join(path.split()[:3])) != package:
            package = current
            sections.append(f"## {package}")
        sections.append(_command_section(path, command))
    benchmarks = import_module("benchmarks.__main__")
    names = ", ".join(f"`{name}`" for name in (*benchmarks.QUICK, *benchmarks.LONG))
    sections.append(f"## python -m benchmarks\n\n{paragraphs(benchmarks.__doc__)}\n\nNames: {names}.")
    return page(
        "Commands",
        "Every command runs from the root of the project, in its environment (`. .venv/bin/activate`). `--help` after "
        "any of them prints the same. An option that is required says so.",
        *sections,
    )


def _command_section(path: str, command: Any) -> str:
    arguments = [_usage(parameter) for parameter in command.params if not parameter.opts[0].startswith("-")]
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        is_option = parameter.opts[0].startswith("-")
        name = ", ".join([*parameter.opts, *parameter.secondary_opts]) if is_option else parameter.name.upper()
        default = "required" if parameter.required else _default(parameter.default)
        meaning = getattr(parameter, "help", None) or ""
        if parameter.envvar:
            meaning += f" (environment: `{parameter.envvar}`)"
        rows.append((code(name), default, meaning))
    usage = " ".join([path, *arguments])
    body = table(("argument or option", "default", "meaning"), rows) if rows else ""
    return "\n\n".join(
        block for block in (f"### {path}", f"```text\n{usage}\n```", paragraphs(command.help), body) if block
    )


def _usage(parameter: Any) -> str:
    name = str(parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def _default(value: Any) -> str:
    if value in (None, False, "", ()):
        return ""
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        value = value.relative_to(ROOT)
    return code(value)
