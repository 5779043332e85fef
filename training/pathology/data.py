"""Load the data of a slide model: training tiles, and separate slides or cells for calibration and evaluation.

data = load_simulated(config.data, codes, side, mpp, seed)     # simulated slides, rendered on demand
data = load_herlev(config.data, codes, side)                   # real cells, read through YUHENG_DATA
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
from datasets.slides.decoding.metadata import Level, SlideMetadata
from datasets.slides.reader import Slide
from models.card import DatasetInfo
from training.config import ConfigSection

Images = NDArray[np.uint8]  # (n, side, side, 3) RGB
# (positions (n, 2), extent) -> (n,) the worst class rendered in each tile; -1 where a nucleus crosses its border
TruthFn = Callable[[NDArray[np.int64], tuple[float, float]], NDArray[np.intp]]
SUBSETS = ("learn", "calibrate", "test")


class SlideCounts(ConfigSection):
    """Slides of one part of the data: of the negative class, and of each positive one."""

    negative: int = Field(ge=1)
    positive: int = Field(ge=1)


class SimulatedConfig(ConfigSection):
    """Simulated cervical slides. `tiles`: single tiles of further slides, from which the network learns."""

    source: Literal["simulated"]
    tiles: int = Field(default=2_000, ge=20)
    columns: int = Field(default=4, ge=1)  # of a slide, in squares of 256 px
    rows: int = Field(default=4, ge=1)
    learn: SlideCounts
    calibrate: SlideCounts
    test: SlideCounts
    strange: int = Field(default=4, ge=1)  # slides of another stain, to be recognised as out of distribution


class HerlevConfig(ConfigSection):
    """Single cells of Pap smears, in four folds; groups of cells stay whole. Two folds are not trained on."""

    source: Literal["herlev"]
    folder: Path | None = None  # contains pathology/...; YUHENG_DATA by default
    crop: Literal["cell", "nucleus"] = "nucleus"
    test: int = Field(default=0, ge=0, le=3)
    calibrate: int = Field(default=1, ge=0, le=3)


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles with their class. labels: indices of the config's classes. groups: tiles of one group stay together."""

    images: Images
    labels: NDArray[np.intp]  # (n,)
    groups: NDArray[Any]  # (n,)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: NDArray[np.intp]) -> LabelledTiles:
        """The tiles of these rows."""
        return LabelledTiles(self.images[rows], self.labels[rows], self.groups[rows])


@dataclass(frozen=True)
class SimulatedSlide:
    """A simulated slide; its seed determines its pixels, so each opening renders the same ones."""

    name: str
    subset: str
    label: int  # index of the config's classes
    seed: int
    columns: int
    rows: int
    mpp: float
    fault: str = ""

    def open(self) -> tuple[Slide, TruthFn]:
        """Render the slide as a reader would open it, with one level, JPEG-compressed by the simulated scanner.

        The second value looks up the true class of tiles. Nothing is cached, because a slide's cells take 20 MB.
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
    """`learn`: tiles for the network. Either `slides` or `cells`, by part, are given; the other is empty.

    shortcut_sample: images as they were taken, to search for shortcuts, because the blur of a scaled crop reveals the
    size of its content. ood_sample: out-of-distribution slides or tiles. show_images: whether a card may show images.
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
    """Simulate tiles and slides, each with its own cells, stain and scanner.

    Raises DataError where `codes` are not the classes of simulated slides.
    """
    from datasets.slides.simulate import fields
    from datasets.slides.simulate.cell_types import CLASSES

    _check_classes(codes, CLASSES, "simulated slides")
    rendered = fields.simulate_tiles(data.tiles, seed, side, mpp)
    tiles = LabelledTiles(rendered.images, rendered.labels.astype(np.intp), rendered.slides)
    slides = {subset: _plan_slides(data, subset, getattr(data, subset), len(codes), mpp, seed) for subset in SUBSETS}
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
        split="all for training; from other simulated slides than those below",
    )
    return TrainingData(tiles, tiles, (metadata,), slides, {}, ood_slides)


