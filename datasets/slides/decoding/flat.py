"""Decode a PNG or JPEG as a whole; the static check has limited its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import Size
from datasets.slides.decoding.pixel_types import STRAIGHT, PixelType
from datasets.slides.formats.tiff_directories import BLACK_IS_ZERO, RGB

PNG_BIT_DEPTH = 24  # the byte of a PNG's header that states the bits of a channel
PNG_TYPES = {1: (BLACK_IS_ZERO, 0), 2: (BLACK_IS_ZERO, STRAIGHT), 3: (RGB, 0), 4: (RGB, STRAIGHT)}  # by channels


def decode_flat(path: Path, kind: str, size: Size) -> tuple[NDArray[np.uint8], bool]:
    """(height, width, 3) RGB, and whether there is a colour profile. Raises ValueError if the size is not `size`."""
    from PIL import Image

    with Image.open(path, formats=(kind.upper(),)) as image:  # no other decoder is ever tried
        if image.size != size:
            raise ValueError(f"the decoder finds {image.size} pixels")
        has_icc_profile = bool(image.info.get("icc_profile"))
        if kind == "png" and path.open("rb").read(PNG_BIT_DEPTH + 1)[PNG_BIT_DEPTH] == 16:
            return _decode_16_bits(path), has_icc_profile
        if image.mode in ("RGB", "L", "1", "CMYK", "YCbCr") and "transparency" not in image.info:
            return np.asarray(image.convert("RGB")), has_icc_profile
        pixels = np.asarray(image.convert("RGBA"))
    return PixelType(RGB, 4, 8, STRAIGHT).fit([pixels]).to_rgb(pixels), has_icc_profile


def _decode_16_bits(path: Path) -> NDArray[np.uint8]:
    """Pillow would cut grey values off at 255, and colours to their upper eight bits, of which some may be unused."""
    import imagecodecs

    pixels = imagecodecs.png_decode(path.read_bytes())
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    photometric, alpha = PNG_TYPES[pixels.shape[-1]]
    return PixelType(photometric, pixels.shape[-1], 16, alpha).fit([pixels]).to_rgb(pixels)
