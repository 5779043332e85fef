"""What is done with a slide between its arrival and its reading, one step after another.

Each step may be repeated without harm: it finds what it made before, or makes it again, the same to the bit. Files
appear whole or not at all. A step that ends the slide's way moves it there itself and answers False.

<slide>/slide/<name>         the stripped copy, the only one read from then on
<slide>/grid.npz             places (n, 2), cells (n, 2) of the tiles with tissue in the order of reading, extent, shape
                             (columns, rows), facts, and of coarse.Stages: ends, rank, tops
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

from datasets.slides import sandbox, tissue
from datasets.slides import tiling as grids
from datasets.slides.deidentify import strip
from datasets.slides.errors import SlideFault, SlideRefused, fault
from datasets.slides.quality import QualityConfig, judge_slide, judge_tiles
from datasets.slides.reader import Facts
from datasets.slides.tiling import Grid, GridConfig
from models.bundle import SLIDE_GRAPH, Bundle
from models.pathology import decision, patient_risk
from models.pathology.card import SlideCard
from models.pathology.decision import Reading, TileTable, decide, priority, rows, tile_probability
from models.pathology.onnx_sessions import SlideGraph
from models.pathology.policy import ReadingPolicy
from serving.core.billing.prices import Prices
from serving.core.db.engine import reading
from serving.core.identifiers import now
from serving.pathology.slides import storage
from serving.pathology.slides import store as slides
from serving.pathology.workflow.runner import Asked, Said
from serving.pathology.workflow.sampling import Stages, darkness, plan, weights
from serving.privacy.consent.rules import holds

PART = 8_192  # embeddings in memory together when a slide is summed up
Row = dict[str, Any]
Read = Callable[[Asked], Said]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where slides and their store are.

    read: asks the runner for tiles; ahead: tells it what will be asked for next. worker: whose moves they are.
    """

    engine: sa.Engine
    folder: Path
    read: Read
    worker: str = ""
    ahead: Callable[[Asked], None] = lambda asked: None
    prices: Prices | None = None  # by which a reading is metered

    def of(self, slide: str) -> Path:
        return self.folder / slide

    def move(self, slide: str, to: str, detail: Row | None = None, **columns: Any) -> bool:
        return slides.move(self.engine, slide, to, detail, by=self.worker, prices=self.prices, **columns)


def verify(desk: Desk, slide: str) -> bool:
    """The bytes are those announced, the format is sound, and the scale is known."""
    row = _row(desk, slide)
    if (desk.of(slide) / "slide").exists():
        return True
    path = storage.quarantine(desk.folder, slide, row["name"])
    digest = storage.digest_of(path).hexdigest()
    if digest != row["sha256"]:
        found = f"SHA-256 {digest}"
        return _fail(desk, slide, [fault("malformed", what="the file", found=found, needed=f"SHA-256 {row['sha256']}")])
    try:
        facts = _facts(path, row)
    except SlideRefused as refused:
        return _fail(desk, slide, refused.faults)
    return True if facts.mpp is not None else _fail(desk, slide, [fault("no_scale")])


def deidentify(desk: Desk, slide: str) -> bool:
    """A copy without label, macro and words about people; then what was sent is removed."""
    row, home = _row(desk, slide), desk.of(slide)
    if not (home / "slide").exists():
        scratch = home / ".stripping"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            strip(storage.quarantine(desk.folder, slide, row["name"]), scratch)
        except SlideRefused as refused:
            shutil.rmtree(scratch)
            return _fail(desk, slide, refused.faults)
        for part in scratch.iterdir():
            with part.open("rb") as file:
                os.fsync(file.fileno())
        storage.sync_folder(scratch)
        scratch.rename(home / "slide")
        storage.sync_folder(home)
    shutil.rmtree(home / "quarantine", ignore_errors=True)
    return desk.move(slide, "deidentified") or True


