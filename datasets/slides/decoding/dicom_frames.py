"""Decode one frame into RGB of 8 bits, by its transfer syntax and photometric interpretation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.slides.decoding.pixel_types import PixelType, Samples
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.instance import DicomInstance
from datasets.slides.formats.tiff_directories import BLACK_IS_ZERO, PALETTE, RGB, WHITE_IS_ZERO

PHOTOMETRICS = {"MONOCHROME1": WHITE_IS_ZERO, "MONOCHROME2": BLACK_IS_ZERO}
# BT.601 as PS3.3, C.7.6.3.1.2 has it: R, G, B from Y, Cb - 128, Cr - 128
YBR_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)


def decode_frame(instance: DicomInstance, data: bytes) -> NDArray[np.uint8]:
    """(rows, columns, 3) uint8. Raises ValueError if the frame is of another size, and whatever a codec raises."""
    width, height = instance.tile_size
    samples = _decode(instance, data)
    if samples.ndim == 2:
        samples = samples[..., np.newaxis]
    if samples.shape != (height, width, instance.samples):
        raise ValueError(f"a frame has the shape {samples.shape}; expected {height} x {width} x {instance.samples}")
    if instance.photometric == "PALETTE COLOR":
        palette, first = read_palette(instance)
        indices = np.clip(samples.astype(np.int64) - first, 0, len(palette) - 1)
        return PixelType(PALETTE, 1, 8, palette=palette).to_rgb(indices)
    photometric = PHOTOMETRICS.get(instance.photometric, RGB if instance.samples == 3 else BLACK_IS_ZERO)
    samples = np.minimum(samples, (1 << instance.bits[1]) - 1)
    pixels = PixelType(photometric, instance.samples, instance.bits[1]).to_rgb(samples)
    return _ybr_to_rgb(pixels) if _is_ybr(instance, data) else pixels


def _decode(instance: DicomInstance, data: bytes) -> Samples:
    import imagecodecs

    syntax = instance.syntax
    if syntax in tags.JPEG:
        space = _jpeg_space(instance, data)
        return imagecodecs.jpeg8_decode(
            data, colorspace=space, outcolorspace="GRAYSCALE" if space == "GRAYSCALE" else "RGB"
        )
    if syntax in tags.JPEG_LOSSLESS:
        return imagecodecs.jpegsof3_decode(data)
    if syntax in tags.JPEG_LS:
        return imagecodecs.jpegls_decode(data)
    if syntax in tags.JPEG_2000:
        return imagecodecs.jpeg2k_decode(data)
    if syntax in tags.HTJ2K:
        return imagecodecs.htj2k_decode(data)
    return _decode_planes(instance, data)


def _decode_planes(instance: DicomInstance, data: bytes) -> Samples:
    """Of native frames and of RLE, whose planes of bytes are those of the samples, the high ones first."""
    import imagecodecs

    width, height = instance.tile_size
    kind = np.dtype("<u2" if instance.bits[0] == 16 else "u1")
    if instance.syntax == tags.RLE:
        decoded = imagecodecs.dicomrle_decode(data, kind, out=instance.frame_bytes)
        return np.frombuffer(decoded, kind).reshape(instance.samples, height, width).transpose(1, 2, 0)
    pixels = np.frombuffer(data[: instance.frame_bytes], kind)
    if int.from_bytes(_planar(instance)) and instance.samples > 1:
        return pixels.reshape(instance.samples, height, width).transpose(1, 2, 0)
    return pixels.reshape(height, width, instance.samples)


def _planar(instance: DicomInstance) -> bytes:
    value = instance.header.get(tags.PLANAR, b"")
    return value[:1] if isinstance(value, bytes) else b""


def _jpeg_space(instance: DicomInstance, data: bytes) -> str:
    """What a stream says of itself counts more than the header, which converters leave as it was; libjpeg's rules."""
    if instance.samples == 1:
        return "GRAYSCALE"
    head = data[: data.find(b"\xff\xda")]
    adobe = head.find(b"\xff\xee\x00\x0eAdobe")
    if b"JFIF\0" in head[:32]:
        return "YCBCR"
    if adobe >= 0:
        return "YCBCR" if head[adobe + 15 : adobe + 16] == b"\x01" else "RGB"
    return "RGB" if instance.photometric == "RGB" or _component_names(head) == b"RGB" else "YCBCR"


def _component_names(head: bytes) -> bytes:
    for marker in (b"\xff\xc0\x00\x11", b"\xff\xc1\x00\x11", b"\xff\xc2\x00\x11"):
        start = head.find(marker)
        if start >= 0:
            return head[start + 10 : start + 19 : 3]
    return b""


def _is_ybr(instance: DicomInstance, data: bytes) -> bool:
    """Whether the decoder has left luma and chroma: JPEG and the transforms of JPEG 2000 are undone by it."""
    if not instance.photometric.startswith("YBR_FULL") or instance.syntax in tags.JPEG:
        return False
    if instance.syntax in (*tags.JPEG_2000, *tags.HTJ2K):
        coding_style = data.find(b"\xff\x52")  # COD: length 2, style 1, progression 1, layers 2, transform 1
        return data[coding_style + 8 : coding_style + 9] == b"\0"
    return True


def _ybr_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    centred = pixels.astype(np.float32) - np.array([0, 128, 128], np.float32)
    rgb: NDArray[np.uint8] = np.clip(np.rint(centred @ YBR_TO_RGB.T), 0, 255).astype(np.uint8)
    return rgb


def read_palette(instance: DicomInstance) -> tuple[NDArray[np.uint8], int]:
    """(colours, 3), and the index of the first colour (PS3.3, C.7.6.3.1.5 and 6)."""
    channels = []
    first = 0
    for descriptor_tag, data_tag in zip(tags.PALETTE_DESCRIPTORS, tags.PALETTE_DATA, strict=True):
        descriptor, data = instance.header.get(descriptor_tag), instance.header.get(data_tag)
        if not isinstance(descriptor, bytes) or not isinstance(data, bytes) or len(descriptor) != 6:
            raise ValueError("a palette's table has no descriptor")
        count, first, bits = (int(value) for value in np.frombuffer(descriptor, "<u2"))
        count = count or 65_536
        is_wide = bits == 16 or len(data) >= 2 * count
        table = np.frombuffer(data[: count * (2 if is_wide else 1)], "<u2" if is_wide else "u1")
        if len(table) != count:
            raise ValueError(f"a palette's table has {len(table)} entries; expected {count}")
        channels.append((table >> 8 if bits == 16 else table).astype(np.uint8))
    return np.stack(channels, axis=-1), first
