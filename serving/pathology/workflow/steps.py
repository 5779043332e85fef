"""What is done with a slide between its arrival and its reading, one step after another.

Each step may be repeated without harm: it finds what it made before, or makes it again, the same to the bit. Files
appear whole or not at all. A step that ends the slide's way moves it there itself and answers False.

<slide>/slide/<name>         the stripped copy, the only one read from then on
<slide>/grid.npz             places (n, 2), cells (n, 2) of the tiles with tissue in the order of reading, extent, shape
                             (columns, rows), facts
<slide>/batches/00000.npz    what the network said of one batch
<slide>/tiles.npz            of all tiles: places, cells, reasons, probability, logits, distance, attention
<slide>/heat.npz             (rows, columns) probability and attention, NaN where nothing was read
<slide>/reading.json
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from datasets.slides import sandbox, tiling, tissue
from datasets.slides.deidentify import deidentify_slide
from datasets.slides.errors import SlideError, SlideIssue, slide_issue
from datasets.slides.quality import QualityConfig, assess_slide, assess_tiles
from datasets.slides.reader import SlideMetadata
from datasets.slides.tiling import Grid, GridConfig
from models.bundle import SLIDE_GRAPH, Bundle
from models.pathology import patient_risk
from models.pathology.card import SlideCard
from models.pathology.decision import Reading, TileTable, decide, tile_probability, usable_rows, worklist_priority
from models.pathology.onnx_sessions import SlideGraph
from models.pathology.policy import ReadingPolicy
from serving.core.billing.prices import Prices
from serving.core.db.engine import read_connection
from serving.core.identifiers import utc_now
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow.runner import TileOutputs, TileRequest
from serving.privacy.consent.rules import is_active

CHUNK_TILES = 8_192  # embeddings in memory together when a slide is summed up
Row = dict[str, Any]
InferTiles = Callable[[TileRequest], TileOutputs]


@dataclass(frozen=True, slots=True)
class StepContext:
    """Where slides and their store are.

    read: asks the runner for tiles; ahead: tells it what will be asked for next. worker: whose moves they are.
    """

    engine: sa.Engine
    slides_dir: Path
    infer: InferTiles
    worker_id: str = ""
    prefetch: Callable[[TileRequest], None] = lambda request: None
    prices: Prices | None = None  # by which a reading is metered

    def slide_dir(self, slide_id: str) -> Path:
        return self.slides_dir / slide_id

    def transition(self, slide_id: str, target: str, detail: Row | None = None, **columns: Any) -> bool:
        return slide_store.transition(
            self.engine, slide_id, target, detail, worker_id=self.worker_id, prices=self.prices, **columns
        )


def verify_file(context: StepContext, slide_id: str) -> bool:
    """The bytes are those announced, the format is sound, and the scale is known."""
    row = _load_row(context, slide_id)
    if (context.slide_dir(slide_id) / "slide").exists():
        return True
    path = storage.quarantine_path(context.slides_dir, slide_id, row["name"])
    digest = storage.sha256_of(path).hexdigest()
    if digest != row["sha256"]:
        actual = f"SHA-256 {digest}"
        return _fail_slide(
            context,
            slide_id,
            [slide_issue("malformed", what="the file", found=actual, needed=f"SHA-256 {row['sha256']}")],
        )
    try:
        metadata = _read_metadata(path, row)
    except SlideError as refused:
        return _fail_slide(context, slide_id, refused.issues)
    return True if metadata.mpp is not None else _fail_slide(context, slide_id, [slide_issue("no_scale")])


def deidentify_file(context: StepContext, slide_id: str) -> bool:
    """A copy without label, macro and words about people; then what was sent is removed."""
    row, slide_dir = _load_row(context, slide_id), context.slide_dir(slide_id)
    if not (slide_dir / "slide").exists():
        temp_dir = slide_dir / ".stripping"
        shutil.rmtree(temp_dir, ignore_errors=True)
        temp_dir.mkdir()
        try:
            deidentify_slide(storage.quarantine_path(context.slides_dir, slide_id, row["name"]), temp_dir)
        except SlideError as refused:
            shutil.rmtree(temp_dir)
            return _fail_slide(context, slide_id, refused.issues)
        for path in temp_dir.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        storage.sync_dir(temp_dir)
        temp_dir.rename(slide_dir / "slide")
        storage.sync_dir(slide_dir)
    shutil.rmtree(slide_dir / "quarantine", ignore_errors=True)
    return context.transition(slide_id, "deidentified") or True


def check_quality(context: StepContext, slide_id: str, bundle: Bundle[SlideCard]) -> bool:
    """Tissue, the tiles over it, and whether a sample of them is fit; then the slide waits for its reading."""
    row, policy = _load_row(context, slide_id), ReadingPolicy.load(bundle.policy)
    path = _deidentified_path(context, slide_id)

    def inspect_slide() -> tuple[SlideMetadata, float, Grid, list[str]]:
        with sandbox.open_slide(path, row["mpp"]) as opened:
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
    except SlideError as refused:
        return _fail_slide(context, slide_id, refused.issues, "quality_failed")
    limits = QualityConfig(
        min_tissue=policy.fit.min_tissue,
        max_out_of_focus=policy.fit.max_out_of_focus,
        max_pen=policy.fit.max_pen,
    )
    if issues := assess_slide(reasons, share, limits):
        return _fail_slide(context, slide_id, issues, "quality_failed")
    order = tiling.scan_order(grid.cells)
    _save_arrays(
        context.slide_dir(slide_id) / "grid.npz",
        places=grid.positions[order],
        cells=grid.cells[order],
        extent=np.array(grid.extent),
        shape=np.array(grid.shape),
        mpp=np.array(metadata.mpp),
        facts=np.array(json.dumps(asdict(metadata))),
    )
    detail = {"tissue": round(share, 4), "tiles": len(grid)}
    context.transition(slide_id, "quality_passed", detail)
    context.transition(slide_id, "queued")
    return True


def begin_inference(context: StepContext, slide_id: str, batch_size: int) -> int:
    """The number of batches, each of at most `batch_size` tiles."""
    tile_count = len(_load_arrays(context.slide_dir(slide_id) / "grid.npz")["places"])
    context.transition(slide_id, "inferring", total=tile_count)
    return len(_batch_ranges(tile_count, batch_size))


def infer_batch(
    context: StepContext, slide_id: str, bundle: Bundle[SlideCard], batch_number: int, batch_size: int
) -> bool:
    """One batch; False where the slide was cancelled meanwhile."""
    row = _load_row(context, slide_id)
    if row["state"] == "cancelled" or not _check_authorisation(context, row):
        return False
    grid = _load_arrays(context.slide_dir(slide_id) / "grid.npz")
    tile_count = len(grid["places"])
    batch_ranges = _batch_ranges(tile_count, batch_size)
    span, path = batch_ranges[batch_number], _batch_path(context.slide_dir(slide_id), batch_number)

    def build_request(span: tuple[int, int]) -> TileRequest:
        return TileRequest(
            str(_deidentified_path(context, slide_id).relative_to(context.slides_dir)),
            (float(grid["mpp"][0]), float(grid["mpp"][1])),
            grid["places"][slice(*span)],
            (float(grid["extent"][0]), float(grid["extent"][1])),
            bundle.card.model,
            bundle.card.version,
            bundle.digest,
        )

    if not path.exists():
        try:
            outputs = context.infer(build_request(span))
        except SlideError as refused:
            return _fail_slide(context, slide_id, refused.issues)
        path.parent.mkdir(exist_ok=True)
        _write_file(path, outputs.encode())
        if span[1] < tile_count:  # only now: a worker that is killed repeats one batch at most
            context.prefetch(build_request(batch_ranges[batch_number + 1]))
    slide_store.record_progress(context.engine, slide_id, span[1], tile_count, worker_id=context.worker_id)
    return True


def aggregate_slide(context: StepContext, slide_id: str, bundle: Bundle[SlideCard], batch_size: int) -> str:
    """Make the reading out of all batches, and return the state that the slide is in afterwards."""
    slide_dir, row = context.slide_dir(slide_id), _load_row(context, slide_id)
    if row["reading"] is not None:
        return str(row["state"])
    if not _check_authorisation(context, row):
        return "failed"
    context.transition(slide_id, "aggregating")
    card, policy = bundle.card, ReadingPolicy.load(bundle.policy)
    grid = _load_arrays(slide_dir / "grid.npz")
    reading, table, used_rows, attention = _aggregate_tiles(context, slide_id, bundle, grid, batch_size)
    _save_heatmap(slide_dir, card, table, grid, used_rows, attention)
    payload = _build_reading(context, row, bundle, policy, reading, grid)
    _write_file(slide_dir / "reading.json", json.dumps(payload, ensure_ascii=False, indent=1).encode())
    state = "abstained" if reading.triage == "abstained" else "ready"
    reasons = {"reasons": payload["abstained"]} if payload["abstained"] else {}
    context.transition(slide_id, state, {"triage": reading.triage}, reading=payload, **reasons)
    shutil.rmtree(slide_dir / "batches", ignore_errors=True)
    return state


AggregateResult = tuple[Reading, TileTable, NDArray[np.intp], NDArray[np.float32] | None]


def _aggregate_tiles(
    context: StepContext, slide_id: str, bundle: Bundle[SlideCard], grid: dict[str, NDArray[Any]], batch_size: int
) -> AggregateResult:
    """The reading, the tiles read, which of them the slide graph saw, and its attention to those."""
    slide_dir, card, policy = context.slide_dir(slide_id), bundle.card, ReadingPolicy.load(bundle.policy)
    tile_count = len(grid["places"])
    batch_ranges = _batch_ranges(tile_count, batch_size)
    outputs = _load_outputs(slide_dir, batch_ranges)
    table = TileTable(
        positions=grid["places"],
        extent=(float(grid["extent"][0]), float(grid["extent"][1])),
        reasons=outputs["reasons"],
        logits=outputs["logits"],
        embedding=np.zeros((tile_count, 0), np.float16),  # read chunk by chunk: they are most of the outputs
        distance=outputs["distance"],
        grid=tile_count,
    )
    used_rows = usable_rows(card, table)
    logits = attention = None
    if len(used_rows):
        graph = SlideGraph(bundle.extra_graphs[SLIDE_GRAPH])
        logits, attention = graph.run_chunks(_iter_embeddings(slide_dir, batch_ranges, used_rows))
    return decide(card, policy, table, used_rows, logits, attention), table, used_rows, attention


def _build_reading(
    context: StepContext,
    row: Row,
    bundle: Bundle[SlideCard],
    policy: ReadingPolicy,
    reading: Reading,
    grid: Mapping[str, NDArray[Any]],
) -> Row:
    """The reading with whose slide it is, what read it, and the patient's risk beside it."""
    card, request_form = bundle.card, row["request"] or {}
    risk = patient_risk.assess_risk(request_form, policy.patient)
    column_count, row_count = (int(side) for side in grid["shape"])
    return {
        "slide_id": row["id"],
        "accession": row["accession"],
        "specimen": row["specimen"],
        **reading.model_dump(mode="json"),
        "grid": {
            "columns": column_count,
            "rows": row_count,
            "extent": [float(side) for side in grid["extent"]],
            "tile": card.side,
            "mpp": card.mpp,
        },
        "patient": None if risk is None else risk.model_dump(mode="json"),
        "priority": worklist_priority(reading, policy, "routine" if risk is None else risk.level),
        "slide": _describe_slide(row, json.loads(str(grid["facts"]))),
        "model": {"name": card.model, "version": card.version, "bundle": bundle.digest},
        "policy_version": policy.version,
        "config_sha256": hashlib.sha256(bundle.policy).hexdigest(),
        "simulated": card.simulated,
        "created": _reading_created(context, row["id"]),
    }


