"""Read slides of every format: levels, scale and pixels, never a label, macro or thumbnail image.

with open_slide("slide.svs") as slide:                    # checked first; SlideError with every reason
    slide.metadata.levels, slide.metadata.mpp             # mpp: (x, y) microns per pixel, or None: never guessed
    tile = slide.read(1_024, 2_048, (256, 256), level=1)  # (256, 256, 3) uint8; position in pixels of level 0

Slides are decoded in this process; use sandbox.open_slide for slides that others send.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import CheckedSlide, Size
from datasets.slides.decoding.metadata import WHITE, Level, SlideMetadata
from datasets.slides.errors import SlideError, describe_error, slide_issue
from datasets.slides.formats.tiff_check import PLAIN_FORMATS
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from datasets.slides.scale import ScaleStatement, parse_decimal, plausible_scale, resolve_scale, state_scale
from datasets.slides.static_check import check_slide

if TYPE_CHECKING:
    from PIL.Image import Image

    from datasets.slides.decoding.dicom import DicomImage
    from datasets.slides.decoding.tiff import TiffImage

Pixels = NDArray[np.uint8]  # (height, width, 3) RGB
# formats whose size the static check knows; the others crop or join their images
EXACT_SIZE_FORMATS = ("kfb",)


class PlaneError(ValueError):
    """The slide has no such focal plane. planes: how many it has."""

    def __init__(self, plane: int, planes: int):
        self.planes = planes
        super().__init__(f"plane is {plane}; it must be from 0 to {planes - 1}")


class Slide:
    """Metadata and a function that reads pixels, from this process or from a sandbox."""

    def __init__(
        self,
        metadata: SlideMetadata,
        read: Callable[[int, int, Size, int], Pixels],
        close: Callable[[], None],
        limits: SlideLimits = SLIDE_LIMITS,
        read_plane: Callable[[int, int, Size, int, int], Pixels] | None = None,
    ):
        self.metadata = metadata
        self._read, self._close, self._limits, self._read_plane = read, close, limits, read_plane
        self._plane: int | None = None

    def at_plane(self, plane: int | None) -> Slide:
        """The same open slide, read in this focal plane unless a call names another. Raises PlaneError."""
        if plane is not None and not 0 <= plane < self.metadata.planes:
            raise PlaneError(plane, self.metadata.planes)
        slide = Slide(self.metadata, self._read, self._close, self._limits, self._read_plane)
        slide._plane = plane
        return slide

    def read(self, x: int, y: int, size: Size, level: int = 0, plane: int | None = None) -> Pixels:
        """Read `size` pixels of `level` from (x, y) in level-0 pixels: (height, width, 3) uint8.

        plane: a focal plane; None is that of `at_plane`, or else the one in which each tile is sharpest.
        Pixels outside the slide are background. Raises SlideError if the region cannot be decoded, ValueError for
        arguments out of range.
        """
        width, height = size
        if not 0 <= level < len(self.metadata.levels):
            raise ValueError(f"level is {level}; it must be from 0 to {len(self.metadata.levels) - 1}")
        if width < 1 or height < 1 or width * height > self._limits.tile_pixels:
            limit = self._limits.tile_pixels
            raise ValueError(f"the region is {width} x {height}; read 1 to {limit:,} pixels at a time")
        if max(abs(x), abs(y)) > 2 * self._limits.side:
            raise ValueError(f"the position is ({x}, {y}); it must be within {2 * self._limits.side:,} pixels")
        plane = self._plane if plane is None else plane
        if plane is not None and not 0 <= plane < self.metadata.planes:
            raise PlaneError(plane, self.metadata.planes)
        if plane is None or self._read_plane is None:
            return self._read(x, y, size, level)
        return self._read_plane(x, y, size, level, plane)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_scaled(slide: Slide, x: float, y: float, extent: tuple[float, float], size: Size) -> Pixels:
    """Read the region at (x, y) of `extent` level-0 pixels, resampled to `size`.

    The coarsest level that is fine enough is used, with a box average if the region shrinks to half or less, otherwise
    bicubic. Neither uses pixels outside the region.
    """
    region = LevelRegion.locate(slide.metadata, x, y, extent, size)
    left, top, right, bottom = region.box
    downsample = slide.metadata.levels[region.level].downsample
    origin = round(left * downsample), round(top * downsample)
    return region.resample(slide.read(*origin, (right - left, bottom - top), region.level))


class LevelRegion(NamedTuple):
    """A region of a level. box: left, top, right, bottom in whole pixels of `level`. exact_box: the same unrounded."""

    level: int
    box: tuple[int, int, int, int]
    exact_box: tuple[float, float, float, float]
    size: Size

    @classmethod
    def locate(
        cls, metadata: SlideMetadata, x: float, y: float, extent: tuple[float, float], size: Size
    ) -> LevelRegion:
        level = metadata.level_for(min(extent[0] / size[0], extent[1] / size[1]))
        left, top, width, height = (value / metadata.levels[level].downsample for value in (x, y, *extent))
        start = math.floor(left + 1e-6), math.floor(top + 1e-6)
        end = math.ceil(left + width - 1e-6), math.ceil(top + height - 1e-6)
        return cls(level, (*start, *end), (left, top, left + width, top + height), size)

    def resample(self, pixels: Pixels) -> Pixels:
        """The pixels of `box` resampled to `size`."""
        from PIL import Image

        x0, y0, x1, y1 = self.box
        left, top, right, bottom = self.exact_box
        if (x1 - x0, y1 - y0) == self.size:
            return pixels
        box = (max(left - x0, 0.0), max(top - y0, 0.0), min(right - x0, x1 - x0), min(bottom - y0, y1 - y0))
        shrinks = min((right - left) / self.size[0], (bottom - top) / self.size[1]) >= 2
        resampling = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(pixels).resize(self.size, resampling, box))


def open_slide(
    path: str | Path, mpp: float | tuple[float, float] | None = None, limits: SlideLimits = SLIDE_LIMITS
) -> Slide:
    """Check a slide and open it. mpp: the scale given by an operator, which overrides the file's. Raises SlideError."""
    operator_mpp = parse_operator_mpp(Path(path).name, mpp, limits)
    checked = check_slide(path, limits)
    try:
        slide = _opener(checked)(checked, limits)
    except SlideError:
        raise
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise _undecodable_error(checked, error) from error
    stated = slide.metadata.stated
    mpp_source = "operator" if operator_mpp else "file" if stated else ""
    slide.metadata = replace(slide.metadata, mpp=operator_mpp or stated, mpp_from=mpp_source, notes=checked.notes)
    return slide


