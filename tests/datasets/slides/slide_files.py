"""Small slides written for a test, sound ones and hostile ones."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from datasets.slides.simulate import writers
from tests.paths import ROOT

CMU = ROOT / "datasets" / "samples" / "CMU-1-Small-Region.svs"
JPEG_MARK, SHORT, LONG, LONG8, RATIONAL, TEXT = 7, 3, 4, 16, 5, 2


def painted(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A white field with one stained ellipse in its middle."""
    y, x = np.mgrid[:height, :width]
    inside = ((x - width / 2) / (width / 4)) ** 2 + ((y - height / 2) / (height / 4)) ** 2 < 1
    grain = np.random.default_rng(seed).integers(-20, 20, (height, width, 1))
    stained = np.clip(np.array([170, 80, 150]) + grain, 0, 255)
    return np.where(inside[..., None], stained, 245).astype(np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def directory(**changes: object) -> dict[int, tuple[int, list[int] | bytes]]:
    """Tags of one tiled image, by name where a test changes them."""
    names = {"width": (256, LONG), "height": (257, LONG), "tile_width": (322, LONG), "tile_height": (323, LONG)}
    names |= {
        "compression": (259, SHORT),
        "offsets": (324, LONG8),
        "counts": (325, LONG8),
        "unit": (296, SHORT),
        "reduced": (254, LONG),
        "ndpi": (65420, LONG),
    }
    tags: dict[int, tuple[int, list[int] | bytes]] = {
        258: (SHORT, [8, 8, 8]),
        262: (SHORT, [6]),
        277: (SHORT, [3]),
        530: (SHORT, [1, 1]),
        284: (SHORT, [1]),
    }
    for name, value in changes.items():
        if name == "resolution":
            tags[282] = tags[283] = (RATIONAL, list(value))  # type: ignore[call-overload]
        elif name in ("description", "software", "xmp"):
            tags[{"description": 270, "software": 305, "xmp": 700}[name]] = (TEXT, str(value).encode() + b"\0")
        else:
            tag, kind = names[name]
            tags[tag] = (kind, value if isinstance(value, list) else [value])  # type: ignore[list-item]
    return tags


def bigtiff(images: list[dict[int, tuple[int, list[int] | bytes]]], body: bytes = b"", loop: bool = False) -> bytes:
    """A BigTIFF of these directories; `body` begins at byte 16. `loop`: the last one leads back to the first."""
    data = bytearray(b"II+\0\x08\0\0\0" + bytes(8) + body)
    link, first = 8, 0
    for tags in images:
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            width = {SHORT: "H", LONG: "I", LONG8: "Q", RATIONAL: "I", TEXT: "s"}[kind]
            raw = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{width}", *values)
            count = len(values) // 2 if kind == RATIONAL else len(values)
            if len(raw) > 8:
                offset = len(data)
                data += raw
                raw = struct.pack("<Q", offset)
            entries += struct.pack("<HHQ", tag, kind, count) + raw.ljust(8, b"\0")
        offset = len(data)
        first = first or offset
        data[link : link + 8] = struct.pack("<Q", offset)
        data += struct.pack("<Q", len(tags)) + entries + bytes(8)
        link = len(data) - 8
    if loop:
        data[link:] = struct.pack("<Q", first)
    return bytes(data)


def tiled(pixels: np.ndarray, tile: int = 128, levels: int = 2, mpp: float | None = 0.5) -> bytes:
    """A pyramid of JPEG tiles, each level half of the one before."""
    body, images = b"", []
    for _ in range(levels):
        height, width = pixels.shape[:2]
        offsets, counts = [], []
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                tile_pixels = np.pad(
                    pixels[y : y + tile, x : x + tile],
                    ((0, max(0, y + tile - height)), (0, max(0, x + tile - width)), (0, 0)),
                    mode="edge",
                )
                stored = jpeg(tile_pixels)
                offsets.append(16 + len(body))
                counts.append(len(stored))
                body += stored
        scale = {} if mpp is None else {"resolution": [10_000_000, round(1_000 * mpp * 2 ** len(images))], "unit": 3}
        images.append(
            directory(
                width=width,
                height=height,
                tile_width=tile,
                tile_height=tile,
                compression=JPEG_MARK,
                offsets=offsets,
                counts=counts,
                reduced=int(bool(images)),
                **scale,
            )
        )
        pixels = pixels[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, 3)
        pixels = pixels.mean((1, 3)).round().astype(np.uint8)
    return bigtiff(images, body)


def kfb(pixels: np.ndarray, tile: int = 128, mpp: float = 0.5, power: int = 20, levels: int = 2) -> bytes:
    """A KFB of these pixels, each level half of the one before; tiles at the edges are as small as what they show."""
    tiles, size = [], (pixels.shape[1], pixels.shape[0])
    for number in range(levels):
        height, width = pixels.shape[:2]
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                tile_pixels = pixels[y : y + tile, x : x + tile]
                tiles.append(
                    writers.KfbTile(number, x, y, tile_pixels.shape[1], tile_pixels.shape[0], jpeg(tile_pixels))
                )
        pixels = pixels[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, 3)
        pixels = pixels.mean((1, 3)).round().astype(np.uint8)
    return writers.build_kfb(tiles, size, tile, mpp, power)


def one_image(**changes):
    """A BigTIFF with one JPEG tile of 128 pixels, changed."""
    stored = jpeg(painted(128, 128))
    size = {"width": 128, "height": 128, "tile_width": 128, "tile_height": 128, "compression": 7}
    tags = {**size, "offsets": [16], "counts": [len(stored)], **changes}
    return bigtiff([directory(**tags)], stored)


def dicom(folder, name, flavour="VOLUME", series="1.2.3", size=(256, 256), tile=128, frames=None, deflated=False):
    """An instance as far as a check reads it: explicit little endian, encapsulated, one fragment a frame."""

    def element(group, number, kind, value):
        value = value + b"\0" * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, kind, len(value)) + value

    syntax = b"1.2.840.10008.1.2.1.99" if deflated else b"1.2.840.10008.1.2.4.50"
    meta = element(2, 16, b"UI", syntax)
    stored = jpeg(painted(tile, tile))
    frames = -(-size[0] // tile) * -(-size[1] // tile) if frames is None else frames
    data = bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    data += element(8, 8, b"CS", f"ORIGINAL\\PRIMARY\\{flavour}\\NONE".encode())
    data += element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.77.1.6") + element(0x20, 0xE, b"UI", series.encode())
    data += element(0x20, 0x9311, b"CS", b"TILED_FULL") + element(0x28, 2, b"US", struct.pack("<H", 3))
    data += element(0x28, 8, b"IS", str(frames).encode())
    for number, value in ((0x10, tile), (0x11, tile), (0x100, 8)):
        data += element(0x28, number, b"US", struct.pack("<H", value))
    data += element(0x48, 6, b"UL", struct.pack("<I", size[0])) + element(0x48, 7, b"UL", struct.pack("<I", size[1]))
    spacing = element(0x28, 0x30, b"DS", b"0.00051\\0.0005")
    measures = struct.pack("<HHI", 0xFFFE, 0xE000, len(spacing)) + spacing
    shared = struct.pack("<HH2sHI", 0x28, 0x9110, b"SQ", 0, len(measures)) + measures
    shared = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + shared + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    data += (
        struct.pack("<HH2sHI", 0x5200, 0x9229, b"SQ", 0, 0xFFFFFFFF) + shared + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    data += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    for _ in range(frames):
        data += struct.pack("<HHI", 0xFFFE, 0xE000, len(stored) + len(stored) % 2) + stored + bytes(len(stored) % 2)
    (folder / name).write_bytes(data + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    return folder / name
