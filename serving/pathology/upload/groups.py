"""Slides of several files, such as an MRXS with its folder or the instances of a DICOM series.

Each file is an upload of its own. The first one of a group creates the slide, which is complete once as many files as
announced are here; a group without an announced number, as a DICOM series has, once nothing arrived for a while.
The SHA-256 of such a slide is that of the list of its files as `sha256sum` prints it, in the order of their names:

    export LC_ALL=C; find * -type f | sort | tr '\\n' '\\0' | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from serving.core.http.problems import ProblemError
from serving.pathology.context import Row
from serving.pathology.slides import store as slide_store
from serving.pathology.slides import upload_store
from serving.privacy.subjects.vault import Vault


class Content(NamedTuple):
    """What arrived for a slide. announced: whether the sender announced the SHA-256 of each file."""

    sha256: str
    size: int
    announced: bool


def group_key(vault: Vault, tenant: str, name: str) -> str:
    """By which the store has a group: clients make names of files and folders the names of groups."""
    return vault.digest(f"group {tenant} {name}".encode())


def find_open_slide(connection: sa.Connection, tenant: str, key: str, files: int | None) -> Row | None:
    """The slide to which the group's next file belongs; None where the file is the first one of a new slide.

    key: see group_key. Raises ProblemError where all its files are here, or another number of files was announced.
    """
    row = upload_store.find_group(connection, tenant, key)
    slide = None if row is None else slide_store.get(connection, row["slide"])
    if row is None or slide is None or slide["state"] in slide_store.REUSABLE_STATES:
        return None
    if slide["state"] != "uploading":
        raise ProblemError(
            "group_complete",
            actual=f"It made slide {slide['id']}",
            actual_zh=f"该组已组成切片 {slide['id']}",
        )
    if row["files"] != files:
        raise ProblemError(
            "group_complete",
            actual=f"It was announced with {row['files']} files and now with {files}",
            actual_zh=f"该组先前声明 {row['files']} 个文件，现为 {files} 个",
        )
    return slide


def find_content(connection: sa.Connection, slide_id: str, quiet_since: str) -> Content | None:
    """What arrived for a slide; None until all of it is here. quiet_since: a group without a number of files is
    complete if its newest file is older."""
    group = upload_store.lock_group(connection, slide_id)
    uploads = upload_store.uploads_of_slide(connection, slide_id)
    received = [upload for upload in uploads if upload["state"] == "done" and upload["received_sha256"] is not None]
    if not received or len(received) < len(uploads):
        return None
    if group is None:
        return Content(received[0]["received_sha256"], received[0]["offset"], received[0]["sha256"] is not None)
    if group["files"] is None:
        if max(upload["updated"] for upload in uploads) > quiet_since:
            return None
    elif len(received) < group["files"]:
        return None
    digests = {upload["path"]: upload["received_sha256"] for upload in received}
    announced = group["files"] is None or all(upload["sha256"] is not None for upload in received)
    return Content(manifest_sha256(digests.items()), sum(upload["offset"] for upload in received), announced)


def manifest_sha256(digests: Iterable[tuple[str, str]]) -> str:
    """The SHA-256 of files by their (path, SHA-256)."""
    ordered = sorted(digests, key=lambda item: item[0].encode())
    return hashlib.sha256("".join(f"{sha256}  {path}\n" for path, sha256 in ordered).encode()).hexdigest()
