"""Create uploads: their rows in the store, with those of their slide, and their empty files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from datasets.errors import FieldError
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request
from serving.core.identifiers import new_id
from serving.core.security.admission import DiskSpace
from serving.pathology.context import Row, SlideContext
from serving.pathology.slides import storage, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.upload import groups
from serving.pathology.upload.intake import add_form, add_mpp_event
from serving.pathology.upload.metadata import RESERVED_FIELD, UploadDescription, describe_upload
from serving.pathology.upload.part_writer import disk_full_problem

DISK_SHARE = 0.5  # of the room for uploads that one tenant may announce while others send theirs
CreateRows = Callable[[sa.Connection], Row]


class UploadCreator:
    def __init__(self, context: SlideContext):
        self.context, self.settings = context, context.settings.slides
        self.disk = DiskSpace(context.slides_dir, context.settings.limits.min_free_disk_bytes)

    async def create(self, request: Request, length: int, metadata: dict[str, str]) -> tuple[Row, bool]:
        """({"upload": id, "slide": id}, whether an earlier request created them). Raises ProblemError.

        length: in bytes; negative if it is not known yet.
        """
        tenant = request.principal.tenant
        description = describe_upload(metadata)
        metadata = {name: value for name, value in metadata.items() if name != RESERVED_FIELD}
        await self.context.quota.check(tenant)
        available = await asyncio.to_thread(self.disk.available)
        digest = hashlib.sha256(f"{length} {request.headers.get('upload-metadata')}".encode()).hexdigest()
        upload_id, slide_id = new_id(), new_id()
        audit = await asyncio.to_thread(self.context.blinded_rereads.includes, slide_id)

        def create_rows(connection: sa.Connection) -> Row:
            open_count = len(upload_store.list_uploads(connection, "open", tenant))
            if open_count >= self.settings.max_open_uploads:
                raise ProblemError(
                    "overloaded",
                    actual=f"{open_count} uploads are open, the maximum",
                    actual_zh=f"已有 {open_count} 个上传未完成，达到上限",
                )
            _require_space(available, upload_store.outstanding_bytes(connection), tenant, length)
            group_file = description.group_file
            slide = key = None
            if group_file is not None:
                key = groups.group_key(self.context.vault, tenant, group_file.group)
                slide = groups.find_open_slide(connection, tenant, key, group_file.file_count)
            if slide is None:
                _create_slide(connection, slide_id, tenant, description, audit)
                if group_file is not None and key is not None:
                    upload_store.set_group(connection, tenant, key, slide_id, group_file.file_count)
            elif description.form is not None:
                _require_same_form(connection, slide, description)
            path = None
            target_id = slide_id if slide is None else str(slide["id"])
            if group_file is not None:
                path = group_file.path
                upload_store.end_uploads(connection, target_id, "expired", path)  # the file is sent again
            upload_store.create_upload(
                connection, upload_id, target_id, length, description.sha256, metadata, path=path
            )
            return {"upload": upload_id, "slide": target_id}

        if description.group_file is None:
            created, replayed = await self._create_file_first(request, digest, slide_id, description, create_rows)
        else:
            created, replayed = await self.context.run_once(request, "/v1/uploads", digest, create_rows)
            if not replayed:
                await self._create_group_file(created, description)
        if not replayed and created["slide"] == slide_id:
            self.context.quota.add(tenant, 1)
        return created, replayed

    async def _create_file_first(
        self, request: Request, digest: str, slide_id: str, description: UploadDescription, create_rows: CreateRows
    ) -> tuple[Row, bool]:
        """The file before the rows, so that there is no upload without a file."""
        path, replayed = storage.quarantine_path(self.context.slides_dir, slide_id, description.name), True
        try:
            await asyncio.to_thread(storage.create_empty, path)
            created, replayed = await self.context.run_once(request, "/v1/uploads", digest, create_rows)
        except OSError as error:
            raise disk_full_problem(error, 0) from error
        finally:
            if replayed:  # refused, or created by an earlier request
                await asyncio.to_thread(storage.remove_file, path)
        return created, replayed

    async def _create_group_file(self, created: Row, description: UploadDescription) -> None:
        """The rows before the file, as the store decides which slide it belongs to; without it the upload is gone for
        its client, which sends the file again."""
        path = storage.quarantine_path(self.context.slides_dir, created["slide"], description.name)
        try:
            await asyncio.to_thread(storage.create_empty, path / created["upload"])
        except OSError as error:
            raise disk_full_problem(error, 0) from error


def _require_space(available: int, outstanding: Mapping[str, int], tenant: str, length: int) -> None:
    """Raises ProblemError where the upload has no room beside what was announced before it.

    available: bytes that uploads may take. outstanding: tenant -> bytes that it announced and has still to send.
    """
    room = available - sum(outstanding.values())
    share = int(available * DISK_SHARE) - outstanding.get(tenant, 0) if len(outstanding.keys() - {tenant}) else room
    if length > max(0, min(room, share)):
        raise ProblemError(
            "no_space",
            actual=f"{max(0, min(room, share)):,} bytes are free for it and {length:,} were announced",
            actual_zh=f"可用空间 {max(0, min(room, share)):,} 字节，上传需要 {length:,} 字节",
        )


def _create_slide(
    connection: sa.Connection, slide_id: str, tenant: str, description: UploadDescription, audit: bool
) -> None:
    form, group_file = description.form, description.group_file
    sha256 = description.sha256 if group_file is None else None  # of a file is not that of the slide
    columns: Row = {"tenant": tenant, "name": description.name, "sha256": sha256}
    slide_store.create(connection, slide_id, audit=audit, **columns, **(form.columns() if form is not None else {}))
    if form is not None:
        add_mpp_event(connection, slide_id, form)


def _require_same_form(connection: sa.Connection, slide: Row, description: UploadDescription) -> None:
    """Record the form where the group's earlier files brought none. Raises ProblemError where they brought another."""
    form = description.form
    assert form is not None, "the caller has one"
    if slide["request"] is None:
        add_form(connection, slide["id"], form, slide["sha256"])
    elif (slide["request"], slide["mpp"]) != (form.request, form.mpp):
        actual = "another one than the group's earlier files have"
        error = FieldError("request", actual, "the same form for all files of a slide", "同一切片各文件的申请单应一致")
        raise ProblemError("invalid_request", errors=[error])
