"""One reader for every format: levels, scale and pixels, and never a label, macro or thumbnail.

with open_slide("slide.svs") as slide:                    # checked first; SlideRefused with every reason
    slide.facts.levels, slide.facts.mpp                   # mpp: (x, y) microns per pixel, or None: never guessed
    tile = slide.read(1_024, 2_048, (256, 256), level=1)  # (256, 256, 3) uint8; the place in pixels of level 0

It decodes in this process; `sandbox.open_slide` answers the same from a process of its own, for what others send.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import Found, Size
from datasets.slides.errors import SlideRefused, fault
from datasets.slides.formats.tiff import plausible
from datasets.slides.limits import LIMITS, Limits
from datasets.slides.static_check import check

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]  # (height, width, 3) RGB
WHITE = (255, 255, 255)
EXACT = ("aperio", "generic-tiff", "dicom", "kfb")  # whose size the check knows; the others crop or join their images
PILLOW = {"png": ("PNG",), "jpeg": ("JPEG",)}  # and TIFF for the rest; no other decoder is ever tried


@dataclass(frozen=True, slots=True)
class Level:
    width: int
    height: int
    downsample: float  # level-0 pixels per pixel of this level


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a slide.

    mpp:      microns per pixel of level 0 (x, y), or None.
    mpp_from: "file", "operator" where a person gave it, or "" where it is not known.
    stated:   what the file says, whoever is believed.
    icc:      the file brings a colour profile, which is not applied.
    """

    format: str
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None = None
    mpp_from: str = ""
    stated: tuple[float, float] | None = None
    background: tuple[int, int, int] = WHITE
    icc: bool = False
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        return self.levels[0].width, self.levels[0].height

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is no coarser than `downsample`, with half a percent for pyramids that round."""
        fits = [at for at, level in enumerate(self.levels) if level.downsample <= downsample * 1.005]
        return fits[-1] if fits else 0


class Slide:
    """Facts, and a way to read; where the pixels come from is not its concern."""

    def __init__(
        self,
        facts: Facts,
        read: Callable[[int, int, Size, int], Pixels],
        close: Callable[[], None],
        limits: Limits = LIMITS,
    ):
        self.facts = facts
        self._read, self._close, self._limits = read, close, limits

    def read(self, x: int, y: int, size: Size, level: int = 0) -> Pixels:
        """(height, width, 3) uint8 of `size` at `level`, from (x, y) of level 0; what lies outside is background.

        Raises SlideRefused where it cannot be decoded, ValueError where it cannot be asked so.
        """
        width, height = size
        if not 0 <= level < len(self.facts.levels):
            raise ValueError(f"level {level} was asked for; the slide has levels 0 to {len(self.facts.levels) - 1}")
        if width < 1 or height < 1 or width * height > self._limits.tile_pixels:
            most = self._limits.tile_pixels
            raise ValueError(f"a region of {width} x {height} was asked for; read 1 to {most:,} pixels at a time")
        if max(abs(x), abs(y)) > 2 * self._limits.side:
            raise ValueError(f"the place ({x}, {y}) was asked for; it must be within {2 * self._limits.side:,} pixels")
        return self._read(x, y, size, level)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_scaled(slide: Slide, x: float, y: float, extent: tuple[float, float], size: Size) -> Pixels:
    """The region from (x, y) of `extent` level-0 pixels, resampled to `size`.

    It comes from the coarsest level that is fine enough: a box average where it shrinks to half or less, else bicubic.
    Neither looks beyond the region.
    """
    part = Part.of(slide.facts, x, y, extent, size)
    left, top, right, bottom = part.box
    downsample = slide.facts.levels[part.level].downsample
    place = round(left * downsample), round(top * downsample)
    return part.scaled(slide.read(*place, (right - left, bottom - top), part.level))


class Part(NamedTuple):
    """A region as it is read: `box` left, top, right, bottom in whole pixels of `level`, `exact` the same unrounded."""

    level: int
    box: tuple[int, int, int, int]
    exact: tuple[float, float, float, float]
    size: Size

    @classmethod
    def of(cls, facts: Facts, x: float, y: float, extent: tuple[float, float], size: Size) -> Part:
        level = facts.level_for(min(extent[0] / size[0], extent[1] / size[1]))
        left, top, width, height = (value / facts.levels[level].downsample for value in (x, y, *extent))
        first = math.floor(left + 1e-6), math.floor(top + 1e-6)
        last = math.ceil(left + width - 1e-6), math.ceil(top + height - 1e-6)
        return cls(level, (*first, *last), (left, top, left + width, top + height), size)

    def scaled(self, pixels: Pixels) -> Pixels:
        """The pixels of `box` resampled to `size`."""
        from PIL import Image

        x0, y0, x1, y1 = self.box
        left, top, right, bottom = self.exact
        if (x1 - x0, y1 - y0) == self.size:
            return pixels
        box = (max(left - x0, 0.0), max(top - y0, 0.0), min(right - x0, x1 - x0), min(bottom - y0, y1 - y0))
        shrinks = min((right - left) / self.size[0], (bottom - top) / self.size[1]) >= 2
        how = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(pixels).resize(self.size, how, box))


def open_slide(path: str | Path, mpp: float | tuple[float, float] | None = None, limits: Limits = LIMITS) -> Slide:
    """Checks, then opens. `mpp`: what an operator says the scale is; it goes before what the file says."""
    given = given_scale(Path(path).name, mpp, limits)
    found = check(path, limits)
    try:
        slide = _open_flat(found, limits) if found.flat else _open_pyramid(found, limits)
    except SlideRefused:
        raise
    except Exception as error:  # a decoder at a hostile file raises whatever it likes
        raise _undecodable(found, error) from error
    stated = slide.facts.stated
    source = "operator" if given else "file" if stated else ""
    slide.facts = replace(slide.facts, mpp=given or stated, mpp_from=source, notes=found.notes)
    return slide


def given_scale(name: str, mpp: float | tuple[float, float] | None, limits: Limits) -> tuple[float, float] | None:
    if mpp is None:
        return None
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    scale = plausible(x, y, limits)
    if scale is None:
        values = {"found": f"{x:g} x {y:g}", "low": limits.finest_mpp, "high": limits.coarsest_mpp}
        raise SlideRefused(name, [fault("bad_mpp", **values)])
    return scale


def _undecodable(found: Found, error: BaseException) -> SlideRefused:
    reason = " ".join(str(error).split()).replace(f"{found.path.parent}/", "") or type(error).__name__
    return SlideRefused(found.path.name, [fault("undecodable", found=reason[:200])])


def _open_pyramid(found: Found, limits: Limits) -> Slide:
    if found.format == "kfb":
        import kfbslide

        slide, folder = kfbslide.OpenSlide(str(found.path)), None
    else:
        import openslide

        path, folder = _alone(found)
        slide = openslide.OpenSlide(path)
    properties = slide.properties
    background = _background(properties.get("openslide.background-color", ""))

    def read(x: int, y: int, size: Size, level: int) -> Pixels:
        try:
            return _on_background(slide.read_region((x, y), level, size), background)
        except Exception as error:  # as above
            raise _undecodable(found, error) from error

    def close() -> None:
        slide.close()
        if folder is not None:
            folder.cleanup()

    try:
        x, y = (float(properties.get(f"openslide.mpp-{axis}", "")) for axis in "xy")
    except ValueError:
        x = y = 0.0
    levels = tuple(
        Level(int(width), int(height), float(downsample))
        for (width, height), downsample in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
    )
    if found.format in EXACT and (levels[0].width, levels[0].height) != found.levels[0]:
        close()
        raise _undecodable(found, ValueError(f"it is {levels[0].width} x {levels[0].height} pixels to the decoder"))
    icc = any(name.startswith("openslide.icc-size") for name in properties)
    facts = Facts(found.format, levels, stated=plausible(x, y, limits), background=background, icc=icc)
    return Slide(facts, read, close, limits)


def _alone(found: Found) -> tuple[str, tempfile.TemporaryDirectory[str] | None]:
    """A folder with links to the checked files and nothing else, where a format would read what stands beside it."""
    if found.format not in ("dicom", "mirax"):
        return str(found.path), None
    folder = tempfile.TemporaryDirectory(prefix="slide-")
    place = Path(folder.name)
    if found.format == "dicom":
        for at, path in enumerate(found.files):
            os.symlink(path, place / f"{at}.dcm")
        return str(place / "0.dcm"), folder
    (place / "slide").mkdir()
    os.symlink(found.path, place / "slide.mrxs")
    for path in found.files[1:]:
        os.symlink(path, place / "slide" / path.name)
    return str(place / "slide.mrxs"), folder


def _background(value: str) -> tuple[int, int, int]:
    """Six hexadecimal digits, as OpenSlide gives them; white where there are none."""
    try:
        red, green, blue = bytes.fromhex(value)
    except ValueError:
        return WHITE
    return red, green, blue


def _on_background(image: Image, background: tuple[int, int, int]) -> Pixels:
    """RGB of an RGBA picture; where nothing was scanned there is background."""
    if image.getchannel("A").getextrema() == (255, 255):
        return np.asarray(image.convert("RGB"))
    pixels: Pixels = np.asarray(image)
    share = pixels[..., 3:].astype(np.float32) / 255
    mixed = pixels[..., :3] * share + np.asarray(background, np.float32) * (1 - share)
    return np.rint(mixed).astype(np.uint8)


def _open_flat(found: Found, limits: Limits) -> Slide:
    """Decodes the first image of the file as a whole; the check has bounded its size."""
    from PIL import Image

    with Image.open(found.path, formats=PILLOW.get(found.format, ("TIFF",))) as image:
        if (image.width, image.height) != found.levels[0]:
            raise SlideRefused(found.path.name, [fault("undecodable", found=f"it is {image.size} pixels inside")])
        icc = bool(image.info.get("icc_profile"))
        opaque = image.mode in ("RGB", "L", "1", "CMYK", "YCbCr") and "transparency" not in image.info
        pixels = np.asarray(image.convert("RGB")) if opaque else _on_background(image.convert("RGBA"), WHITE)
    height, width = pixels.shape[:2]

    def read(x: int, y: int, size: Size, level: int) -> Pixels:
        region = np.full((size[1], size[0], 3), 255, np.uint8)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + size[0], width), min(y + size[1], height)
        if left < right and top < bottom:
            region[top - y : bottom - y, left - x : right - x] = pixels[top:bottom, left:right]
        return region

    facts = Facts(found.format, (Level(width, height, 1.0),), stated=found.mpp, icc=icc)
    return Slide(facts, read, lambda: None, limits)
