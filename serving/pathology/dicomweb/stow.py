"""STOW-RS: a scanner stores the instances of its slides (DICOM PS3.18, 10.5).

The instances of a series are the files of one slide, in one request or in many. The slide proceeds as every upload
does: once its request form is here (POST /v1/slides) and no more instances came for a while, it is checked,
de-identified and read. Labels and overviews of the series are taken too, and are removed with the original.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from datasets.slides.limits import SLIDE_LIMITS
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.validation import is_clean_text
from serving.core.identifiers import new_id
from serving.pathology.context import Row, SlideContext
from serving.pathology.dicomweb import store_response
from serving.pathology.dicomweb.multipart import ReceivedFile, parse_boundary, receive_files
from serving.pathology.dicomweb.store_response import InstanceOutcome
from serving.pathology.originals.dicom_header import WSI_SOP_CLASS, DicomHeader, DicomHeaderError, read_header
from serving.pathology.slides import storage, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.upload import groups
from serving.pathology.upload.part_writer import disk_full_problem

INCOMING_FOLDER = ".incoming"  # in the slides' folder, where the ids of slides are the only other names
SLIDE_NAME = "dicom_series"
MAX_ACCESSION_CHARS = 64
Instance = tuple[DicomHeader, ReceivedFile]


class StowRoutes:
    def __init__(self, context: SlideContext):
        self.context, self.settings = context, context.settings.slides

    def routes(self) -> Routes:
        return {
            "/v1/dicomweb/studies": {"POST": self.store_instances},
            "/v1/dicomweb/studies/{study}": {"POST": self.store_instances},
        }

    async def store_instances(self, request: Request) -> Response:
        parse_boundary(request)
        await self.context.quota.check(request.principal.tenant)
        folder = self.context.slides_dir / INCOMING_FOLDER / new_id()
        try:
            await asyncio.to_thread(self._prepare_folder, folder, int(request.headers.get("content-length", 0)))
            files = await receive_files(
                request,
                folder,
                SLIDE_LIMITS.files,
                self.settings.max_upload_bytes,
                self.settings.upload_idle_timeout_seconds,
            )
            outcomes = await self._store_files(request, files)
        except OSError as error:
            raise disk_full_problem(error, 0) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return JSONResponse(
            store_response.render(outcomes), store_response.status_of(outcomes), media_type=store_response.MEDIA_TYPE
        )

    def _prepare_folder(self, folder: Path, size: int) -> None:
        """Make the folder of a request, and remove those that a crash left behind. Raises ProblemError."""
        folder.mkdir(parents=True)
        for path in folder.parent.iterdir():
            if path.stat().st_mtime < time.time() - self.settings.upload_expires_seconds:
                shutil.rmtree(path, ignore_errors=True)
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < size:
            raise ProblemError(
                "no_space",
                actual=f"{free_bytes:,} bytes are free and {size:,} were announced",
                actual_zh=f"可用空间 {free_bytes:,} 字节，请求为 {size:,} 字节",
            )

    async def _store_files(self, request: Request, files: Sequence[ReceivedFile]) -> list[InstanceOutcome]:
        """The outcome of each file, in order."""
        outcomes: list[InstanceOutcome | None] = []
        series: dict[str, list[tuple[int, Instance]]] = {}
        for number, file in enumerate(files):
            outcome, header = await asyncio.to_thread(_examine, file.path, request.path_params.get("study"))
            outcomes.append(outcome)
            if outcome is None and header is not None:
                series.setdefault(header.series, []).append((number, (header, file)))
        for uid, numbered in series.items():
            stored = await self._store_series(request.principal.tenant, uid, [instance for _, instance in numbered])
            for (number, _), outcome in zip(numbered, stored, strict=True):
                outcomes[number] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def _store_series(self, tenant: str, uid: str, instances: Sequence[Instance]) -> list[InstanceOutcome]:
        """Add instances to the slide of their series, which the first ones create."""
        group, new_slide_id = groups.group_key(self.context.vault, tenant, f"dicom:{uid}"), new_id()
        audit = await asyncio.to_thread(self.context.blinded_rereads.includes, new_slide_id)

        def open_slide(connection: sa.Connection) -> str | None:
            try:
                slide = groups.find_open_slide(connection, tenant, group, None)
            except ProblemError:  # the series is complete
                return None
            if slide is not None:
                return str(slide["id"])
            accession = next((header.accession for header, _ in instances if header.accession), "")
            columns: Row = {"tenant": tenant, "name": SLIDE_NAME, "audit": audit}
            if is_clean_text(accession, MAX_ACCESSION_CHARS):
                columns["accession"] = accession
            slide_store.create(connection, new_slide_id, **columns)
            upload_store.set_group(connection, tenant, group, new_slide_id, None)
            return new_slide_id

        slide_id = await self.context.write(open_slide)
        if slide_id == new_slide_id:
            self.context.quota.add(tenant, 1)
        if slide_id is None:
            return await self.context.read(_compare_with_complete, tenant, group, instances)
        upload_ids = {file.path: new_id() for _, file in instances}
        folder = storage.quarantine_path(self.context.slides_dir, slide_id, SLIDE_NAME)
        await asyncio.to_thread(_move_files, folder, upload_ids)

        recorded: set[str] = set()

        def record_files(connection: sa.Connection) -> list[InstanceOutcome]:
            upload_store.lock_group(connection, slide_id)
            slide = slide_store.get(connection, slide_id)
            assert slide is not None, "it was created or found a moment ago"
            if slide["state"] != "uploading":
                return [InstanceOutcome(header, failure=store_response.PROCESSING_FAILURE) for header, _ in instances]
            outcomes, ids = self._record_files(connection, slide_id, instances, upload_ids)
            recorded.update(ids)
            return outcomes

        outcomes = await self.context.write(record_files)
        unrecorded = [folder / upload_id for upload_id in upload_ids.values() if upload_id not in recorded]
        await asyncio.to_thread(_remove_files, unrecorded)
        return outcomes

    def _record_files(
        self,
        connection: sa.Connection,
        slide_id: str,
        instances: Sequence[Instance],
        upload_ids: Mapping[Path, str],
    ) -> tuple[list[InstanceOutcome], list[str]]:
        """(the outcome of each instance, the ids of the uploads that were recorded)."""
        uploads = upload_store.uploads_of_slide(connection, slide_id)
        digests = {upload["path"]: upload["received_sha256"] for upload in uploads}
        total = sum(upload["length"] for upload in uploads)
        outcomes, ids = [], []
        for header, file in instances:
            path = _path_of(header)
            if path in digests:
                outcomes.append(_compare((header, file), slide_id, digests[path]))
                continue
            total += file.size
            if len(digests) >= SLIDE_LIMITS.files or total > self.settings.max_upload_bytes:
                outcomes.append(InstanceOutcome(header, failure=store_response.OUT_OF_RESOURCES))
                continue
            state = {"state": "done", "offset": file.size, "received_sha256": file.sha256, "path": path}
            upload_id = upload_ids[file.path]
            upload_store.create_upload(connection, upload_id, slide_id, file.size, None, {}, **state)
            slide_store.add_event(connection, slide_id, {"code": "file", "sha256": file.sha256, "bytes": file.size})
            digests[path] = file.sha256
            outcomes.append(InstanceOutcome(header, slide_id))
            ids.append(upload_id)
        return outcomes, ids


def _remove_files(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _examine(path: Path, study: str | None) -> tuple[InstanceOutcome | None, DicomHeader | None]:
    """(why the file is not stored, its header); None where it is stored, or cannot be read."""
    try:
        header = read_header(path)
    except DicomHeaderError:
        return InstanceOutcome(None, failure=store_response.NOT_UNDERSTOOD), None
    if header.sop_class != WSI_SOP_CLASS:
        return InstanceOutcome(header, failure=store_response.CLASS_NOT_SUPPORTED), header
    if study is not None and header.study != study:
        return InstanceOutcome(header, failure=store_response.OTHER_STUDY), header
    return None, header


def _path_of(header: DicomHeader) -> str:
    """The instance's file in the folder of its slide."""
    return f"{header.instance}.dcm"


