"""Authorisations entered, listed and revoked. One is never altered: to change it, revoke it and enter another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from serving.core.audit import entries, log
from serving.core.db.schema import GRANTS
from serving.core.identifiers import new_id, utc_now
from serving.privacy.consent.rules import GRANT_KINDS, PURPOSES, ConsentRules
from serving.privacy.subjects.vault import Vault

REQUIRED_FIELDS = ("kind", "tenant", "purpose", "groups", "valid_to", "document_sha256")
FIELDS = (*REQUIRED_FIELDS, "grantor", "subject_id", "product", "valid_from")
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
TENANT_PATTERN = re.compile(r"[\w.-]{1,64}", re.ASCII)
EXPECTED_TEXT = ("text of 1 to 255 characters", "1 至 255 个字符的文本")
MAX_LISTED = 200  # told at once


def validate(
    payload: Mapping[str, Any], rules: ConsentRules, vault: Vault
) -> tuple[dict[str, Any] | None, list[FieldError]]:
    """The grant as it is entered, its subject by pseudonym; or all that is wrong with it."""
    faults = find_unknown_names(payload, FIELDS, f"one of {', '.join(FIELDS)}", "已知字段之一")
    faults += [FieldError(name, "missing", "told", "必填") for name in REQUIRED_FIELDS if payload.get(name) is None]

    def require(name: str, is_valid: bool, expected: str, expected_zh: str) -> None:
        if payload.get(name) is not None and not is_valid:
            faults.append(FieldError(name, repr(payload[name])[:60], expected, expected_zh))

    kind, purpose, groups = (payload.get(name) for name in ("kind", "purpose", "groups"))
    subject, grantor, tenant = (payload.get(name) for name in ("subject_id", "grantor", "tenant"))
    require("kind", kind in GRANT_KINDS, f"one of {', '.join(GRANT_KINDS)}", "、".join(GRANT_KINDS) + " 之一")
    require("purpose", purpose in PURPOSES, f"one of {', '.join(PURPOSES)}", "、".join(PURPOSES) + " 之一")
    require(
        "tenant", isinstance(tenant, str) and TENANT_PATTERN.fullmatch(tenant) is not None, "a tenant's name", "机构名"
    )
    for name, text in (("subject_id", subject), ("grantor", grantor)):
        require(name, isinstance(text, str) and 0 < len(text) <= 255, *EXPECTED_TEXT)
    allowed_groups = rules.groups(purpose) if isinstance(purpose, str) else []
    groups_valid = (
        isinstance(groups, list)
        and bool(groups)
        and all(isinstance(group, str) and group in allowed_groups for group in groups)
    )
    require(
        "groups",
        groups_valid,
        f"a list of some of {', '.join(allowed_groups)}",
        f"{'、'.join(allowed_groups)} 中的若干项",
    )
    document = payload.get("document_sha256")
    digest_valid = isinstance(document, str) and SHA256_PATTERN.fullmatch(document) is not None
    require("document_sha256", digest_valid, "the SHA-256 of the signed document, 64 hex digits", "签署文件的 SHA-256")
    product = payload.get("product") or (purpose if purpose != "training" else None)
    require("product", product in PURPOSES[:3], f"one of {', '.join(PURPOSES[:3])}", "产品名")
    if subject is not None and product is None:
        faults.append(
            FieldError(
                "product", "missing", "told, to name the subject of a training grant", "训练授权的主体须注明产品"
            )
        )
    if kind == "personal" and subject is None:
        faults.append(FieldError("subject_id", "missing", "told: who grants it", "个人授权须注明授权人"))
    if kind == "government" and grantor is None:
        faults.append(FieldError("grantor", "missing", "the body that grants it", "授权机关"))
    valid_from, valid_to = (
        _parse_time(payload.get("valid_from") or utc_now(), False),
        _parse_time(payload.get("valid_to"), True),
    )
    expected = "a day or a time in UTC, as 2026-12-31 or 2026-12-31T12:00:00Z", "日期或 UTC 时间，如 2026-12-31"
    require("valid_from", valid_from is not None, *expected)
    require("valid_to", valid_to is not None, *expected)
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        faults.append(
            FieldError("valid_to", str(payload["valid_to"])[:60], "a time after valid_from", "晚于 valid_from")
        )
    if faults:
        return None, faults
    pseudonym = None if subject is None else vault.pseudonym(str(product), str(subject))
    return {
        "kind": kind,
        "grantor": pseudonym if kind == "personal" else grantor,
        "tenant": tenant,
        "subject": pseudonym,
        "purpose": purpose,
        "groups": sorted(set(groups or ())),
        "valid_from": valid_from,
        "valid_to": valid_to,
        "document_sha256": document,
    }, []


def _parse_time(value: Any, is_end: bool) -> str | None:
    """As the store has times. A day as an end is over when it is."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        time += timedelta(days=1 if is_end and len(value) == 10 else 0)
    except (ValueError, OverflowError):
        return None
    return f"{time.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def create(connection: sa.Connection, values: Mapping[str, Any], by: str) -> dict[str, Any]:
    """`form`: of `read`."""
    row = {"id": new_id(), **values, "revoked_at": None, "created": utc_now(), "by": by}
    connection.execute(sa.insert(GRANTS), [row])
    log.append(connection, [entries.row_entry("grant", row["created"], GRANTS, row)])
    return to_json(row)


def list_grants(
    connection: sa.Connection, tenant: str | None, before: str = "g", limit: int = MAX_LISTED
) -> list[dict[str, Any]]:
    """Of a tenant, or of all; the newest first."""
    query = sa.select(GRANTS).where(GRANTS.c.id < before).order_by(GRANTS.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(GRANTS.c.tenant == tenant)
    return [to_json(row) for row in connection.execute(query).mappings()]


def revoke(connection: sa.Connection, grant_id: str, tenant: str | None = None) -> dict[str, Any] | None:
    """From now on; one that was revoked before stays so from then. None where there is no such grant."""
    conditions = [GRANTS.c.id == grant_id, *([] if tenant is None else [GRANTS.c.tenant == tenant])]
    timestamp, unrevoked = utc_now(), GRANTS.c.revoked_at.is_(None)
    log.acquire_append_lock(connection)
    revoked = connection.execute(sa.update(GRANTS).where(*conditions, unrevoked).values(revoked_at=timestamp)).rowcount
    row = connection.execute(sa.select(GRANTS).where(*conditions)).mappings().first()
    if row is not None and revoked:
        log.append(connection, [log.make_entry("revocation", timestamp, row["tenant"], grant_id, revoked_at=timestamp)])
    return None if row is None else to_json(row)


def to_json(row: Mapping[str, Any] | sa.RowMapping) -> dict[str, Any]:
    """As GET /v1/authorisations tells it: the subject by its pseudonym."""
    fields = {name: row[name] for name in ("kind", "grantor", "tenant", "subject", "purpose", "groups", "valid_from",
                                         "valid_to", "revoked_at", "document_sha256", "created", "by")}  # fmt: skip
    return {"authorisation": row["id"], **fields}