def parse_operator_mpp(
    name: str, mpp: float | tuple[float, float] | None, limits: SlideLimits
) -> tuple[float, float] | None:
    if mpp is None:
        return None
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    scale = plausible_scale(x, y, limits)
    if scale is None:
        format_values = {"actual": f"{x:g} x {y:g}", "low": limits.finest_mpp, "high": limits.coarsest_mpp}
        raise SlideError(name, [slide_issue("bad_mpp", **format_values)])
    return scale


def _undecodable_error(checked: CheckedSlide, error: BaseException) -> SlideError:
    return SlideError(checked.path.name, [slide_issue("undecodable", actual=describe_error(error, checked.files))])


def _opener(checked: CheckedSlide) -> Callable[[CheckedSlide, SlideLimits], Slide]:
    if checked.format in ("png", "jpeg"):
        return _open_flat
    if checked.format == "dicom":
        return _open_dicom
    is_stack = checked.format == "ndpi" and checked.planes > 1  # of which OpenSlide reads the plane of best focus
    return _open_tiff if checked.format in PLAIN_FORMATS or is_stack else _open_pyramid


def _open_pyramid(checked: CheckedSlide, limits: SlideLimits) -> Slide:
    if checked.format == "kfb":
        import kfbslide

        slide, folder = kfbslide.OpenSlide(str(checked.path)), None
    else:
        import openslide

        path, folder = _isolated_path(checked)
        slide = openslide.OpenSlide(path)

    def close() -> None:
        slide.close()
        if folder is not None:
            folder.cleanup()

    properties = slide.properties
    background = _parse_background(properties.get("openslide.background-color", ""))

    def read(x: int, y: int, size: Size, level: int) -> Pixels:
        try:
            return _blend_background(slide.read_region((x, y), level, size), background)
        except Exception as error:  # see open_slide
            raise _undecodable_error(checked, error) from error

    levels = tuple(
        Level(int(width), int(height), float(downsample))
        for (width, height), downsample in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
    )
    if checked.format in EXACT_SIZE_FORMATS and (levels[0].width, levels[0].height) != checked.levels[0]:
        close()
        raise _undecodable_error(
            checked, ValueError(f"the decoder finds {levels[0].width} x {levels[0].height} pixels")
        )
    scales = checked.scales or _openslide_scales(checked, properties, limits)
    icc = any(name.startswith("openslide.icc-size") for name in properties)
    metadata = SlideMetadata(
        checked.format, levels, stated=resolve_scale(scales), scales=scales, background=background, icc=icc
    )
    return Slide(metadata, read, close, limits)


