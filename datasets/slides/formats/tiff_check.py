"""Check the images of a TIFF against the file: sizes, tables of tiles, kinds of pixels; nothing is decoded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckedSlide
from datasets.slides.formats import tiff, tiff_scale
from datasets.slides.formats import tiff_directories as tags
from datasets.slides.formats.tiff_directories import (
    BLACK_IS_ZERO,
    CMYK,
    COLOUR_CHANNELS,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    TiffDirectory,
    read_directories,
)
from datasets.slides.formats.unread import VSI, VSI_SUFFIX, unread_issue
from datasets.slides.limits import SlideLimits
from datasets.slides.scale import resolve_scale

# Formats whose tiles lie side by side, so that they are read without OpenSlide.
PLAIN_FORMATS = ("aperio", "generic-tiff", "tiff")
PHOTOMETRICS = {
    **{WHITE_IS_ZERO: "grey", BLACK_IS_ZERO: "grey", RGB: "RGB", PALETTE: "palette", 4: "a mask", CMYK: "CMYK"},
    **{YCBCR: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "a colour filter array"},
    **{32844: "LogL", 32845: "LogLuv", 34892: "linear raw"},
}
# Codecs of tiles that are read and copied; the bytes of each are followed to their end.
UNCOMPRESSED, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 7, 8, 32946, 32773
JPEG_2000 = (33003, 33004, 33005, 34712)  # Aperio's YCbCr, lossy and RGB; the registered one
READ_COMPRESSIONS = {UNCOMPRESSED, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, *JPEG_2000}
READ_CODECS = "no compression, JPEG, JPEG 2000, LZW, deflate or PackBits"
READ_CODECS_ZH = "未压缩、JPEG、JPEG 2000、LZW、deflate 或 PackBits"
COMPRESSION_NAMES = {
    **dict.fromkeys((2, 3, 4, 32771), "CCITT fax"),
    **{6: "old-style JPEG (TIFF compression 6)", 9: "JBIG", 10: "JBIG", 34661: "JBIG", 34715: "JBIG2"},
    **{32766: "NeXT", 32809: "ThunderScan", 32908: "PIXAR film", 32909: "PIXAR log", 34676: "SGI log"},
    **{33007: "ALT-JPEG", 34892: "lossy DNG JPEG", 34887: "LERC", 34925: "LZMA", 34926: "Zstandard", 34927: "WebP"},
    **{34933: "PNG", **dict.fromkeys((22610, 34934, 48124), "JPEG XR")},
    **{50000: "Zstandard", 50001: "WebP", **dict.fromkeys((50002, 52546), "JPEG XL"), 65000: "Kodak DCR"},
}
JP2_START = b"\0\0\0\x0cjP  "
SAMPLE_FORMATS = {2: "signed integers", 3: "floating point numbers", 5: "complex integers", 6: "complex numbers"}


def check_tiff(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    """Read and check all directories; None, with issues in the source, if there is no valid slide."""
    directories = read_directories(source, limits)
    if not directories:
        return None
    kind = tiff.detect_vendor(directories)
    stack = tiff.focal_stack(kind, directories)
    levels = stack.planes[0]
    for directory in dict.fromkeys((*directories, *stack.images)):
        check_image(directory, source, limits)
        if directory in stack.images:
            check_compression(directory, source)
    if source.path.suffix.lower() == VSI_SUFFIX:
        source.issues[:] = [unread_issue(VSI)]
    slide, is_flat = levels[0], kind == "tiff"
    if is_flat and slide.pixels > limits.flat_pixels:
        width, height = slide.size
        source.add_issue("no_pyramid", what=slide.name, width=width, height=height, limit=limits.flat_pixels)
    if kind in PLAIN_FORMATS and not source.issues:
        check_pixel_type(slide, source)
    sizes = tuple(dict.fromkeys(level.size for level in levels))
    scales = tiff_scale.scale_statements(kind, directories, slide, limits)
    notes = ("other_pages",) if is_flat and len(directories) > len(stack.planes) else ()
    planes = len(stack.planes)
    return CheckedSlide(source.path, kind, sizes, resolve_scale(scales), (source.path,), is_flat, notes, scales, planes)


def check_compression(image: TiffDirectory, source: ByteSource) -> None:
    """Refuse tiles of a codec that is not read, by its name."""
    compression = image.get_int(tags.COMPRESSION, UNCOMPRESSED)
    if compression not in READ_COMPRESSIONS:
        actual = COMPRESSION_NAMES.get(compression, f"TIFF compression {compression}")
        expected = {"expected": READ_CODECS, "expected_zh": READ_CODECS_ZH}
        source.add_issue("codec", what=image.name, actual=actual, **expected)
    elif compression in JPEG_2000 and not source.issues:
        offset = next((offset for offset, length in tiff.tile_ranges(image) if offset and length), 0)
        if source.read_up_to(offset, len(JP2_START)) == JP2_START:
            expected = {"expected": "JPEG 2000 codestreams", "expected_zh": "JPEG 2000 码流"}
            source.add_issue("codec", what=image.name, actual="JPEG 2000 within JP2 files", **expected)


def check_pixel_type(image: TiffDirectory, source: ByteSource) -> None:
    """Refuse pixels whose colours are not known here, or would be lost."""
    photometric, samples = image.get_int(tags.PHOTOMETRIC, BLACK_IS_ZERO), image.get_int(tags.SAMPLES, 1)
    colours = COLOUR_CHANNELS.get(photometric)
    if colours is None:
        actual = PHOTOMETRICS.get(photometric, f"colours of kind {photometric}")
        source.add_issue("packing", actual=actual, expected="grey, palette, RGB, YCbCr or CMYK")
        return
    if samples not in (colours, colours + 1) or (samples > colours and image.get_int(tags.EXTRA_SAMPLES, -1) < 0):
        actual = f"{PHOTOMETRICS[photometric]} of {samples} channels"
        source.add_issue("packing", actual=actual, expected=f"{colours}, or one more for transparency")
    sample_format = image.get_int(tags.SAMPLE_FORMAT, 1)
    bits = {int(value) for value in image.tags.get(tags.BITS, (1,))}
    if sample_format not in (1, 4):
        actual = SAMPLE_FORMATS.get(sample_format, f"numbers of format {sample_format}")
        source.add_issue("packing", actual=f"{max(bits)}-bit {actual}", expected="8 or 16 bits a channel")
    elif len(bits) != 1 or max(bits) > 16:
        actual = " and ".join(str(value) for value in sorted(bits))
        source.add_issue("packing", actual=f"{actual} bits a channel", expected="8 or 16 bits")
    elif photometric == PALETTE and len(image.tags.get(tags.COLOR_MAP, ())) != 3 << max(bits):
        actual = f"a palette of {len(image.tags.get(tags.COLOR_MAP, ())):,} values"
        source.add_issue("packing", actual=actual, expected=f"{3 << max(bits):,} values")


def check_image(directory: TiffDirectory, source: ByteSource, limits: SlideLimits) -> None:
    """Check the declared size of an image against the data stored for it."""
    width, height = directory.size
    name = directory.name
    if width < 1 or height < 1:
        source.add_issue("no_size", what=name, width=width, height=height)
        return
    if width * height > limits.pixels or max(width, height) > limits.side:
        source.add_issue("pixel_bomb", what=name, width=width, height=height, limit=limits.pixels)
    rows = min(max(directory.get_int(tags.ROWS_PER_STRIP, height), 1), height)
    tile_width, tile_height = (
        (directory.get_int(tags.TILE_WIDTH, 0), directory.get_int(tags.TILE_HEIGHT, 0))
        if directory.is_tiled
        else (width, rows)
    )
    if tile_width < 1 or tile_height < 1:
        source.add_issue("no_size", what=f"a tile of {name}", width=tile_width, height=tile_height)
        return
    if directory.is_tiled and tile_width * tile_height > limits.tile_pixels:
        source.add_issue("tile_bomb", what=name, width=tile_width, height=tile_height, limit=limits.tile_pixels)
    samples, bits = directory.get_int(tags.SAMPLES, 1), directory.get_int(tags.BITS, 1)
    if not 1 <= samples <= 64 or not 1 <= bits <= 64:
        source.add_issue("malformed", what=f"{name}'s pixel", actual=f"{samples} x {bits} bits", expected="3 x 8 bits")
        return
    planes = samples if directory.get_int(tags.PLANAR, 1) == 2 else 1
    expected_tiles = math.ceil(width / tile_width) * math.ceil(height / tile_height) * planes
    offsets = directory.tags.get(tags.TILE_OFFSETS if directory.is_tiled else tags.STRIP_OFFSETS)
    counts = directory.tags.get(tags.TILE_COUNTS if directory.is_tiled else tags.STRIP_COUNTS)
    if not isinstance(offsets, np.ndarray) or not isinstance(counts, np.ndarray):
        if not source.issues:
            source.add_issue("tile_table", what=name, actual=0, expected=expected_tiles)
        return
    if min(len(offsets), len(counts)) < expected_tiles:
        source.add_issue("tile_table", what=name, actual=min(len(offsets), len(counts)), expected=expected_tiles)
        return
    offsets, counts = offsets[:expected_tiles], counts[:expected_tiles]  # libtiff ignores further entries
    unpacked_bytes = tile_width * min(tile_height, height) * (samples // planes) * bits // 8
    _check_stored_bytes(directory, source, limits, offsets.astype(np.uint64), counts.astype(np.uint64), unpacked_bytes)


def _check_stored_bytes(
    directory: TiffDirectory,
    source: ByteSource,
    limits: SlideLimits,
    offsets: NDArray[np.uint64],
    counts: NDArray[np.uint64],
    unpacked_bytes: int,
) -> None:
    """Check stored tiles. unpacked: decoded bytes of a tile. A tile with offset or length 0 is background, not
    stored.
    """
    name = directory.name
    is_stored = (counts > 0) & (offsets > 0)
    if not is_stored.any():
        source.add_issue("no_pixels", what=name)
        return
    offsets, counts = offsets[is_stored], counts[is_stored]
    ends = [int(offsets[index]) + int(counts[index]) for index in (np.argmax(offsets), np.argmax(counts))]
    with np.errstate(over="ignore"):
        ends.append(int((offsets + counts).max()))
    if max(ends) > source.size:
        source.add_issue("truncated", what=name, actual=max(ends), end=source.size)
    if directory.is_tiled and int(counts.max()) > limits.tile_bytes:
        source.add_issue("tile_bytes", what=name, actual=int(counts.max()), limit=limits.tile_bytes)
    if directory.get_int(tags.COMPRESSION, 1) == 1:
        width, height = directory.size
        bits = directory.get_int(tags.SAMPLES, 1) * directory.get_int(tags.BITS, 1)
        expected_bytes = unpacked_bytes * len(counts) if directory.is_tiled else math.ceil(width * bits / 8) * height
        if int(counts.sum()) < expected_bytes:
            source.add_issue("size_lies", what=name, actual=int(counts.sum()), expected=expected_bytes)
    elif tags.NDPI not in directory.tags:
        distinct_bytes = int(
            counts[np.unique(offsets, return_index=True)[1]].sum()
        )  # stored data may be shared by many tiles
        ratio = unpacked_bytes * len(counts) / max(distinct_bytes, 1)
        if ratio > limits.ratio:
            source.add_issue("ratio", what=name, actual=ratio, limit=limits.ratio)
