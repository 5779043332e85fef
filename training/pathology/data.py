"""What a network is made from: tiles to learn from, and slides or cells apart to calibrate on and to be judged on.

material = simulated(config.data, codes, side, mpp, seed)     # painted slides, on the spot
material = herlev(config.data, codes, side)                   # real cells, read through YUHENG_DATA
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datasets.errors import DataError
from datasets.slides.reader import Level, Slide, SlideMetadata
from models.card import DatasetInfo
from training.config import ConfigSection

Images = NDArray[np.uint8]  # (n, side, side, 3) RGB
# (places (n, 2), extent) -> (n,) the worst class that was painted in each tile; -1 where a nucleus lies at its side
TruthFn = Callable[[NDArray[np.int64], tuple[float, float]], NDArray[np.intp]]
PARTS = ("learn", "calibrate", "test")


class SlideCounts(ConfigSection):
    """Slides of each part: of the negative class, and of each positive one."""

    negative: int = Field(ge=1)
    positive: int = Field(ge=1)


class SimulatedConfig(ConfigSection):
    """Cervical slides, painted on the spot. `tiles`: single ones, of other slides, that the network learns from."""

    source: Literal["simulated"]
    tiles: int = Field(default=2_000, ge=20)
    columns: int = Field(default=4, ge=1)  # of a slide, in squares of 256 px
    rows: int = Field(default=4, ge=1)
    learn: SlideCounts
    calibrate: SlideCounts
    test: SlideCounts
    strange: int = Field(default=4, ge=1)  # slides of another stain, to be called unlike all that was learned from


class HerlevConfig(ConfigSection):
    """Single cells of a Pap smear. Two folds of its four are kept from learning: groups of cells stay whole."""

    source: Literal["herlev"]
    folder: Path | None = None  # holds pathology/…; YUHENG_DATA where it is not named
    crop: Literal["cell", "nucleus"] = "nucleus"
    test: int = Field(default=0, ge=0, le=3)
    calibrate: int = Field(default=1, ge=0, le=3)


@dataclass(frozen=True)
class LabelledTiles:
    """labels: places among the config's classes. groups: what may not be on both sides of a split."""

    images: Images
    labels: NDArray[np.intp]  # (n,)
    groups: NDArray[Any]  # (n,)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: NDArray[np.intp]) -> LabelledTiles:
        return LabelledTiles(self.images[rows], self.labels[rows], self.groups[rows])


@dataclass(frozen=True)
class SimulatedSlide:
    """A simulated slide: the same pixels whenever it is opened."""

    name: str
    part: str
    label: int  # place among the config's classes
    seed: int
    columns: int
    rows: int
    mpp: float
    fault: str = ""

    def open(self) -> tuple[Slide, TruthFn]:
        """As a reader gives it, one level, stored as JPEG by the simulated scanner; and what was painted where.

        Neither is kept here: the cells of a slide take 20 MB.
        """
        from PIL import Image

        from datasets.slides.simulate.fields import encode_jpeg
        from datasets.slides.simulate.slides import TILE, simulate_slide, worst_labels

        painted = simulate_slide(self.seed, self.label, self.columns, self.rows, self.mpp, self.fault)
        width, height = painted.size
        pixels = np.empty((height, width, 3), np.uint8)
        for row in range(self.rows):
            for column in range(self.columns):
                encoded = encode_jpeg(painted.tile(column, row), painted.appearance.quality)
                y, x = row * TILE, column * TILE
                pixels[y : y + TILE, x : x + TILE] = np.asarray(Image.open(io.BytesIO(encoded)))

        def read_region(x: int, y: int, size: tuple[int, int], level: int) -> Images:
            region = np.full((size[1], size[0], 3), 255, np.uint8)
            x_start, y_start, x_end, y_end = max(x, 0), max(y, 0), min(x + size[0], width), min(y + size[1], height)
            if x_start < x_end and y_start < y_end:
                region[y_start - y : y_end - y, x_start - x : x_end - x] = pixels[y_start:y_end, x_start:x_end]
            return region

        def truth(places: NDArray[np.int64], extent: tuple[float, float]) -> NDArray[np.intp]:
            return worst_labels(painted.cells(), places, extent, self.mpp).astype(np.intp)

        facts = SlideMetadata("simulated", (Level(width, height, 1.0),), mpp=(self.mpp, self.mpp), mpp_from="file")
        return Slide(facts, read_region, lambda: None), truth


@dataclass(frozen=True)
class TrainingData:
    """`learn`: tiles for the network. Either slides, by part, or cells set aside; the other is empty.

    taken: pictures as they were taken, to look for a shortcut in: a crop's blur tells the size of what it was cut to.
    strange: slides, or tiles, unlike all that is learned from. shown: whether the images may be shown in a card.
    """

    learn: LabelledTiles
    shortcut_sample: LabelledTiles
    data: tuple[DatasetInfo, ...]
    slides: Mapping[str, Sequence[SimulatedSlide]]
    cells: Mapping[str, LabelledTiles]
    ood_sample: Sequence[SimulatedSlide] | Images = ()
    show_images: bool = True
    remarks: tuple[str, ...] = ()