def _openslide_scales(
    checked: CheckedSlide, properties: Mapping[str, str], limits: SlideLimits
) -> tuple[ScaleStatement, ...]:
    """What OpenSlide finds where our own check finds nothing."""
    x, y = (parse_decimal(properties.get(f"openslide.mpp-{axis}", "")) for axis in "xy")
    return tuple(state_scale(f"{checked.format} properties", x, y, limits))


def _open_tiff(checked: CheckedSlide, limits: SlideLimits) -> Slide:
    """SVS and other TIFF of plain tiles, in which OpenSlide overlooks levels and shows some colours wrong. It finds the
    same pixels otherwise, at a third of the speed.
    """
    from datasets.slides.decoding.tiff import TiffImage

    image = TiffImage(checked.path, checked.format, limits)
    levels = tuple(Level(*level.size, level.downsample) for level in image.levels)
    return _stack_slide(checked, image, levels, limits)


def _open_dicom(checked: CheckedSlide, limits: SlideLimits) -> Slide:
    """DICOM with all its codecs, colours, concatenations and optical paths, of which OpenSlide reads some."""
    from datasets.slides.decoding.dicom import DicomImage

    image = DicomImage(checked, limits)
    levels = tuple(
        Level(*level.size, downsample) for level, downsample in zip(image.levels, image.downsamples, strict=True)
    )
    return _stack_slide(checked, image, levels, limits)


def _stack_slide(
    checked: CheckedSlide, image: TiffImage | DicomImage, levels: tuple[Level, ...], limits: SlideLimits
) -> Slide:
    """The slide of an image that may have focal planes."""

    def read(x: int, y: int, size: Size, level: int, plane: int | None = None) -> Pixels:
        try:
            return image.read(x, y, size, level, plane)
        except Exception as error:  # see open_slide
            raise _undecodable_error(checked, error) from error

    metadata = SlideMetadata(
        checked.format,
        levels,
        stated=checked.mpp,
        scales=checked.scales,
        icc=image.has_icc_profile,
        planes=image.planes,
        plane_spacing=image.plane_spacing,
    )
    return Slide(metadata, read, image.close, limits, read)


def _isolated_path(checked: CheckedSlide) -> tuple[str, tempfile.TemporaryDirectory[str] | None]:
    """A folder with links to the checked files only, for formats that read other files of their folder."""
    if checked.format != "mirax":
        return str(checked.path), None
    folder = tempfile.TemporaryDirectory(prefix="slide-")
    directory = Path(folder.name)
    (directory / "slide").mkdir()
    os.symlink(checked.path, directory / "slide.mrxs")
    for path in checked.files[1:]:
        os.symlink(path, directory / "slide" / path.name)
    return str(directory / "slide.mrxs"), folder


def _parse_background(value: str) -> tuple[int, int, int]:
    """A colour of six hexadecimal digits, as OpenSlide has it; white if there is none."""
    try:
        red, green, blue = bytes.fromhex(value)
    except ValueError:
        return WHITE
    return red, green, blue


def _blend_background(image: Image, background: tuple[int, int, int]) -> Pixels:
    """RGB of an RGBA image over the background, where nothing was scanned."""
    if image.getchannel("A").getextrema() == (255, 255):
        return np.asarray(image.convert("RGB"))
    pixels: Pixels = np.asarray(image)
    share = pixels[..., 3:].astype(np.float32) / 255
    mixed = pixels[..., :3] * share + np.asarray(background, np.float32) * (1 - share)
    return np.rint(mixed).astype(np.uint8)


def _open_flat(checked: CheckedSlide, limits: SlideLimits) -> Slide:
    from datasets.slides.decoding.flat import decode_flat

    pixels, icc = decode_flat(checked.path, checked.format, checked.levels[0])
    height, width = pixels.shape[:2]

    def read(x: int, y: int, size: Size, level: int) -> Pixels:
        region = np.full((size[1], size[0], 3), 255, np.uint8)
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + size[0], width), min(y + size[1], height)
        if left < right and top < bottom:
            region[top - y : bottom - y, left - x : right - x] = pixels[top:bottom, left:right]
        return region

    metadata = SlideMetadata(
        checked.format, (Level(width, height, 1.0),), stated=checked.mpp, scales=checked.scales, icc=icc
    )
    return Slide(metadata, read, lambda: None, limits)
