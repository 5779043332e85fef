"""Slides as the gateway leaves them after a complete upload, and a worker process that reads them slowly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serving.core.identifiers import new_id
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store

SLOW_WORKER = """
import time
from serving.pathology.workflow.runner import TileRunner
from serving.pathology.workflow.workflow import SlideWorkflow
from serving.settings import load_settings

runner = TileRunner(load_settings())

def infer_slowly(request):
    time.sleep(0.1)  # so that the test can act between two batches
    return runner.infer(request)

workflow = SlideWorkflow(load_settings(), infer_slowly)
workflow.start()
while True:
    workflow.enqueue_new()
    time.sleep(0.1)
"""


def create_arrived_slide(
    engine: sa.Engine,
    slides_dir: Path,
    content: bytes,
    name: str = "slide.tiff",
    extra_files: Mapping[str, bytes] | None = None,
    **columns: Any,
) -> str:
    """Put a file into quarantine and its slide into the store; returns the slide's id.

    extra_files: other files in its quarantine, by relative path.
    """
    slide_id = new_id()
    path = storage.quarantine_path(slides_dir, slide_id, name)
    storage.create_empty(path)
    path.write_bytes(content)
    for file_name, file_content in (extra_files or {}).items():
        (path.parent / file_name).parent.mkdir(exist_ok=True)
        (path.parent / file_name).write_bytes(file_content)
    defaults = {"specimen": "cervical_cytology", "accession": "A1", "request": {}, "name": name}
    row = defaults | {"sha256": storage.sha256_of(path).hexdigest()} | columns
    slide_store.create(engine, slide_id, "verifying", **row)
    return slide_id


def comparable_fields(reading: Mapping[str, Any], *excluded: str) -> dict[str, Any]:
    """The fields that two readings of one file have in common."""
    return {name: value for name, value in reading.items() if name not in ("slide_id", "created", *excluded)}
