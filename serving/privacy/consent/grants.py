"""Enter, list and revoke authorisations. A grant is never altered: to change it, revoke it and enter another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import sqlalchemy as sa
from pydantic import Field

from datasets.errors import FieldError
from serving.core.audit import entries, log
from serving.core.db.schema import GRANTS
from serving.core.db.tables.consent import GrantRow
from serving.core.http import validation
from serving.core.http.validation import SHA256, RequestModel, Rule, matching, one_of, text
from serving.core.identifiers import new_id, utc_now
from serving.privacy.consent.rules import GRANT_KINDS, PURPOSES, ConsentRules
from serving.privacy.subjects.vault import Vault

MAX_LISTED = 200  # grants of one page


def _parse_time(value: Any, is_end: bool) -> str | None:
    """A timestamp as in the store; None for anything else. A date given as an end includes that whole day."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        time += timedelta(days=1 if is_end and len(value) == 10 else 0)
    except (ValueError, OverflowError):
        return None
    return f"{time.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _time_rule(is_end: bool) -> Rule:
    return Rule(
        "a date or a time in UTC such as 2026-12-31 or 2026-12-31T12:00:00Z",
        "日期或 UTC 时间，如 2026-12-31",
        {"type": "string"},
        lambda value: _parse_time(value, is_end) is not None,
        lambda value: _parse_time(value, is_end),
    )


GROUPS = Rule(
    "a non-empty list of groups",
    "非空的指标组列表",
    {"type": "array", "minItems": 1, "items": {"type": "string"}},
    lambda value: isinstance(value, list) and all(isinstance(group, str) for group in value),
)
DOCUMENT = replace(
    SHA256,
    expected="the SHA-256 of the signed document, 64 hex digits",
    expected_zh="签署文件的 SHA-256，64 位十六进制",
)
TENANT = matching("[A-Za-z0-9_.-]{1,64}", "1 to 64 letters, digits, _ . and -", "1 至 64 个字母、数字、_、. 或 -")


class GrantRequest(RequestModel):
    """The signed authorisation, with times converted to those of the store."""

    kind: Annotated[str, one_of(*GRANT_KINDS)]
    tenant: Annotated[str, TENANT, Field(description="The grantee")]
    purpose: Annotated[str, one_of(*PURPOSES)]
    groups: Annotated[list[str], GROUPS]
    valid_to: Annotated[str, _time_rule(is_end=True), Field(description="A date or a time in UTC")]
    document_sha256: Annotated[str, DOCUMENT, Field(description="SHA-256 of the signed document")]
    grantor: Annotated[str, text(255), Field(description="The authority; a personal grant comes from its subject")] = ""
    subject_id: Annotated[str, text(255)] = ""
    product: Annotated[
        str, one_of(*PURPOSES[:3]), Field(description="Product of the subject, where the purpose is training")
    ] = ""
    valid_from: Annotated[str, _time_rule(is_end=False), Field(description="Default: now")] = ""


def validate(
    payload: Mapping[str, Any], rules: ConsentRules, vault: Vault
) -> tuple[dict[str, Any] | None, list[FieldError]]:
    """(columns of the new grant with the subject's pseudonym, []), or (None, all faults of the request)."""
    grant, faults = validation.validate(
        GrantRequest, {name: value for name, value in payload.items() if value is not None}
    )
    if grant is None:
        return None, faults
    allowed_groups = rules.groups(grant.purpose)
    if not grant.groups or not set(grant.groups) <= set(allowed_groups):
        expected = f"a non-empty list from {', '.join(allowed_groups)}", f"{'、'.join(allowed_groups)} 中的若干项"
        faults.append(FieldError("groups", repr(grant.groups)[:60], *expected))
    product = grant.product or (grant.purpose if grant.purpose != "training" else "")
    if grant.subject_id and not product:
        expected = "the product of the subject, for a grant for training", "训练授权的主体须注明产品"
        faults.append(FieldError("product", "absent", *expected))
    if grant.kind == "personal" and not grant.subject_id:
        faults.append(FieldError("subject_id", "absent", "the person who grants it", "个人授权须注明授权人"))
    if grant.kind == "government" and not grant.grantor:
        faults.append(FieldError("grantor", "absent", "the authority that grants it", "政府授权须注明授权机关"))
    valid_from = grant.valid_from or utc_now()
    if grant.valid_to <= valid_from:
        faults.append(
            FieldError("valid_to", str(payload["valid_to"])[:60], "a time after valid_from", "晚于 valid_from")
        )
    if faults:
        return None, faults
    pseudonym = vault.pseudonym(product, grant.subject_id) if grant.subject_id else None
    return grant.model_dump(exclude={"subject_id", "product"}) | {
        "grantor": pseudonym if grant.kind == "personal" else grant.grantor or None,
        "subject": pseudonym,
        "groups": sorted(set(grant.groups)),
        "valid_from": valid_from,
    }, []


def create(connection: sa.Connection, values: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Store a validated grant with its log entry. `by`: who enters it."""
    row = cast(GrantRow, {"id": new_id(), **values, "revoked_at": None, "created": utc_now(), "by": by})
    connection.execute(sa.insert(GRANTS), [row])
    log.append(connection, [entries.row_entry("grant", row["created"], GRANTS, row)])
    return to_json(row)


def list_grants(
    connection: sa.Connection, tenant: str | None, before: str = "g", limit: int = MAX_LISTED
) -> list[dict[str, Any]]:
    """At most `limit` grants older than the id `before`, newest first. `tenant`: None for all tenants."""
    query = sa.select(GRANTS).where(GRANTS.c.id < before).order_by(GRANTS.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(GRANTS.c.tenant == tenant)
    return [to_json(row) for row in connection.execute(query).mappings()]


def revoke(connection: sa.Connection, grant_id: str, tenant: str | None = None) -> dict[str, Any] | None:
    """Revoke a grant from now on; an earlier revocation stays as it is. None where there is no such grant."""
    conditions = [GRANTS.c.id == grant_id, *([] if tenant is None else [GRANTS.c.tenant == tenant])]
    timestamp, unrevoked = utc_now(), GRANTS.c.revoked_at.is_(None)
    log.acquire_append_lock(connection)
    revoked = connection.execute(sa.update(GRANTS).where(*conditions, unrevoked).values(revoked_at=timestamp)).rowcount
    row = connection.execute(sa.select(GRANTS).where(*conditions)).mappings().first()
    if row is not None and revoked:
        log.append(connection, [log.make_entry("revocation", timestamp, row["tenant"], grant_id, revoked_at=timestamp)])
    return None if row is None else to_json(row)


def to_json(row: GrantRow | sa.RowMapping) -> dict[str, Any]:
    """A grant as GET /v1/authorisations returns it, with the pseudonym of its subject."""
    fields = {str(name): value for name, value in dict(row).items()}  # orjson rejects SQLAlchemy's subclass of str
    return {"authorisation": fields.pop("id"), **fields}
