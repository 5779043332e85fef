"""Role-based access control: the roles allowed for every route. The service does not start with a route that is missing
here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from serving.core.http.principal import ROLES
from serving.core.security.errors import MissingPermissionError

PUBLIC: frozenset[str] = frozenset()  # without a token
ANY_ROLE = frozenset(ROLES)  # with any token
BANK = frozenset({"bank"})
BANK_RECORD_ROLES = frozenset({"bank", "auditor"})
CLINIC = frozenset({"clinic"})
SLIDE_ROLES = frozenset({"clinic", "pathologist", "auditor"})
PATHOLOGIST = frozenset({"pathologist"})
OPERATOR = frozenset({"operator"})
LOG_ROLES = frozenset({"bank", "clinic", "pathologist", "auditor", "operator"})
SCIENTIST = frozenset({"scientist"})
MODEL_ROLES = frozenset({"scientist", "auditor", "operator"})

# The console is one page under addresses of any depth.
CONSOLE_PATHS = ("/console", "/console/{a}", "/console/{a}/{b}", "/console/{a}/{b}/{c}", "/console/{a}/{b}/{c}/{d}")

PERMISSIONS: dict[str, frozenset[str]] = {
    "POST /v1/credit-limits": BANK,
    "POST /v1/credit-limits/batch": BANK,
    "POST /v1/scitech-risks": BANK,
    "POST /v1/scitech-risks/batch": BANK,
    "POST /v1/credit-limits/what-if": BANK,
    "POST /v1/scitech-risks/what-if": BANK,
    "GET /v1/models/{name}/form": BANK,
    "GET /v1/decisions": BANK_RECORD_ROLES,
    "GET /v1/decisions/{id}": BANK_RECORD_ROLES,
    "GET /v1/decisions/{id}/receipt": frozenset({"bank", "clinic", "pathologist", "auditor"}),
    "GET /v1/statements/{month}": frozenset({"bank", "clinic", "auditor", "operator"}),
    "POST /v1/authorisations": OPERATOR,
    "GET /v1/authorisations": frozenset({"bank", "clinic", "auditor", "operator"}),
    "GET /v1/authorisations/rules": OPERATOR,
    "POST /v1/authorisations/{id}/revoke": OPERATOR,
    "GET /v1/authorisations/{id}/uses": frozenset({"auditor", "operator"}),
    "GET /v1/decisions/{id}/trace": frozenset({"bank", "clinic", "pathologist", "auditor"}),
    "POST /v1/decisions/{id}/override": BANK,
    "POST /v1/decisions/{id}/refer": BANK,
    "GET /v1/authority": BANK_RECORD_ROLES,
    "POST /v1/outcomes": frozenset({"bank", "clinic", "pathologist"}),
    "GET /v1/effects": frozenset({"scientist", "auditor", "operator"}),
    "GET /v1/alarms": OPERATOR,
    "GET /v1/log/checkpoint": LOG_ROLES,
    "GET /v1/log/consistency": LOG_ROLES,
    "GET /v1/subjects/{id}/trace": OPERATOR,  # across tenants: everything that an erasure must find
    "GET /v1/batches": BANK_RECORD_ROLES,
    "GET /v1/batches/{id}": BANK_RECORD_ROLES,
    "GET /v1/batches/{id}/rows": BANK_RECORD_ROLES,
    "GET /v1/companies/{id}/history": BANK_RECORD_ROLES,
    "GET /v1/companies/{id}/network": BANK,
    "GET /v1/scitech-risks/stress": BANK,
    "POST /v1/scitech-risks/stress": BANK,
    "GET /v1/slides": SLIDE_ROLES,
    "POST /v1/slides": CLINIC,
    "GET /v1/slides/turnaround": SLIDE_ROLES,
    "GET /v1/slides/{id}": SLIDE_ROLES,
    "GET /v1/slides/{id}/report": SLIDE_ROLES,
    "GET /v1/slides/{id}/image.dzi": SLIDE_ROLES,
    "GET /v1/slides/{id}/image_files/{level}/{tile}": SLIDE_ROLES,
    "GET /v1/slides/{id}/heatmap.dzi": SLIDE_ROLES,
    "GET /v1/slides/{id}/heatmap_files/{level}/{tile}": SLIDE_ROLES,
    "GET /v1/slides/{id}/annotations.geojson": SLIDE_ROLES,
    "POST /v1/slides/{id}/cancel": CLINIC,
    "POST /v1/slides/{id}/scale": frozenset({"clinic", "operator"}),
    "POST /v1/slides/{id}/review": PATHOLOGIST,
    "POST /v1/slides/{id}/sign": PATHOLOGIST,
    "POST /v1/slides/{id}/amend": PATHOLOGIST,
    "POST /v1/uploads": CLINIC,
    "POST /v1/uploads/{id}": CLINIC,  # in place of the three below, by X-HTTP-Method-Override
    "HEAD /v1/uploads/{id}": CLINIC,
    "PATCH /v1/uploads/{id}": CLINIC,
    "DELETE /v1/uploads/{id}": CLINIC,
    "OPTIONS /v1/uploads": PUBLIC,  # capabilities of the tus protocol
    "OPTIONS /v1/uploads/{id}": PUBLIC,
    "POST /v1/dicomweb/studies": CLINIC,
    "POST /v1/dicomweb/studies/{study}": CLINIC,
    "GET /v1/models": ANY_ROLE,
    "GET /v1/versions": MODEL_ROLES,
    "GET /v1/models/{name}/versions": MODEL_ROLES,
    "GET /v1/models/{name}/versions/{version}": MODEL_ROLES,
    "POST /v1/models/{name}/champion": SCIENTIST,
    "GET /v1/session": ANY_ROLE,
    "POST /v1/session": PUBLIC,
    "DELETE /v1/session": PUBLIC,
    "GET /metrics": OPERATOR,
    "GET /healthz/live": PUBLIC,
    "GET /healthz/ready": PUBLIC,  # reveals less without a token
    "GET /openapi.json": PUBLIC,
    "GET /problems/{kind}": PUBLIC,
    **{f"GET {path}": PUBLIC for path in CONSOLE_PATHS},  # the page itself holds no data
    "GET /": PUBLIC,
    "GET /assets/{name}": PUBLIC,
}


def roles_by_route(routes: Mapping[str, Iterable[str]]) -> dict[tuple[str, str], frozenset[str]]:
    """(pattern, method) -> allowed roles. `routes`: pattern -> methods. Raises MissingPermissionError."""
    permissions = {
        (route, method): PERMISSIONS.get(f"{method} {route}") for route, methods in routes.items() for method in methods
    }
    if missing := [f"{method} {route}" for (route, method), roles in permissions.items() if roles is None]:
        raise MissingPermissionError(
            f"PERMISSIONS has no row for {', '.join(missing)}. "
            "Add the allowed roles in serving/core/security/permissions.py."
        )
    return {key: roles for key, roles in permissions.items() if roles is not None}