def quality(desk: Desk, slide: str, bundle: Bundle[SlideCard]) -> bool:
    """Tissue, the tiles over it, and whether a sample of them is fit; then the slide waits for its reading."""
    row, policy = _row(desk, slide), ReadingPolicy.load(bundle.policy)
    path = _stripped(desk, slide)

    def look() -> tuple[Facts, float, Grid, list[str], Stages]:
        with sandbox.open_slide(path, row["mpp"]) as opened:
            seen = tissue.find(opened)
            grid = grids.cover(opened.facts, seen, _grid(bundle.card, policy), row["name"])
            chosen = np.unique(np.linspace(0, len(grid) - 1, min(policy.fit.sample, len(grid))).astype(int)).tolist()
            reasons = [reason for _, tiles in grids.read(opened, grid, 32, chosen) for reason in judge_tiles(tiles)]
            coarse = policy.reading.coarse
            dark = darkness(opened, grid) if coarse else np.zeros(len(grid))
            stages = plan(dark, grid.cells, policy.reading.shares if coarse else (), 2 * policy.adequacy.least_tiles)
            return opened.facts, seen.share, grid, reasons, stages

    try:
        facts, share, grid, reasons, stages = sandbox.again(look)
    except SlideRefused as refused:
        return _fail(desk, slide, refused.faults, "quality_failed")
    limits = QualityConfig(
        least_tissue=policy.fit.least_tissue,
        most_out_of_focus=policy.fit.most_out_of_focus,
        most_pen=policy.fit.most_pen,
    )
    if faults := judge_slide(reasons, share, limits):
        return _fail(desk, slide, faults, "quality_failed")
    _save(
        desk.of(slide) / "grid.npz",
        places=grid.places[stages.order],
        cells=grid.cells[stages.order],
        ends=stages.ends,
        rank=stages.rank,
        tops=stages.tops,
        extent=np.array(grid.extent),
        shape=np.array(grid.shape),
        mpp=np.array(facts.mpp),
        facts=np.array(json.dumps(asdict(facts))),
    )
    told = {"tissue": round(share, 4), "tiles": len(grid), "first": int(stages.ends[0])}
    desk.move(slide, "quality_passed", told)
    desk.move(slide, "queued")
    return True


def begin(desk: Desk, slide: str, size: int) -> list[int]:
    """After how many batches of at most `size` tiles each stage has been read."""
    ends = _load(desk.of(slide) / "grid.npz")["ends"]
    desk.move(slide, "inferring", total=int(ends[0]))
    return [len(_spans(ends[: stage + 1], size)) for stage in range(len(ends))]


def infer(desk: Desk, slide: str, bundle: Bundle[SlideCard], number: int, size: int) -> bool:
    """One batch; False where the slide was cancelled meanwhile."""
    row = _row(desk, slide)
    if row["state"] == "cancelled" or not _authorised(desk, row):
        return False
    grid = _load(desk.of(slide) / "grid.npz")
    spans = _spans(grid["ends"], size)
    span, path = spans[number], _batch(desk.of(slide), number)

    def asked(span: tuple[int, int]) -> Asked:
        return Asked(
            str(_stripped(desk, slide).relative_to(desk.folder)),
            (float(grid["mpp"][0]), float(grid["mpp"][1])),
            grid["places"][slice(*span)],
            (float(grid["extent"][0]), float(grid["extent"][1])),
            bundle.card.model,
            bundle.card.version,
            bundle.digest,
        )

    if not path.exists():
        try:
            said = desk.read(asked(span))
        except SlideRefused as refused:
            return _fail(desk, slide, refused.faults)
        path.parent.mkdir(exist_ok=True)
        _write(path, said.packed())
        if span[1] not in grid["ends"]:  # only now: a worker that is killed repeats one batch at most
            desk.ahead(asked(spans[number + 1]))
    total = int(grid["ends"][np.searchsorted(grid["ends"], span[1])])  # of this stage: the next may not be needed
    slides.progress(desk.engine, slide, span[1], total, by=desk.worker)
    return True


def settled(desk: Desk, slide: str, bundle: Bundle[SlideCard], size: int, stage: int) -> bool:
    """Whether what was read so far says enough, so that the rest may stay unread."""
    policy = ReadingPolicy.load(bundle.policy)
    grid = _load(desk.of(slide) / "grid.npz")
    share = float(grid["ends"][stage] / len(grid["places"]))
    reading = _summed(desk, slide, bundle, grid, size, stage)[0]
    return decision.settled(bundle.card, policy, reading, policy.reading.unsure * ((1 - share) / share) ** 0.5)


