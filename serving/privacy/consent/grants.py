"""Authorisations entered, listed and revoked. One is never altered: to change it, revoke it and enter another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from datasets.errors import Fault
from datasets.schema import unknown_names
from serving.core.audit import entries, log
from serving.core.db.schema import GRANTS
from serving.core.identifiers import new_id, now
from serving.privacy.consent.rules import KINDS, PURPOSES, Rules
from serving.privacy.subjects.vault import Vault

NEEDED = ("kind", "tenant", "purpose", "groups", "valid_to", "document_sha256")
FIELDS = (*NEEDED, "grantor", "subject_id", "product", "valid_from")
SHA256 = re.compile(r"[0-9a-f]{64}")
TENANT = re.compile(r"[\w.-]{1,64}", re.ASCII)
TEXT = ("text of 1 to 255 characters", "1 至 255 个字符的文本")
MOST = 200  # told at once


def read(found: Mapping[str, Any], told: Rules, vault: Vault) -> tuple[dict[str, Any] | None, list[Fault]]:
    """The grant as it is entered, its subject by pseudonym; or all that is wrong with it."""
    faults = unknown_names(found, FIELDS, f"one of {', '.join(FIELDS)}", "已知字段之一")
    faults += [Fault(name, "missing", "told", "必填") for name in NEEDED if found.get(name) is None]

    def check(name: str, fits: bool, needed: str, needed_zh: str) -> None:
        if found.get(name) is not None and not fits:
            faults.append(Fault(name, repr(found[name])[:60], needed, needed_zh))

    kind, purpose, groups = (found.get(name) for name in ("kind", "purpose", "groups"))
    subject, grantor, tenant = (found.get(name) for name in ("subject_id", "grantor", "tenant"))
    check("kind", kind in KINDS, f"one of {', '.join(KINDS)}", "、".join(KINDS) + " 之一")
    check("purpose", purpose in PURPOSES, f"one of {', '.join(PURPOSES)}", "、".join(PURPOSES) + " 之一")
    check("tenant", isinstance(tenant, str) and TENANT.fullmatch(tenant) is not None, "a tenant's name", "机构名")
    for name, text in (("subject_id", subject), ("grantor", grantor)):
        check(name, isinstance(text, str) and 0 < len(text) <= 255, *TEXT)
    known = told.groups(purpose) if isinstance(purpose, str) else []
    whole = isinstance(groups, list) and bool(groups) and all(isinstance(one, str) and one in known for one in groups)
    check("groups", whole, f"a list of some of {', '.join(known)}", f"{'、'.join(known)} 中的若干项")
    document = found.get("document_sha256")
    told_sha = isinstance(document, str) and SHA256.fullmatch(document) is not None
    check("document_sha256", told_sha, "the SHA-256 of the signed document, 64 hex digits", "签署文件的 SHA-256")
    product = found.get("product") or (purpose if purpose != "training" else None)
    check("product", product in PURPOSES[:3], f"one of {', '.join(PURPOSES[:3])}", "产品名")
    if subject is not None and product is None:
        faults.append(
            Fault("product", "missing", "told, to name the subject of a training grant", "训练授权的主体须注明产品")
        )
    if kind == "personal" and subject is None:
        faults.append(Fault("subject_id", "missing", "told: who grants it", "个人授权须注明授权人"))
    if kind == "government" and grantor is None:
        faults.append(Fault("grantor", "missing", "the body that grants it", "授权机关"))
    begins, ends = _time(found.get("valid_from") or now(), False), _time(found.get("valid_to"), True)
    needed = "a day or a time in UTC, as 2026-12-31 or 2026-12-31T12:00:00Z", "日期或 UTC 时间，如 2026-12-31"
    check("valid_from", begins is not None, *needed)
    check("valid_to", ends is not None, *needed)
    if begins is not None and ends is not None and ends <= begins:
        faults.append(Fault("valid_to", str(found["valid_to"])[:60], "a time after valid_from", "晚于 valid_from"))
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
        "valid_from": begins,
        "valid_to": ends,
        "document_sha256": document,
    }, []


def _time(found: Any, end: bool) -> str | None:
    """As the store has times. A day as an end is over when it is."""
    if not isinstance(found, str):
        return None
    try:
        at = datetime.fromisoformat(found)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        at += timedelta(days=1 if end and len(found) == 10 else 0)
    except (ValueError, OverflowError):
        return None
    return f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def create(connection: sa.Connection, form: Mapping[str, Any], by: str) -> dict[str, Any]:
    """`form`: of `read`."""
    row = {"id": new_id(), **form, "revoked_at": None, "created": now(), "by": by}
    connection.execute(sa.insert(GRANTS), [row])
    log.append(connection, [entries.kept("grant", row["created"], GRANTS, row)])
    return shown(row)


def listed(connection: sa.Connection, tenant: str | None, before: str = "g", most: int = MOST) -> list[dict[str, Any]]:
    """Of a tenant, or of all; the newest first."""
    query = sa.select(GRANTS).where(GRANTS.c.id < before).order_by(GRANTS.c.id.desc()).limit(most)
    if tenant is not None:
        query = query.where(GRANTS.c.tenant == tenant)
    return [shown(row) for row in connection.execute(query).mappings()]


def revoke(connection: sa.Connection, grant: str, tenant: str | None = None) -> dict[str, Any] | None:
    """From now on; one that was revoked before stays so from then. None where there is no such grant."""
    chosen = [GRANTS.c.id == grant, *([] if tenant is None else [GRANTS.c.tenant == tenant])]
    at, unrevoked = now(), GRANTS.c.revoked_at.is_(None)
    log.lock(connection)
    revoked = connection.execute(sa.update(GRANTS).where(*chosen, unrevoked).values(revoked_at=at)).rowcount
    found = connection.execute(sa.select(GRANTS).where(*chosen)).mappings().first()
    if found is not None and revoked:
        log.append(connection, [log.entry("revocation", at, found["tenant"], grant, revoked_at=at)])
    return None if found is None else shown(found)


def shown(row: Mapping[str, Any] | sa.RowMapping) -> dict[str, Any]:
    """As GET /v1/authorisations tells it: the subject by its pseudonym."""
    told = {name: row[name] for name in ("kind", "grantor", "tenant", "subject", "purpose", "groups", "valid_from",
                                         "valid_to", "revoked_at", "document_sha256", "created", "by")}  # fmt: skip
    return {"authorisation": row["id"], **told}
