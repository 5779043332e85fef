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
from datasets.slides.reader import Facts, Level, Slide
from models.card import Data
from training.config import Settings

Images = NDArray[np.uint8]  # (n, side, side, 3) RGB
# (places (n, 2), extent) -> (n,) the worst class that was painted in each tile; -1 where a nucleus lies at its side
Truth = Callable[[NDArray[np.int64], tuple[float, float]], NDArray[np.intp]]
PARTS = ("learn", "calibrate", "test")


class Numbers(Settings):
    """Slides of each part: of the negative class, and of each positive one."""

    negative: int = Field(ge=1)
    positive: int = Field(ge=1)


class Simulated(Settings):
    """Cervical slides, painted on the spot. `tiles`: single ones, of other slides, that the network learns from."""

    source: Literal["simulated"]
    tiles: int = Field(default=2_000, ge=20)
    columns: int = Field(default=4, ge=1)  # of a slide, in squares of 256 px
    rows: int = Field(default=4, ge=1)
    learn: Numbers
    calibrate: Numbers
    test: Numbers
    strange: int = Field(default=4, ge=1)  # slides of another stain, to be called unlike all that was learned from


class Herlev(Settings):
    """Single cells of a Pap smear. Two folds of its four are kept from learning: groups of cells stay whole."""

    source: Literal["herlev"]
    folder: Path | None = None  # holds pathology/…; YUHENG_DATA where it is not named
    crop: Literal["cell", "nucleus"] = "nucleus"
    test: int = Field(default=0, ge=0, le=3)
    calibrate: int = Field(default=1, ge=0, le=3)


@dataclass(frozen=True)
class Tiles:
    """labels: places among the config's classes. groups: what may not be on both sides of a split."""

    images: Images
    labels: NDArray[np.intp]  # (n,)
    groups: NDArray[Any]  # (n,)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.intp]) -> Tiles:
        return Tiles(self.images[rows], self.labels[rows], self.groups[rows])


@dataclass(frozen=True)
class Painted:
    """A simulated slide: the same pixels whenever it is opened."""

    name: str
    part: str
    label: int  # place among the config's classes
    seed: int
    columns: int
    rows: int
    mpp: float
    fault: str = ""

    def open(self) -> tuple[Slide, Truth]:
        """As a reader gives it, one level, stored as JPEG by the simulated scanner; and what was painted where.

        Neither is kept here: the cells of a slide take 20 MB.
        """
        from PIL import Image

        from datasets.slides.simulate.fields import encode
        from datasets.slides.simulate.slides import TILE, slide, worst

        painted = slide(self.seed, self.label, self.columns, self.rows, self.mpp, self.fault)
        width, height = painted.size
        pixels = np.empty((height, width, 3), np.uint8)
        for row in range(self.rows):
            for column in range(self.columns):
                stored = encode(painted.tile(column, row), painted.look.quality)
                y, x = row * TILE, column * TILE
                pixels[y : y + TILE, x : x + TILE] = np.asarray(Image.open(io.BytesIO(stored)))

        def read(x: int, y: int, size: tuple[int, int], level: int) -> Images:
            region = np.full((size[1], size[0], 3), 255, np.uint8)
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + size[0], width), min(y + size[1], height)
            if left < right and top < bottom:
                region[top - y : bottom - y, left - x : right - x] = pixels[top:bottom, left:right]
            return region

        def truth(places: NDArray[np.int64], extent: tuple[float, float]) -> NDArray[np.intp]:
            return worst(painted.cells(), places, extent, self.mpp).astype(np.intp)

        facts = Facts("simulated", (Level(width, height, 1.0),), mpp=(self.mpp, self.mpp), mpp_from="file")
        return Slide(facts, read, lambda: None), truth


@dataclass(frozen=True)
class Material:
    """`learn`: tiles for the network. Either slides, by part, or cells set aside; the other is empty.

    taken: pictures as they were taken, to look for a shortcut in: a crop's blur tells the size of what it was cut to.
    strange: slides, or tiles, unlike all that is learned from. shown: whether the images may be shown in a card.
    """

    learn: Tiles
    taken: Tiles
    data: tuple[Data, ...]
    slides: Mapping[str, Sequence[Painted]]
    cells: Mapping[str, Tiles]
    strange: Sequence[Painted] | Images = ()
    shown: bool = True
    remarks: tuple[str, ...] = ()