def load_simulated(data: SimulatedConfig, codes: Sequence[str], side: int, mpp: float, seed: int) -> TrainingData:
    """Tiles and slides, each of its own cells, stain and scanner. Raises DataError for other classes than theirs."""
    from datasets.slides.simulate import fields
    from datasets.slides.simulate.cell_types import CLASSES

    _check_classes(codes, CLASSES, "simulated slides")
    rendered = fields.simulate_tiles(data.tiles, seed, side, mpp)
    tiles = LabelledTiles(rendered.images, rendered.labels.astype(np.intp), rendered.slides)
    slides = {part: _plan_slides(data, part, getattr(data, part), len(codes), mpp, seed) for part in PARTS}
    ood_slides = [
        SimulatedSlide(
            f"strange-{number}", "strange", 0, _slide_seed(seed, 9, number), data.columns, data.rows, mpp, "wrong_stain"
        )
        for number in range(data.strange)
    ]
    metadata = DatasetInfo(
        name=f"simulated cervical tiles, seed {seed}",
        rows=len(tiles),
        sha256=tiles_digest(tiles),
        source="datasets.slides.simulate.fields",
        simulated=True,
        split="all to learn from; of other simulated slides than those below",
    )
    return TrainingData(tiles, tiles, (metadata,), slides, {}, ood_slides)


def load_herlev(data: HerlevConfig, codes: Sequence[str], side: int) -> TrainingData:
    """Cells cut out by the annotators' masks, as the published protocol has it."""
    from datasets.pathology import colon, herlev

    _check_classes(codes, herlev.CLASSES, "Herlev")
    if data.test == data.calibrate:
        raise DataError(f"data.test and data.calibrate are both fold {data.test}; two different ones are needed.")
    cells = herlev.read(data.folder)
    all_tiles = LabelledTiles(herlev.crop_cells(cells, side, data.crop), cells.label7, cells.groups)
    fold_masks = {"calibrate": cells.folds == data.calibrate, "test": cells.folds == data.test}
    rows_by_part = {name: np.flatnonzero(rows) for name, rows in fold_masks.items()}
    rows_by_part["learn"] = np.flatnonzero(~fold_masks["calibrate"] & ~fold_masks["test"])
    metadata = DatasetInfo(
        name="herlev",
        rows=len(all_tiles),
        sha256=herlev.FILES_SHA256,
        source="Jantzen et al. 2005, by way of pathology/herlev",
        licence="none found; the images are not shown",
        split=f"groups whole: fold {data.test} held out, fold {data.calibrate} to calibrate, the rest to learn from",
        split_sha256=hashlib.sha256(b"".join(rows_by_part[name].astype("<i8").tobytes() for name in PARTS)).hexdigest(),
    )
    ood_images: Images | tuple[()] = ()
    remarks = [
        "The cells were cut out by the annotators' masks, in training and in judging; on a slide they must come from a "
        "segmentation. Their microns per pixel are lost, so this model reads no slide.",
        "No licence to show the images was found: the card shows none.",
    ]
    try:
        ood_images = _resize(colon.read(data.folder).images, side)
    except DataError as error:
        remarks.append(f"Not tried on another organ: {error}")
    cells_by_part = {part: all_tiles.subset(rows) for part, rows in rows_by_part.items() if part != "learn"}
    shortcut_sample = LabelledTiles(cells.images, cells.label7, cells.groups)
    return TrainingData(
        all_tiles.subset(rows_by_part["learn"]),
        shortcut_sample,
        (metadata,),
        {},
        cells_by_part,
        ood_images,
        show_images=False,
        remarks=tuple(remarks),
    )


def tiles_digest(tiles: LabelledTiles) -> str:
    """SHA-256 over images, labels and groups."""
    state = hashlib.sha256(tiles.images.tobytes())
    state.update(tiles.labels.astype("<i8").tobytes())
    state.update("\n".join(map(str, tiles.groups.tolist())).encode())
    return state.hexdigest()


def _plan_slides(
    data: SimulatedConfig, part: str, counts: SlideCounts, classes: int, mpp: float, seed: int
) -> list[SimulatedSlide]:
    labels = [0] * counts.negative + [label for label in range(1, classes) for _ in range(counts.positive)]
    part_index = PARTS.index(part)
    return [
        SimulatedSlide(
            f"{part}-{number}", part, label, _slide_seed(seed, part_index, number), data.columns, data.rows, mpp
        )
        for number, label in enumerate(labels)
    ]


def _slide_seed(seed: int, part: int, number: int) -> int:
    """Of one slide: never that of another part's, nor of the tiles."""
    return int(np.random.SeedSequence([seed, 1 + part, number]).generate_state(1)[0])


def _check_classes(codes: Sequence[str], expected: Sequence[str], name: str) -> None:
    if list(codes) != list(expected):
        raise DataError(
            f"The config's classes are {', '.join(codes)}; {name} have {', '.join(expected)}, in this order. "
            "Name them so under [[classes]]."
        )


def _resize(images: Images, side: int) -> Images:
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in images])
