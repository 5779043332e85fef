"""Promotions: a person makes a version the champion, which is recorded before the champion's pointer is moved.

In this order no version is deployed by hand without a record; a record whose pointer was not moved is shown as such.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from datasets.errors import FieldError
from models import bundle
from models.bundle import BundleError
from serving.core.audit import entries, log
from serving.core.db.schema import PROMOTIONS
from serving.core.http.principal import Principal
from serving.core.http.problems import ProblemError
from serving.core.http.validation import RequestModel, line
from serving.core.identifiers import new_id, utc_before, utc_now
from serving.registry.deployment import AUTOMATIC, FORCE, FORCE_REQUEST, authentic_records
from serving.registry.loader import ModelLoader
from serving.registry.versions import StoredVersion

logger = logging.getLogger("yuheng.registry")

Row = dict[str, Any]
MAX_REASON_CHARS, MAX_VERSION_CHARS = 2_000, 128  # characters
FORCE_SECONDS = 86_400  # within which the second person has to confirm
MAX_HISTORY = 50  # promotions that are listed for a model


class Promotion(RequestModel):
    """The version that becomes the champion, and why."""

    version: Annotated[str, line(MAX_VERSION_CHARS, ", in one line", "的单行文本")]
    reason: Annotated[str, line(MAX_REASON_CHARS, ", in one line", "的单行文本")]
    force: Annotated[
        bool, Field(description="Although the gate did not pass: a second person has to ask for the same within a day.")
    ] = False


def previously_served(connection: sa.Connection, digests: list[str]) -> set[str]:
    """Those of these bundles that were deployed before, as far as authentic records of promotions say so."""
    is_about = PROMOTIONS.c.bundle.in_(digests) | PROMOTIONS.c.before_bundle.in_(digests)
    records = [row for row in authentic_records(connection, is_about) if row["kind"] != FORCE_REQUEST]
    deployed = {row["bundle"] for row in records if row["kind"] == AUTOMATIC}  # those of people may lack their pointer
    return (deployed | {row["before_bundle"] for row in records}) & set(digests)


def forced_promotions(connection: sa.Connection, tenant: str) -> list[Row]:
    """The promotions of all models past a gate that did not pass, newest first, as far as the log proves them. Who made
    one and why is shown to their own tenant only."""
    records = authentic_records(connection, PROMOTIONS.c.kind == FORCE)
    return [{"model": row["model"], "bundle": row["bundle"]} | _describe(row, tenant) for row in reversed(records)]


def pending_force(connection: sa.Connection, version: StoredVersion) -> Row | None:
    """The newest request to force a version that waits for a second person."""
    records = authentic_records(connection, PROMOTIONS.c.model == version.model)
    if not records:
        return None
    newest = records[-1]
    is_pending = newest["kind"] == FORCE_REQUEST and newest["bundle"] == version.digest
    return newest if is_pending and newest["at"] > utc_before(FORCE_SECONDS) else None


def record_promotion(
    connection: sa.Connection,
    version: StoredVersion,
    previous: tuple[str, str] | None,
    reason: str,
    principal: Principal,
    kind: str,
    requested_by: str | None = None,
) -> Row:
    """Record a promotion and its log entry; return the response.

    previous: (version, digest) of what is deployed until now. kind: "promote", "roll_back", "force_request" or "force".
    requested_by: the first of the two people who force it.
    """
    row: Row = {"id": new_id(), "tenant": principal.tenant, "model": version.model, "version": version.version}
    row |= {"bundle": version.digest, "kind": kind, "gate": version.gate_passed, "reason": reason}
    row |= {"before": previous[0] if previous else None, "before_bundle": previous[1] if previous else None}
    confirmed_by = None if requested_by is None else principal.subject
    row |= {"by": requested_by or principal.subject, "confirmed_by": confirmed_by, "at": utc_now()}
    connection.execute(sa.insert(PROMOTIONS).values(row))
    log.append(connection, [entries.row_entry("promotion", row["at"], PROMOTIONS, row)])
    names = ("model", "version", "kind", "gate", "before", "reason", "by", "confirmed_by", "at")
    summary = {name: row[name] for name in names}
    return {"promotion_id": row["id"], **summary}


def promotion_history(connection: sa.Connection, model: str, tenant: str) -> list[Row]:
    """The promotions of a model by people, newest first. Who made one and why is shown to their own tenant only."""
    stmt = sa.select(PROMOTIONS).where(PROMOTIONS.c.model == model, PROMOTIONS.c.kind != AUTOMATIC)
    stmt = stmt.order_by(PROMOTIONS.c.id.desc()).limit(MAX_HISTORY)
    return [_describe(dict(row), tenant) for row in connection.execute(stmt).mappings()]


def _describe(row: Row, tenant: str) -> Row:
    is_own = row["tenant"] == tenant
    names, own_names = ("id", "version", "kind", "gate", "before", "at"), ("by", "confirmed_by", "reason")
    own_values = {name: row[name] if is_own else None for name in own_names}
    return {name: row[name] for name in names} | {"own": is_own, **own_values}


def check_deployable(
    version: StoredVersion, bundles: Path, public_key: Path, loaders: Sequence[ModelLoader[Any]]
) -> None:
    """Verify and load a version as the loader that accepts its product would deploy it. Raises ProblemError."""
    try:
        if version.card is None:
            raise BundleError(version.error)
        verified = bundle.verify_bundle(bundles / version.model / version.version, public_key)
        loader = next((loader for loader in loaders if loader.accepts(verified.product)), loaders[-1])
        if loader.deploy(verified) is None:
            raise BundleError(f"{version.version} reads single cells, which no service does.")
    except (BundleError, OSError, ValueError) as error:
        raise not_promotable(version, str(error)) from error


def set_champion(bundles: Path, version: StoredVersion) -> None:
    """Point to the version as its model's champion. Raises ProblemError where the disk does not take it."""
    folder = bundles / version.model
    try:
        bundle.set_alias(folder, "champion", version.version)
        if bundle.read_alias(folder, "challenger") == version.version:
            (folder / "challenger").unlink(missing_ok=True)
    except (OSError, BundleError) as error:
        logger.error(
            "model %s: the promotion of %s is recorded, but the champion's pointer could not be written: %s",
            version.model,
            version.version,
            error,
        )
        raise ProblemError(
            "store_failed",
            actual=f"the decision is recorded, but the champion's pointer could not be written ({error})",
            actual_zh=f"决定已记录，但上线指针无法写入（{error}）",
        ) from error


def not_promotable(version: StoredVersion, load_error: str = "") -> ProblemError:
    """The problem of a version that may not be deployed, with each check that failed."""
    field_errors = [
        FieldError(f"gate: {check['name']}", check["found"], check["needed"] or "passed", check["needed_zh"] or "通过")
        for check in version.failed_checks
    ]
    if load_error:
        actual, actual_zh = load_error, f"该模型包无法载入：{load_error}"
    elif version.gate_passed is None:
        actual = f"The card of {version.version} has no verdict of the promotion gate"
        actual_zh = f"版本 {version.version} 的卡片没有门槛检查结论"
    else:
        actual = f"{version.version} did not pass the promotion gate: {len(field_errors)} of its checks failed"
        actual_zh = f"版本 {version.version} 未通过门槛检查：{len(field_errors)} 项未通过"
    return ProblemError("not_promotable", actual=actual.rstrip("."), actual_zh=actual_zh, errors=field_errors)