def simulated(data: Simulated, codes: Sequence[str], side: int, mpp: float, seed: int) -> Material:
    """Tiles and slides, each of its own cells, stain and scanner. Raises DataError for other classes than theirs."""
    from datasets.slides.simulate import fields
    from datasets.slides.simulate.cell_types import CLASSES

    _same(codes, CLASSES, "simulated slides")
    found = fields.tiles(data.tiles, seed, side, mpp)
    tiles = Tiles(found.images, found.labels.astype(np.intp), found.slides)
    slides = {part: _slides(data, part, getattr(data, part), len(codes), mpp, seed) for part in PARTS}
    strange = [
        Painted(f"strange-{at}", "strange", 0, _seed(seed, 9, at), data.columns, data.rows, mpp, "wrong_stain")
        for at in range(data.strange)
    ]
    told = Data(
        name=f"simulated cervical tiles, seed {seed}",
        rows=len(tiles),
        sha256=digest(tiles),
        source="datasets.slides.simulate.fields",
        simulated=True,
        split="all to learn from; of other simulated slides than those below",
    )
    return Material(tiles, tiles, (told,), slides, {}, strange)


def herlev(data: Herlev, codes: Sequence[str], side: int) -> Material:
    """Cells cut out by the annotators' masks, as the published protocol has it."""
    from datasets.pathology import colon, herlev

    _same(codes, herlev.CLASSES, "Herlev")
    if data.test == data.calibrate:
        raise DataError(f"data.test and data.calibrate are both fold {data.test}; two different ones are needed.")
    cells = herlev.read(data.folder)
    whole = Tiles(herlev.crops(cells, side, data.crop), cells.label7, cells.groups)
    held = {"calibrate": cells.folds == data.calibrate, "test": cells.folds == data.test}
    parts = {name: np.flatnonzero(rows) for name, rows in held.items()}
    parts["learn"] = np.flatnonzero(~held["calibrate"] & ~held["test"])
    told = Data(
        name="herlev",
        rows=len(whole),
        sha256=herlev.FILES_SHA256,
        source="Jantzen et al. 2005, by way of pathology/herlev",
        licence="none found; the images are not shown",
        split=f"groups whole: fold {data.test} held out, fold {data.calibrate} to calibrate, the rest to learn from",
        split_sha256=hashlib.sha256(b"".join(parts[name].astype("<i8").tobytes() for name in PARTS)).hexdigest(),
    )
    strange: Images | tuple[()] = ()
    remarks = [
        "The cells were cut out by the annotators' masks, in training and in judging; on a slide they must come from a "
        "segmentation. Their microns per pixel are lost, so this model reads no slide.",
        "No licence to show the images was found: the card shows none.",
    ]
    try:
        strange = _scaled(colon.read(data.folder).images, side)
    except DataError as error:
        remarks.append(f"Not tried on another organ: {error}")
    cells_of = {part: whole.take(rows) for part, rows in parts.items() if part != "learn"}
    taken = Tiles(cells.images, cells.label7, cells.groups)
    return Material(
        whole.take(parts["learn"]), taken, (told,), {}, cells_of, strange, shown=False, remarks=tuple(remarks)
    )


def digest(tiles: Tiles) -> str:
    """SHA-256 over images, labels and groups."""
    state = hashlib.sha256(tiles.images.tobytes())
    state.update(tiles.labels.astype("<i8").tobytes())
    state.update("\n".join(map(str, tiles.groups.tolist())).encode())
    return state.hexdigest()


def _slides(data: Simulated, part: str, wanted: Numbers, classes: int, mpp: float, seed: int) -> list[Painted]:
    labels = [0] * wanted.negative + [label for label in range(1, classes) for _ in range(wanted.positive)]
    at = PARTS.index(part)
    return [
        Painted(f"{part}-{number}", part, label, _seed(seed, at, number), data.columns, data.rows, mpp)
        for number, label in enumerate(labels)
    ]


def _seed(seed: int, part: int, number: int) -> int:
    """Of one slide: never that of another part's, nor of the tiles."""
    return int(np.random.SeedSequence([seed, 1 + part, number]).generate_state(1)[0])


def _same(codes: Sequence[str], known: Sequence[str], name: str) -> None:
    if list(codes) != list(known):
        raise DataError(
            f"The config's classes are {', '.join(codes)}; {name} have {', '.join(known)}, in this order. "
            "Name them so under [[classes]]."
        )


def _scaled(images: Images, side: int) -> Images:
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(image).resize((side, side))) for image in images])