def _read_metadata(path: Path, row: Row) -> SlideMetadata:
    def read_metadata() -> SlideMetadata:
        with sandbox.open_slide(path, row["mpp"]) as opened:
            return opened.metadata

    return sandbox.retry_in_new_sandbox(read_metadata)


def _describe_slide(row: Row, metadata: Row) -> Row:
    full_level = metadata["levels"][0]
    return {
        "sha256": row["sha256"],
        "format": metadata["format"],
        "width": full_level["width"],
        "height": full_level["height"],
        "mpp": metadata["mpp"],
        "mpp_from": metadata["mpp_from"],
        "notes": [*metadata["notes"], *(note["code"] for note in row["notes"])],
    }


def _reading_created(context: StepContext, slide_id: str) -> str:
    """When the summing up began: the same however often it is done again."""
    for event in slide_store.events_after(context.engine, slide_id, limit=100_000):
        if event["kind"] == "state" and event["state"] == "aggregating":
            return str(event["at"])
    return utc_now()


def _save_heatmap(
    slide_dir: Path,
    card: SlideCard,
    table: TileTable,
    grid: Mapping[str, NDArray[Any]],
    used_rows: NDArray[np.intp],
    attention: NDArray[np.float32] | None,
) -> None:
    """tiles.npz and heat.npz: what viewer, GeoJSON and a second look need."""
    column_count, row_count = (int(side) for side in grid["shape"])
    cells = grid["cells"][: len(table)]
    probability = np.full(len(table), np.nan, np.float32)
    weight = np.full(len(table), np.nan, np.float32)
    fit = table.reasons == ""
    probability[fit] = tile_probability(card, table.logits[fit])
    if attention is not None:
        weight[used_rows] = attention
    heatmaps = {}
    for name, values in (("probability", probability), ("attention", weight)):
        heatmaps[name] = np.full((row_count, column_count), np.nan, np.float32)
        heatmaps[name][cells[:, 1], cells[:, 0]] = values
    _save_arrays(slide_dir / "heat.npz", **heatmaps)
    _save_arrays(
        slide_dir / "tiles.npz",
        places=table.positions,
        cells=cells,
        reasons=table.reasons,
        probability=probability,
        logits=table.logits,
        distance=table.distance,
        attention=weight,
    )