def _compare(instance: Instance, slide_id: str, stored_sha256: str | None) -> InstanceOutcome:
    """The outcome of an instance that was stored before."""
    header, file = instance
    if stored_sha256 == file.sha256:
        return InstanceOutcome(header, slide_id)
    return InstanceOutcome(header, failure=store_response.OTHER_CONTENT)


def _compare_with_complete(
    engine: sa.Engine, tenant: str, group: str, instances: Sequence[Instance]
) -> list[InstanceOutcome]:
    """The outcomes of instances whose slide has proceeded: those that it has are stored, others come too late."""
    row = upload_store.find_group(engine, tenant, group)
    assert row is not None, "it was found a moment ago"
    digests = {
        upload["path"]: upload["received_sha256"] for upload in upload_store.uploads_of_slide(engine, row["slide"])
    }
    return [
        _compare(instance, row["slide"], digests[_path_of(instance[0])])
        if _path_of(instance[0]) in digests
        else InstanceOutcome(instance[0], failure=store_response.PROCESSING_FAILURE)
        for instance in instances
    ]


def _move_files(folder: Path, upload_ids: Mapping[Path, str]) -> None:
    """Move received files, which are on the disk, into the slide's folder before the store names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, upload_id in upload_ids.items():
        os.rename(path, folder / upload_id)
    for directory in (folder, *folder.parents[:3]):
        storage.sync_dir(directory)