def aggregate(desk: Desk, slide: str, bundle: Bundle[SlideCard], size: int, stage: int = -1) -> str:
    """The reading out of all batches up to the end of a stage. The state that the slide is in afterwards."""
    home, row = desk.of(slide), _row(desk, slide)
    if row["reading"] is not None:
        return str(row["state"])
    if not _authorised(desk, row):
        return "failed"
    desk.move(slide, "aggregating")
    card, policy = bundle.card, ReadingPolicy.load(bundle.policy)
    grid = _load(home / "grid.npz")
    reading, table, used, attention = _summed(desk, slide, bundle, grid, size, stage)
    _keep(home, card, table, grid, used, attention)
    told = _told(desk, row, bundle, policy, reading, grid)
    _write(home / "reading.json", json.dumps(told, ensure_ascii=False, indent=1).encode())
    state = "abstained" if reading.triage == "abstained" else "ready"
    why = {"reasons": told["abstained"]} if told["abstained"] else {}
    desk.move(slide, state, {"triage": reading.triage}, reading=told, **why)
    shutil.rmtree(home / "batches", ignore_errors=True)
    return state


Used = tuple[Reading, TileTable, NDArray[np.intp], NDArray[np.float32] | None]


def _summed(
    desk: Desk, slide: str, bundle: Bundle[SlideCard], grid: dict[str, NDArray[Any]], size: int, stage: int
) -> Used:
    """The reading, the tiles read, which of them the slide graph saw, and its attention to those."""
    home, card, policy = desk.of(slide), bundle.card, ReadingPolicy.load(bundle.policy)
    read, spans = int(grid["ends"][stage]), _spans(grid["ends"][: stage % len(grid["ends"]) + 1], size)
    said = _said(home, spans)
    table = TileTable(
        places=grid["places"][:read],
        extent=(float(grid["extent"][0]), float(grid["extent"][1])),
        reasons=said["reasons"],
        logits=said["logits"],
        embedding=np.zeros((read, 0), np.float16),  # read part by part: they are most of what is said
        distance=said["distance"],
        grid=len(grid["places"]),
    )
    used, stands = rows(card, table), weights(grid["rank"], grid["ends"], grid["tops"], stage)
    logits = attention = None
    if len(used):
        count = stands[used]
        alike = [np.flatnonzero(count == one) for one in np.unique(count)]
        parts = ((part, float(count[each[0]])) for each in alike for part in _embeddings(home, spans, used[each]))
        logits, found = SlideGraph(bundle.more[SLIDE_GRAPH]).run_parts(parts)
        attention = np.empty(len(used), np.float32)
        attention[np.concatenate(alike)] = found
    return decide(card, policy, table, used, logits, attention, stands), table, used, attention


def _told(
    desk: Desk,
    row: Row,
    bundle: Bundle[SlideCard],
    policy: ReadingPolicy,
    reading: Reading,
    grid: Mapping[str, NDArray[Any]],
) -> Row:
    """The reading with whose slide it is, what read it, and the patient's risk beside it."""
    card, form = bundle.card, row["request"] or {}
    risk = patient_risk.judge(form, policy.patient)
    columns, rows_ = (int(side) for side in grid["shape"])
    return {
        "slide_id": row["id"],
        "accession": row["accession"],
        "specimen": row["specimen"],
        **reading.model_dump(mode="json"),
        "grid": {
            "columns": columns,
            "rows": rows_,
            "extent": [float(side) for side in grid["extent"]],
            "tile": card.side,
            "mpp": card.mpp,
        },
        "patient": None if risk is None else risk.model_dump(mode="json"),
        "priority": priority(reading, policy, "routine" if risk is None else risk.level),
        "slide": _slide(row, json.loads(str(grid["facts"]))),
        "model": {"name": card.model, "version": card.version, "bundle": bundle.digest},
        "policy_version": policy.version,
        "config_sha256": hashlib.sha256(bundle.policy).hexdigest(),
        "simulated": card.simulated,
        "created": _created(desk, row["id"]),
    }


def _facts(path: Path, row: Row) -> Facts:
    def look() -> Facts:
        with sandbox.open_slide(path, row["mpp"]) as opened:
            return opened.facts

    return sandbox.again(look)


def _slide(row: Row, facts: Row) -> Row:
    finest = facts["levels"][0]
    return {
        "sha256": row["sha256"],
        "format": facts["format"],
        "width": finest["width"],
        "height": finest["height"],
        "mpp": facts["mpp"],
        "mpp_from": facts["mpp_from"],
        "notes": [*facts["notes"], *(note["code"] for note in row["notes"])],
    }