def load_herlev(data: HerlevConfig, codes: Sequence[str], side: int) -> TrainingData:
    """Load cells cropped by the annotators' masks, as in the published protocol.

    Raises DataError where `codes` are not Herlev's classes, or calibration and test use the same fold.
    """
    from datasets.pathology import colon, herlev

    _check_classes(codes, herlev.CLASSES, "Herlev")
    if data.test == data.calibrate:
        raise DataError(f"data.test and data.calibrate are both fold {data.test}; choose two different folds.")
    cells = herlev.read(data.folder)
    all_tiles = LabelledTiles(herlev.crop_cells(cells, side, data.crop), cells.label7, cells.groups)
    fold_masks = {"calibrate": cells.folds == data.calibrate, "test": cells.folds == data.test}
    rows_by_subset = {name: np.flatnonzero(rows) for name, rows in fold_masks.items()}
    rows_by_subset["learn"] = np.flatnonzero(~fold_masks["calibrate"] & ~fold_masks["test"])
    split_bytes = b"".join(rows_by_subset[subset].astype("<i8").tobytes() for subset in SUBSETS)
    metadata = DatasetInfo(
        name="herlev",
        rows=len(all_tiles),
        sha256=herlev.FILES_SHA256,
        source="Jantzen et al. 2005, from pathology/herlev",
        licence="none found; the images are not shown",
        split=f"whole groups: fold {data.test} held out, fold {data.calibrate} for calibration, the rest for training",
        split_sha256=hashlib.sha256(split_bytes).hexdigest(),
    )
    ood_images: Images | tuple[()] = ()
    remarks = [
        "The cells were cropped by the annotators' masks, in training and in the evaluation; on a slide a segmentation "
        "would have to find them. Their scale is unknown, so this model reads no slide.",
        "No licence to show the images was found, so the card shows none.",
    ]
    try:
        ood_images = _resize(colon.read(data.folder).images, side)
    except DataError as error:
        remarks.append(f"Not tested on another organ: {error}")
    cells_by_subset = {subset: all_tiles.subset(rows) for subset, rows in rows_by_subset.items() if subset != "learn"}
    shortcut_sample = LabelledTiles(cells.images, cells.label7, cells.groups)
    return TrainingData(
        all_tiles.subset(rows_by_subset["learn"]),
        shortcut_sample,
        (metadata,),
        {},
        cells_by_subset,
        ood_images,
        show_images=False,
        remarks=tuple(remarks),
    )


def tiles_digest(tiles: LabelledTiles) -> str:
    """SHA-256 of images, labels and groups."""
    state = hashlib.sha256(tiles.images.tobytes())
    state.update(tiles.labels.astype("<i8").tobytes())
    state.update("\n".join(map(str, tiles.groups.tolist())).encode())
    return state.hexdigest()


def _plan_slides(
    data: SimulatedConfig, subset: str, counts: SlideCounts, classes: int, mpp: float, seed: int
) -> list[SimulatedSlide]:
    labels = [0] * counts.negative + [label for label in range(1, classes) for _ in range(counts.positive)]
    subset_index = SUBSETS.index(subset)
    return [
        SimulatedSlide(
            f"{subset}-{number}", subset, label, _slide_seed(seed, subset_index, number), data.columns, data.rows, mpp
        )
        for number, label in enumerate(labels)
    ]


def _slide_seed(seed: int, subset: int, number: int) -> int:
    """Seed of one slide, different from those of other subsets and of the single tiles."""
    return int(np.random.SeedSequence([seed, 1 + subset, number]).generate_state(1)[0])


def _check_classes(codes: Sequence[str], expected: Sequence[str], name: str) -> None:
    if list(codes) != list(expected):
        raise DataError(
            f"The config's classes are {', '.join(codes)}; {name} have {', '.join(expected)}, in this order. "
            "Correct [[classes]]."
        )


def _resize(images: Images, side: int) -> Images:
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in images])
