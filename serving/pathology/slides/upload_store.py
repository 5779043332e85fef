"""Uploads in the store, and the groups of uploads that make one slide together.

As in store.py each function takes an engine, and then is a transaction of its own, or its caller's connection.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.db.engine import EngineOrConnection, read_connection, write_transaction
from serving.core.db.schema import SLIDES, UPLOAD_GROUPS, UPLOADS
from serving.core.identifiers import utc_now
from serving.pathology.slides.store import REUSABLE_STATES, Row


def create_upload(
    bind: EngineOrConnection,
    upload_id: str,
    slide_id: str,
    length: int,
    sha256: str | None,
    metadata: Row,
    **columns: Any,
) -> None:
    """Insert an upload of `length` bytes, open unless the columns say otherwise."""
    timestamp = utc_now()
    row = {"id": upload_id, "slide": slide_id, "length": length, "offset": 0, "sha256": sha256, "metadata": metadata}
    row |= {"state": "open", "created": timestamp, "updated": timestamp}
    with write_transaction(bind) as connection:
        connection.execute(sa.insert(UPLOADS).values(row | columns))


def set_upload(bind: EngineOrConnection, upload_id: str, **columns: Any) -> None:
    """Set columns of an upload, which counts as activity."""
    with write_transaction(bind) as connection:
        connection.execute(sa.update(UPLOADS).where(UPLOADS.c.id == upload_id).values(updated=utc_now(), **columns))


def end_uploads(bind: EngineOrConnection, slide_id: str, state: str, path: str | None = None) -> None:
    """Set the state of all uploads of a slide, or of those of one path."""
    stmt = sa.update(UPLOADS).where(UPLOADS.c.slide == slide_id)
    if path is not None:
        stmt = stmt.where(UPLOADS.c.path == path)
    with write_transaction(bind) as connection:
        connection.execute(stmt.values(updated=utc_now(), state=state))


def forget_names(connection: sa.Connection, slide_id: str) -> None:
    """Remove what uploads said of a slide whose uploaded files are gone: names of files and folders among others. That
    it came from the inbox stays known.
    """
    rows = connection.execute(sa.select(UPLOADS).where(UPLOADS.c.slide == slide_id)).mappings().all()
    for upload in rows:
        metadata = {name: "" for name in upload["metadata"] if name == "reference"}
        columns = {"metadata": metadata, "path": None if upload["path"] is None else ""}
        connection.execute(sa.update(UPLOADS).where(UPLOADS.c.id == upload["id"]).values(columns))


def get_upload(bind: EngineOrConnection, upload_id: str, tenant: str | None = None) -> Row | None:
    """The upload, if it exists and its slide belongs to `tenant`; None searches all tenants."""
    stmt = sa.select(UPLOADS).where(UPLOADS.c.id == upload_id)
    if tenant is not None:
        stmt = stmt.join(SLIDES, UPLOADS.c.slide == SLIDES.c.id).where(SLIDES.c.tenant == tenant)
    with read_connection(bind) as connection:
        row = connection.execute(stmt).first()
        return None if row is None else dict(row._mapping)


def list_uploads(bind: EngineOrConnection, state: str, tenant: str | None = None) -> list[Row]:
    """Uploads in a state, the oldest first, of one tenant or of all."""
    stmt = sa.select(UPLOADS).where(UPLOADS.c.state == state).order_by(UPLOADS.c.id)
    if tenant is not None:
        stmt = stmt.join(SLIDES, UPLOADS.c.slide == SLIDES.c.id).where(SLIDES.c.tenant == tenant)
    return _rows(bind, stmt)


def outstanding_bytes(connection: sa.Connection) -> dict[str, int]:
    """Tenant -> bytes that were announced for its open uploads and have not come."""
    missing = sa.func.sum(UPLOADS.c.length - UPLOADS.c.offset)
    stmt = sa.select(SLIDES.c.tenant, missing).join(SLIDES, UPLOADS.c.slide == SLIDES.c.id)
    stmt = stmt.where(UPLOADS.c.state == "open", UPLOADS.c.length > UPLOADS.c.offset).group_by(SLIDES.c.tenant)
    return {tenant: int(size) for tenant, size in connection.execute(stmt).all()}


def uploads_of_slide(bind: EngineOrConnection, slide_id: str) -> list[Row]:
    """The uploads that bring or brought the slide, without those that ended early, the oldest first."""
    stmt = sa.select(UPLOADS).where(UPLOADS.c.slide == slide_id, UPLOADS.c.state != "expired").order_by(UPLOADS.c.id)
    return _rows(bind, stmt)


def idle_uploads(bind: EngineOrConnection, before: str) -> list[Row]:
    """Uploads of slides that are incomplete, failed or cancelled and had no activity in any of their uploads since
    `before`, the oldest first."""
    waiting = SLIDES.c.state.in_(("uploading", *REUSABLE_STATES))
    sibling = UPLOADS.alias()
    active = sa.exists().where(sibling.c.slide == UPLOADS.c.slide, sibling.c.updated >= before)
    stmt = sa.select(UPLOADS).join(SLIDES, UPLOADS.c.slide == SLIDES.c.id)
    return _rows(bind, stmt.where(UPLOADS.c.state != "expired", ~active, waiting).order_by(UPLOADS.c.id))


# --- groups


def lock_group(connection: sa.Connection, slide_id: str) -> Row | None:
    """The group of a slide with several files, else None. No other transaction sees the group until this one ends, so
    that of two files that are finished at once the second one finds both."""
    stmt = sa.select(UPLOAD_GROUPS).where(UPLOAD_GROUPS.c.slide == slide_id).with_for_update()
    row = connection.execute(stmt).first()
    return None if row is None else dict(row._mapping)


def find_group(bind: EngineOrConnection, tenant: str, name: str) -> Row | None:
    """A tenant's group of this name."""
    stmt = sa.select(UPLOAD_GROUPS).where(UPLOAD_GROUPS.c.tenant == tenant, UPLOAD_GROUPS.c.name == name)
    with read_connection(bind) as connection:
        row = connection.execute(stmt).first()
        return None if row is None else dict(row._mapping)


def set_group(connection: sa.Connection, tenant: str, name: str, slide_id: str, files: int | None) -> None:
    """Have the tenant's uploads of this group bring this slide from now on."""
    key = {"tenant": tenant, "name": name}
    same = UPLOAD_GROUPS.c.tenant == tenant, UPLOAD_GROUPS.c.name == name
    connection.execute(sa.delete(UPLOAD_GROUPS).where(*same))
    connection.execute(sa.insert(UPLOAD_GROUPS).values(key | {"slide": slide_id, "files": files, "created": utc_now()}))


def settling_slides(bind: EngineOrConnection) -> list[str]:
    """Slides that are incomplete only because more files of them might arrive."""
    stmt = sa.select(UPLOAD_GROUPS.c.slide).join(SLIDES, UPLOAD_GROUPS.c.slide == SLIDES.c.id)
    stmt = stmt.where(UPLOAD_GROUPS.c.files.is_(None), SLIDES.c.state == "uploading", SLIDES.c.request.is_not(None))
    with read_connection(bind) as connection:
        return list(connection.execute(stmt.order_by(UPLOAD_GROUPS.c.slide)).scalars())


def _rows(bind: EngineOrConnection, stmt: sa.Select[Any]) -> list[Row]:
    with read_connection(bind) as connection:
        return [dict(row._mapping) for row in connection.execute(stmt)]
