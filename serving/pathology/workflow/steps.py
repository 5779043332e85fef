"""The steps of a slide's workflow from its upload to the last batch of tiles; aggregation.py makes the reading of them.

Each step may be repeated without harm: it finds what it made before, or makes it again, identical to the bit. Files
appear whole or not at all. A step that ends a slide changes its state itself and returns False.

<slide>/slide/        the de-identified copy, the only one read from then on
<slide>/proof.json    the proof of the copy, as the event of its state has it
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from datasets.slides import sandbox, tiling, tissue
from datasets.slides.decoding.metadata import SlideMetadata
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.quality import QualityConfig, assess_slide, assess_tiles
from datasets.slides.tiling import Grid, GridConfig
from models.bundle import Bundle
from models.pathology.card import SlideCard
from models.pathology.policy import ReadingPolicy
from serving.core.db.engine import write_transaction
from serving.pathology.originals import assembly
from serving.pathology.slides import focus, scale, storage, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.store import Row
from serving.pathology.workflow import slide_files
from serving.pathology.workflow.runner import TileRequest
from serving.pathology.workflow.step_context import StepContext

PROOF_NAME = "proof.json"


def verify_file(context: StepContext, slide_id: str) -> bool:
    """Check that the file has the announced SHA-256, that its format is sound, and that its scale is known.

    A slide whose scale is doubtful or unknown waits: this workflow ends, and another begins once it is confirmed.
    """
    row = context.load_row(slide_id)
    if (context.slide_dir(slide_id) / "slide").exists():
        return True
    path, paths = storage.quarantine_path(context.slides_dir, slide_id, row["name"]), context.group_paths(slide_id)
    digest = assembly.sha256_of(path, paths)
    if digest != row["sha256"]:
        actual = f"SHA-256 {digest}"
        return context.fail(
            slide_id,
            [slide_issue("malformed", what="the file", actual=actual, expected=f"SHA-256 {row['sha256']}")],
        )
    try:
        metadata = _read_metadata(assembly.locate_slide(path, paths), row)
    except SlideError as error:
        return context.fail(slide_id, error.issues)
    reason = None if scale.is_confirmed(row) else scale.confirmation_reason(metadata.scales, row["mpp"])
    if reason is not None:
        context.transition(slide_id, scale.WAITING_STATE, reasons=[reason])
        return False
    assert metadata.mpp is not None, "a slide without a scale waits for it"
    if issue := focus.missing_plane(focus.requested_plane(row["request"]), metadata.planes):
        return context.fail(slide_id, [issue])
    return True


def deidentify_file(context: StepContext, slide_id: str) -> bool:
    """Make a copy without label, macro image and personal data, prove it, then remove the uploaded file.

    From then on no name of an uploaded file is stored. A copy that cannot be proved is removed and the slide fails; the
    uploaded file stays in quarantine until it is sent again or expires.
    """
    row, slide_dir = context.load_row(slide_id), context.slide_dir(slide_id)
    if not (slide_dir / "slide").exists():
        temp_dir = slide_dir / ".stripping"
        shutil.rmtree(temp_dir, ignore_errors=True)
        temp_dir.mkdir()
        try:
            path, paths = (
                storage.quarantine_path(context.slides_dir, slide_id, row["name"]),
                context.group_paths(slide_id),
            )
            original, known_words = assembly.locate_slide(path, paths), _known_words(row, paths.values())
            slide = deidentify_slide(original, temp_dir, key=context.slide_key(row["tenant"]), known_words=known_words)
        except SlideError as error:
            shutil.rmtree(temp_dir)
            return context.fail(slide_id, error.issues)
        storage.write_file(slide_dir / PROOF_NAME, json.dumps(slide.proof.to_json()).encode())
        storage.sync_tree(temp_dir)
        temp_dir.rename(slide_dir / "slide")
        storage.sync_dir(slide_dir)
    shutil.rmtree(slide_dir / "quarantine", ignore_errors=True)
    proof_path = slide_dir / PROOF_NAME
    detail = {"proof": json.loads(proof_path.read_bytes())} if proof_path.exists() else None  # none of older versions
    with write_transaction(context.engine) as connection:
        name = context.deidentified_path(slide_id).name
        upload_store.forget_names(connection, slide_id)
        return context.transition(slide_id, "deidentified", detail, connection=connection, name=name) or True


def _known_words(row: Row, paths: Iterable[str]) -> list[str]:
    """Words of the request form and of names of files and folders, which must not be in the copy."""
    names = [Path(name).stem for path in (row["name"], *paths) for name in Path(path).parts]
    values = [field["value"] for field in (row["request"] or {}).get("context", ())]
    return [str(row["accession"] or ""), *names, *(value for value in values if isinstance(value, str))]


def check_quality(context: StepContext, slide_id: str, bundle: Bundle[SlideCard]) -> bool:
    """Find the tissue, lay the grid of tiles over it, and assess a sample of them; then the slide is queued."""
    row, policy = context.load_row(slide_id), ReadingPolicy.load(bundle.policy)
    path = context.deidentified_path(slide_id)

    def inspect_slide() -> tuple[SlideMetadata, float, Grid, list[str]]:
        with sandbox.open_slide(path, row["mpp"]) as open_slide:
            opened = open_slide.at_plane(focus.chosen_plane(open_slide.metadata, row, policy))
            tissue_mask = tissue.find_tissue(opened)
            grid = tiling.tile_grid(opened.metadata, tissue_mask, _grid_config(bundle.card, policy), row["name"])
            sample = np.unique(
                np.linspace(0, len(grid) - 1, min(policy.fit.sample_tiles, len(grid))).astype(int)
            ).tolist()
            reasons = [
                reason for _, tiles in tiling.read_tiles(opened, grid, 32, sample) for reason in assess_tiles(tiles)
            ]
            return opened.metadata, tissue_mask.share, grid, reasons

    try:
        metadata, share, grid, reasons = sandbox.retry_in_new_sandbox(inspect_slide)
    except SlideError as error:
        return context.fail(slide_id, error.issues, "quality_failed")
    limits = QualityConfig(
        min_tissue=policy.fit.min_tissue,
        max_out_of_focus=policy.fit.max_out_of_focus,
        max_pen=policy.fit.max_pen,
    )
    if issues := assess_slide(reasons, share, limits):
        return context.fail(slide_id, issues, "quality_failed")
    order = tiling.scan_order(grid.cells)
    slide_files.save_arrays(
        context.slide_dir(slide_id) / "grid.npz",
        places=grid.positions[order],
        cells=grid.cells[order],
        extent=np.array(grid.extent),
        shape=np.array(grid.shape),
        mpp=np.array(metadata.mpp),
        facts=np.array(json.dumps(asdict(metadata) | {"plane": focus.chosen_plane(metadata, row, policy)})),
    )
    detail = {"tissue": round(share, 4), "tiles": len(grid)}
    context.transition(slide_id, "quality_passed", detail)
    context.transition(slide_id, "queued")
    return True


def begin_inference(context: StepContext, slide_id: str, batch_size: int) -> int:
    """Start reading the slide; returns the number of batches, each of at most `batch_size` tiles."""
    tile_count = len(slide_files.load_grid(context.slide_dir(slide_id))["places"])
    context.transition(slide_id, "inferring", total=tile_count)
    return len(slide_files.batch_ranges(tile_count, batch_size))


def infer_batch(
    context: StepContext, slide_id: str, bundle: Bundle[SlideCard], batch_number: int, batch_size: int
) -> bool:
    """Run the network over one batch; False if the slide was cancelled or its authorisation revoked meanwhile."""
    row = context.load_row(slide_id)
    if row["state"] == "cancelled" or not context.check_authorisation(row):
        return False
    grid = slide_files.load_grid(context.slide_dir(slide_id))
    tile_count = len(grid["places"])
    ranges = slide_files.batch_ranges(tile_count, batch_size)
    span, path = ranges[batch_number], slide_files.batch_path(context.slide_dir(slide_id), batch_number)

    def build_request(span: tuple[int, int]) -> TileRequest:
        return TileRequest(
            str(context.deidentified_path(slide_id).relative_to(context.slides_dir)),
            (float(grid["mpp"][0]), float(grid["mpp"][1])),
            grid["places"][slice(*span)],
            (float(grid["extent"][0]), float(grid["extent"][1])),
            bundle.card.model,
            bundle.card.version,
            bundle.digest,
            json.loads(str(grid["facts"])).get("plane"),
        )

    if not path.exists():
        try:
            outputs = context.infer(build_request(span))
        except SlideError as error:
            return context.fail(slide_id, error.issues)
        path.parent.mkdir(exist_ok=True)
        storage.write_file(path, outputs.encode())
        if span[1] < tile_count:  # only after the write, so that a killed worker repeats one batch at most
            context.prefetch(build_request(ranges[batch_number + 1]))
    slide_store.record_progress(context.engine, slide_id, span[1], tile_count, worker_id=context.worker_id)
    return True


def _read_metadata(path: Path, row: Row) -> SlideMetadata:
    def read_metadata() -> SlideMetadata:
        with sandbox.open_slide(path, row["mpp"]) as opened:
            return opened.metadata

    return sandbox.retry_in_new_sandbox(read_metadata)


def _grid_config(card: SlideCard, policy: ReadingPolicy) -> GridConfig:
    assert card.mpp is not None, "require_readable demands a scale"
    return GridConfig(
        mpp=card.mpp,
        tile_size=card.side,
        min_tissue=policy.fit.min_tile_tissue,
        max_coarsening=policy.fit.max_coarsening,
    )
