"""docs/reference/http-api.md and problems.md, from the OpenAPI document and the table of permissions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docs.generate.markdown import code, page, table


def build_routes_page() -> str:
    from serving.core.http.principal import ROLES
    from serving.core.security.permissions import PERMISSIONS
    from serving.openapi import build_document
    from serving.settings import load_settings

    document = build_document({}, load_settings(environ={}))
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    overview = table(
        ("route", "roles", "summary"),
        (
            (code(route), _roles(roles, len(ROLES)), operations.get(route, {}).get("summary", ""))
            for route, roles in PERMISSIONS.items()
        ),
    )
    roles = table(("role", "may", "可以"), ((code(name), en, zh) for name, (en, zh) in ROLES.items()))
    details = [_operation_section(route, operation) for route, operation in sorted(operations.items(), key=_order)]
    schemas = [
        f"### {name}\n\n{_schema_table(schema)}" for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return page(
        "HTTP",
        "`GET /openapi.json` of a running service describes the same in OpenAPI 3.1, with the inputs of the "
        "models that "
        "it serves. Every call except public routes carries `Authorization: Bearer TOKEN`. A refusal is a problem "
        "(RFC 9457) of one of the [kinds listed here](problems.md).",
        f"## Roles\n\n{roles}",
        f"## Routes\n\n{overview}",
        "## Details",
        *details,
        "## Schemas",
        *schemas,
    )


def build_problems_page() -> str:
    from serving.core.http.problems import PROBLEM_TYPES

    rows = [
        (f'<span id="{kind}"></span>`{kind}`', problem.status, f"{problem.title}<br>{problem.title_zh}",
         f"{problem.detail}<br>{problem.detail_zh}")
        for kind, problem in PROBLEM_TYPES.items()
    ]  # fmt: skip
    return page(
        "Problems",
        "Every refusal is `application/problem+json` (RFC 9457) with `type` `/problems/KIND`, `status`, "
        "`title`, `detail` "
        "and both again in Chinese (`title_zh`, `detail_zh`); faults of single fields stand under `errors`, each with "
        "the field, what was found and what is needed. Braces mark what the service fills in. `GET /problems/KIND` "
        "explains one on a running service.",
        table(("kind", "status", "title", "detail"), rows),
    )


def _order(item: tuple[str, Any]) -> tuple[str, str]:
    method, path = item[0].split(" ", 1)
    return path, method


def _roles(roles: frozenset[str], count: int) -> str:
    if not roles:
        return "public"
    return "any role" if len(roles) == count else ", ".join(sorted(roles))


def _operation_section(route: str, operation: dict[str, Any]) -> str:
    parts = [f"### {route}", operation.get("summary", "") + "."]
    if description := operation.get("description"):
        parts.append(description)
    rows = [
        (code(item["name"]), item["in"], "yes" if item.get("required") else "", _schema_text(item.get("schema", {})),
         item.get("description", ""))
        for item in operation.get("parameters", ())
    ]  # fmt: skip
    if rows:
        parts.append(table(("parameter", "in", "required", "type", "meaning"), rows))
    if body := operation.get("requestBody"):
        kinds = [
            f"{code(kind)} {_schema_text(content.get('schema', {}))}".strip()
            for kind, content in body["content"].items()
        ]
        parts.append(f"Body: {'; '.join(kinds)}.")
    responses = [(status, "; ".join(_response_texts(response))) for status, response in operation["responses"].items()]
    parts.append(table(("status", "response"), responses))
    return "\n\n".join(section for section in parts if section.strip("."))


def _response_texts(response: dict[str, Any]) -> Iterator[str]:
    content = response.get("content", {})
    for kind, media in content.items():
        if kind == "application/problem+json":
            names = media["schema"]["properties"]["type"]["enum"]
            yield ", ".join(f"[{name.rpartition('/')[2]}](problems.md#{name.rpartition('/')[2]})" for name in names)
        else:
            yield f"{code(kind)} {_schema_text(media.get('schema', {}))}".strip()
    if not content:
        yield response.get("description", "")
    if headers := response.get("headers"):
        yield "headers " + ", ".join(code(name) for name in headers)


def _schema_text(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower().replace('.', '')})"
    if "enum" in schema:
        return "one of " + ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    for joint in ("oneOf", "anyOf", "allOf"):
        if joint in schema:
            return " or ".join(dict.fromkeys(_schema_text(item) for item in schema[joint]))
    kind = schema.get("type", "")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if text == "array" and schema.get("items"):
        text = f"array of {_schema_text(schema['items'])}"
    if text == "object" and schema.get("properties"):
        text = "object with " + ", ".join(code(name) for name in schema["properties"])
    bounds = {"minimum": "≥", "maximum": "≤", "minLength": "length ≥", "maxLength": "length ≤", "pattern": "matches"}
    limits = [f"{sign} `{schema[name]}`" for name, sign in bounds.items() if name in schema]
    return ", ".join(section for section in (text, *limits) if section)


def _schema_table(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (code(name), _schema_text(item), "yes" if name in required else "", item.get("description", ""))
        for name, item in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "always", "meaning"), rows) if rows else _schema_text(schema)