def _created(desk: Desk, slide: str) -> str:
    """When the summing up began: the same however often it is done again."""
    for event in slides.events_after(desk.engine, slide, most=100_000):
        if event["kind"] == "state" and event["state"] == "aggregating":
            return str(event["at"])
    return now()


def _keep(
    home: Path,
    card: SlideCard,
    table: TileTable,
    grid: Mapping[str, NDArray[Any]],
    used: NDArray[np.intp],
    attention: NDArray[np.float32] | None,
) -> None:
    """tiles.npz and heat.npz: what viewer, GeoJSON and a second look need."""
    columns, rows_ = (int(side) for side in grid["shape"])
    cells = grid["cells"][: len(table)]
    probability = np.full(len(table), np.nan, np.float32)
    weight = np.full(len(table), np.nan, np.float32)
    fit = table.reasons == ""
    probability[fit] = tile_probability(card, table.logits[fit])
    if attention is not None:
        weight[used] = attention
    heat = {}
    for name, values in (("probability", probability), ("attention", weight)):
        heat[name] = np.full((rows_, columns), np.nan, np.float32)
        heat[name][cells[:, 1], cells[:, 0]] = values
    _save(home / "heat.npz", **heat)
    _save(
        home / "tiles.npz",
        places=table.places,
        cells=cells,
        reasons=table.reasons,
        probability=probability,
        logits=table.logits,
        distance=table.distance,
        attention=weight,
    )


def _embeddings(home: Path, spans: list[tuple[int, int]], used: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    """Of the used tiles in order, at most PART at a time and a batch more; one batch is in memory."""
    held: list[NDArray[np.float32]] = []
    for number, (start, stop) in enumerate(spans):
        here = used[(used >= start) & (used < stop)] - start
        if len(here):
            with np.load(_batch(home, number), allow_pickle=False) as found:
                held.append(found["embedding"][here].astype(np.float32))
        if sum(map(len, held)) >= PART:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _said(home: Path, spans: list[tuple[int, int]]) -> dict[str, NDArray[Any]]:
    """Of all tiles read: reasons, logits and distance."""
    names = ("reasons", "logits", "distance")
    parts = []
    for number in range(len(spans)):
        with np.load(_batch(home, number), allow_pickle=False) as found:
            parts.append([found[name] for name in names])
    return dict(zip(names, (np.concatenate(column) for column in zip(*parts, strict=True)), strict=True))


def _spans(ends: NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """(first, last) of each batch: no batch goes beyond the end of a stage."""
    starts = [0, *ends[:-1].tolist()]
    return [
        (start, min(start + size, end))
        for first, end in zip(starts, ends.tolist(), strict=True)
        for start in range(first, end, size)
    ]


def _batch(home: Path, number: int) -> Path:
    return home / "batches" / f"{number:05d}.npz"


def _grid(card: SlideCard, policy: ReadingPolicy) -> GridConfig:
    assert card.mpp is not None, "readable() asked for a scale"
    return GridConfig(mpp=card.mpp, tile=card.side, tissue=policy.fit.tissue, coarser=policy.fit.coarser)


def _stripped(desk: Desk, slide: str) -> Path:
    """The copy that may be read; of a DICOM series the first file stands for all."""
    folder = desk.of(slide) / "slide"
    named = folder / str(_row(desk, slide)["name"])
    return named if named.exists() else min(folder.iterdir())


def _row(desk: Desk, slide: str) -> Row:
    row = slides.get(desk.engine, slide)
    assert row is not None, f"slide {slide} was taken from the store"
    return row


def _authorised(desk: Desk, row: Row) -> bool:
    """Whether the authorisation that the request form names, if any, still holds; where not, the slide fails."""
    grant = (row["request"] or {}).get("authorisation")
    if grant is None:
        return True
    with reading(desk.engine) as connection:
        if holds(connection, grant, "pathology", row["tenant"]):
            return True
    return _fail(desk, row["id"], [fault("not_authorised", found=grant)])


def _fail(desk: Desk, slide: str, faults: tuple[SlideFault, ...] | list[SlideFault], state: str = "failed") -> bool:
    desk.move(slide, state, reasons=[asdict(each) for each in faults])
    return False


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    _write(path, buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    scratch = storage.write_whole(path, content)
    scratch.replace(path)
    storage.sync_folder(path.parent)