def _iter_embeddings(
    slide_dir: Path, batch_ranges: list[tuple[int, int]], used_rows: NDArray[np.intp]
) -> Iterator[NDArray[np.float32]]:
    """Of the used tiles in order, at most PART at a time and a batch more; one batch is in memory."""
    chunks: list[NDArray[np.float32]] = []
    for number, (start, stop) in enumerate(batch_ranges):
        in_batch = used_rows[(used_rows >= start) & (used_rows < stop)] - start
        if len(in_batch):
            with np.load(_batch_path(slide_dir, number), allow_pickle=False) as arrays:
                chunks.append(arrays["embedding"][in_batch].astype(np.float32))
        if sum(map(len, chunks)) >= CHUNK_TILES:
            yield np.concatenate(chunks)
            chunks = []
    if chunks:
        yield np.concatenate(chunks)


def _load_outputs(slide_dir: Path, batch_ranges: list[tuple[int, int]]) -> dict[str, NDArray[Any]]:
    """Of all tiles read: reasons, logits and distance."""
    names = ("reasons", "logits", "distance")
    batches = []
    for number in range(len(batch_ranges)):
        with np.load(_batch_path(slide_dir, number), allow_pickle=False) as arrays:
            batches.append([arrays[name] for name in names])
    return dict(zip(names, (np.concatenate(column) for column in zip(*batches, strict=True)), strict=True))


