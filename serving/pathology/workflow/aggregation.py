"""Aggregate the outputs of all tiles into the slide's reading.

<slide>/tiles.npz       per tile: places, cells, reasons, probability, logits, distance, attention
<slide>/heat.npz        (rows, columns) probability and attention, NaN where no tile was read
<slide>/reading.json
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import SLIDE_GRAPH, Bundle
from models.pathology import patient_risk
from models.pathology.card import SlideCard
from models.pathology.decision import Reading, TileTable, decide, tile_probability, usable_rows, worklist_priority
from models.pathology.onnx_sessions import SlideGraph
from models.pathology.policy import ReadingPolicy
from serving.core.identifiers import utc_now
from serving.pathology.slides import focus, storage
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.store import Row
from serving.pathology.workflow import slide_files
from serving.pathology.workflow.slide_files import Arrays
from serving.pathology.workflow.step_context import StepContext

AggregateResult = tuple[Reading, TileTable, NDArray[np.intp], NDArray[np.float32] | None]


def aggregate_slide(context: StepContext, slide_id: str, bundle: Bundle[SlideCard], batch_size: int) -> str:
    """Make the reading out of all batches; returns the state in which the slide is afterwards."""
    slide_dir, row = context.slide_dir(slide_id), context.load_row(slide_id)
    if row["reading"] is not None:
        return str(row["state"])
    if not context.check_authorisation(row):
        return "failed"
    context.transition(slide_id, "aggregating")
    card, policy = bundle.card, ReadingPolicy.load(bundle.policy)
    grid = slide_files.load_grid(slide_dir)
    reading, table, used_rows, attention = _aggregate_tiles(context, slide_id, bundle, grid, batch_size)
    _save_heatmap(slide_dir, card, table, grid, used_rows, attention, reading)
    payload = _build_reading(context, row, bundle, policy, reading, grid)
    storage.write_file(slide_dir / "reading.json", json.dumps(payload, ensure_ascii=False, indent=1).encode())
    state = "abstained" if reading.triage == "abstained" else "ready"
    reasons = {"reasons": payload["abstained"]} if payload["abstained"] else {}
    planes = focus.planes_text(payload["slide"])
    detail = {"triage": reading.triage} | ({} if planes is None else {"planes": planes[0]})
    context.transition(slide_id, state, detail, reading=payload, **reasons)
    shutil.rmtree(slide_dir / "batches", ignore_errors=True)
    return state


def _aggregate_tiles(
    context: StepContext, slide_id: str, bundle: Bundle[SlideCard], grid: Arrays, batch_size: int
) -> AggregateResult:
    """The reading, the tiles, the rows of the tiles that the slide graph used, and its attention to those."""
    slide_dir, card, policy = context.slide_dir(slide_id), bundle.card, ReadingPolicy.load(bundle.policy)
    tile_count = len(grid["places"])
    ranges = slide_files.batch_ranges(tile_count, batch_size)
    outputs = slide_files.load_outputs(slide_dir, len(ranges))
    table = TileTable(
        positions=grid["places"],
        extent=(float(grid["extent"][0]), float(grid["extent"][1])),
        reasons=outputs["reasons"],
        logits=outputs["logits"],
        embedding=np.zeros((tile_count, 0), np.float16),  # read in chunks below: they are most of the bytes
        distance=outputs["distance"],
        grid=tile_count,
    )
    used_rows = usable_rows(card, table)
    logits = attention = None
    if len(used_rows):
        graph = SlideGraph(bundle.extra_graphs[SLIDE_GRAPH])
        logits, attention = graph.run_chunks(slide_files.iter_embeddings(slide_dir, ranges, used_rows))
    return decide(card, policy, table, used_rows, logits, attention), table, used_rows, attention


def _build_reading(
    context: StepContext,
    row: Row,
    bundle: Bundle[SlideCard],
    policy: ReadingPolicy,
    reading: Reading,
    grid: Mapping[str, NDArray[Any]],
) -> Row:
    """The reading as stored and signed: with the slide's identity, the model's, and the patient-level risk."""
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


def _describe_slide(row: Row, metadata: Row) -> Row:
    full_level = metadata["levels"][0]
    return {
        "sha256": row["sha256"],
        "format": metadata["format"],
        "width": full_level["width"],
        "height": full_level["height"],
        "mpp": metadata["mpp"],
        "mpp_from": metadata["mpp_from"],
        **focus.describe_planes(metadata),
        "notes": [*metadata["notes"], *(note["code"] for note in row["notes"])],
    }


def _reading_created(context: StepContext, slide_id: str) -> str:
    """When aggregation began; the same however often it is repeated."""
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
    reading: Reading,
) -> None:
    """Write tiles.npz and heat.npz for the viewer, the GeoJSON export and later analyses.

    Where the reading gives no probability, as the slide is unlike the training data, no tile has one, nor attention.
    """
    column_count, row_count = (int(side) for side in grid["shape"])
    cells = grid["cells"][: len(table)]
    probability = np.full(len(table), np.nan, np.float32)
    weight = np.full(len(table), np.nan, np.float32)
    fit = table.reasons == ""
    if reading.probability is not None and attention is not None:
        probability[fit] = tile_probability(card, table.logits[fit])
        weight[used_rows] = attention
    heatmaps = {}
    for name, values in (("probability", probability), ("attention", weight)):
        heatmaps[name] = np.full((row_count, column_count), np.nan, np.float32)
        heatmaps[name][cells[:, 1], cells[:, 0]] = values
    slide_files.save_arrays(slide_dir / "heat.npz", **heatmaps)
    slide_files.save_arrays(
        slide_dir / "tiles.npz",
        places=table.positions,
        cells=cells,
        reasons=table.reasons,
        probability=probability,
        logits=table.logits,
        distance=table.distance,
        attention=weight,
    )
