"""Make RGB of 8 bits from pixels of any kind: grey, palette, CMYK, up to 16 bits a channel, with transparency.

pixels = PixelType(photometric=BLACK_IS_ZERO, channels=1, bits=16).fit(samples).to_rgb(pixels)      # (h, w, 3) uint8
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides.formats.tiff_directories import CMYK, COLOUR_CHANNELS, PALETTE, WHITE_IS_ZERO

PREMULTIPLIED, STRAIGHT = 1, 2  # TIFF's kinds of transparency: colours are multiplied by it, or not
USED_BITS = (8, 10, 12, 14, 16)  # of the sensors of cameras; files store them in 16

Samples = NDArray[Any]  # (height, width, channels) unsigned integers


@dataclass(frozen=True)
class PixelType:
    """bits: of a channel, as far as they are used. alpha: PREMULTIPLIED, STRAIGHT, or 0 if there is no transparency or
    it is not meant. palette: (colours, 3) uint8.
    """

    photometric: int
    channels: int
    bits: int
    alpha: int = 0
    palette: NDArray[np.uint8] | None = field(default=None, repr=False)

    def fit(self, samples: Iterable[Samples]) -> PixelType:
        """The same with the bits that `samples`, from several places of the image, use of 16, and without transparency
        if they are transparent everywhere: programs leave the channel empty, and a slide is never invisible.
        """
        colours = COLOUR_CHANNELS[self.photometric]
        maximum, max_alpha = 0, 0
        for pixels in samples:
            maximum = max(maximum, int(pixels[..., :colours].max(initial=0)))
            max_alpha = max(max_alpha, int(pixels[..., colours:].max(initial=0)))
        used_bits = next(bits for bits in USED_BITS if maximum < 1 << bits)
        bits = min(self.bits, used_bits) if self.bits > 8 and self.photometric != PALETTE else self.bits
        return replace(self, bits=bits, alpha=self.alpha if max_alpha else 0)

    @cached_property
    def _to_8_bits(self) -> NDArray[np.uint8]:
        """The 8-bit value of each stored value; values beyond the bits in use are the brightest."""
        stored = np.arange(1 << (16 if self.bits > 8 else 8))
        values = np.clip(np.rint(stored * (255 / ((1 << self.bits) - 1))), 0, 255).astype(np.uint8)
        return np.asarray(255 - values if self.photometric == WHITE_IS_ZERO else values)

    def to_rgb(self, pixels: Samples, background: tuple[int, int, int] = (255, 255, 255)) -> NDArray[np.uint8]:
        """(height, width, 3) uint8, over the background where it is transparent."""
        colours = COLOUR_CHANNELS[self.photometric]
        if self.photometric == PALETTE:
            assert self.palette is not None, "the check demands a palette"
            rgb = self.palette[np.minimum(pixels[..., 0], len(self.palette) - 1)]
        else:
            # Eight bits of colour are used as they are: the usual case.
            is_direct = self.bits == 8 and self.photometric != WHITE_IS_ZERO and pixels.dtype == np.uint8
            values = pixels[..., :colours] if is_direct else self._to_8_bits[pixels[..., :colours]]
            values = _cmyk_to_rgb(values) if self.photometric == CMYK else values
            rgb = np.repeat(values, 3, -1) if colours == 1 else values
        if not self.alpha or pixels.shape[-1] == colours:
            return np.asarray(rgb)
        stored_bits = 8 if pixels.dtype == np.uint8 else 16
        alpha = pixels[..., colours : colours + 1].astype(np.float32) / ((1 << stored_bits) - 1)
        premultiplied = rgb if self.alpha == PREMULTIPLIED else rgb * alpha
        mixed = premultiplied + np.asarray(background, np.float32) * (1 - alpha)
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _cmyk_to_rgb(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without a colour profile, as Pillow converts."""
    light = 255 - values.astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