def _batch_ranges(tile_count: int, batch_size: int) -> list[tuple[int, int]]:
    """(first, end) of each batch."""
    return [(first, min(first + batch_size, tile_count)) for first in range(0, tile_count, batch_size)]


def _batch_path(slide_dir: Path, number: int) -> Path:
    return slide_dir / "batches" / f"{number:05d}.npz"


def _grid_config(card: SlideCard, policy: ReadingPolicy) -> GridConfig:
    assert card.mpp is not None, "readable() asked for a scale"
    return GridConfig(
        mpp=card.mpp,
        tile_size=card.side,
        min_tissue=policy.fit.min_tile_tissue,
        max_coarsening=policy.fit.max_coarsening,
    )


def _deidentified_path(context: StepContext, slide_id: str) -> Path:
    """The copy that may be read; of a DICOM series the first file stands for all."""
    copy_dir = context.slide_dir(slide_id) / "slide"
    path = copy_dir / str(_load_row(context, slide_id)["name"])
    return path if path.exists() else min(copy_dir.iterdir())


def _load_row(context: StepContext, slide_id: str) -> Row:
    row = slide_store.get(context.engine, slide_id)
    assert row is not None, f"slide {slide_id} was taken from the store"
    return row


def _check_authorisation(context: StepContext, row: Row) -> bool:
    """Whether the authorisation that the request form names, if any, still holds; where not, the slide fails."""
    grant = (row["request"] or {}).get("authorisation")
    if grant is None:
        return True
    with read_connection(context.engine) as connection:
        if is_active(connection, grant, "pathology", row["tenant"]):
            return True
    return _fail_slide(context, row["id"], [slide_issue("not_authorised", found=grant)])


def _fail_slide(
    context: StepContext, slide_id: str, issues: tuple[SlideIssue, ...] | list[SlideIssue], state: str = "failed"
) -> bool:
    context.transition(slide_id, state, reasons=[asdict(issue) for issue in issues])
    return False


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    _write_file(path, buffer.getvalue())


def _write_file(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    temp_path = storage.write_temp(path, content)
    temp_path.replace(path)
    storage.sync_dir(path.parent)
