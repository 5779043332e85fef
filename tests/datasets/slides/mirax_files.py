"""SIMULATED MRXS slides, written by hand with every part that the format has."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from tests.datasets.slides.slide_files import jpeg, painted

SIDE = 128
SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
LABEL = "LABEL PICTURE"


def level_images(columns: int, rows: int) -> list[list[tuple[int, bytes]]]:
    """(image index, JPEG) of two levels; an image of the second stands for two by two of the first."""
    first = [
        (row * columns + column, jpeg(painted(SIDE, SIDE, row * columns + column)))
        for row in range(rows)
        for column in range(columns)
    ]
    second = [
        (row * columns + column, jpeg(painted(SIDE, SIDE, 100 + row * columns + column)))
        for row in range(0, rows, 2)
        for column in range(0, columns, 2)
    ]
    return [first, second]


def write_mirax(
    folder: Path,
    *,
    columns: int = 4,
    rows: int = 2,
    positions: str = "plain",
    replaced: dict[str, str] | None = None,
    extra_lines: str = "",
    records: tuple[bytes, ...] = (),
    tile_suffix: bytes = b"",
    gap: bytes = b"",
    tail: bytes = b"",
) -> Path:
    """Write slide.mrxs and its folder. positions: plain, deflated or none. replaced: texts of Slidedat.ini.

    records: of the layer of scan data beside label and thumbnail. gap: between two tiles. tail: of every file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "slide"
    data.mkdir()
    content = bytearray(b"01.02" + SLIDE_ID.encode() + b"000" + bytes(256))
    index = bytearray(b"01.02" + SLIDE_ID.encode() + bytes(8))

    def store(value: bytes) -> tuple[int, int]:
        content.extend(value)
        return len(content) - len(value), len(value)

    def append(value: bytes) -> int:
        index.extend(value)
        return len(index) - len(value)

    level_heads = []
    for images in level_images(columns, rows):
        entries = b""
        for number, image in images:
            entries += struct.pack("<iiii", number, *store(image[:2] + tile_suffix + image[2:]), 0)
            content.extend(gap)
        half = len(images) // 2 * 16
        # OpenSlide reads the second page where the first ends, whatever the pointer says
        second_page = len(index) + 8 + half
        first_page = append(struct.pack("<ii", half // 16, second_page) + entries[:half])
        append(struct.pack("<ii", (len(entries) - half) // 16, 0) + entries[half:])
        level_heads.append(append(struct.pack("<ii", 0, first_page)))
    cameras = b"".join(
        struct.pack("<Bii", 1, column * SIDE, row * SIDE) for row in range(rows) for column in range(columns)
    )
    layers: list[tuple[str, list[tuple[str, bytes]]]] = [
        (
            "Scan data layer",
            [("ScanDataLayer_SlideThumbnail", jpeg(painted(64, 32))), *(("Xml", each) for each in records)],
        )
    ]
    layers[0][1].append(("ScanDataLayer_SlideBarcode", jpeg(painted(32, 32, 7)) + LABEL.encode()))
    if positions == "plain":
        layers.append(("VIMSLIDE_POSITION_BUFFER", [("default", cameras)]))
    elif positions == "deflated":
        layers.append(("StitchingIntensityLayer", [("StitchingIntensityLevel", zlib.compress(cameras))]))
    record_heads, lines, sections = [], [], ""
    for number, (name, values) in enumerate(layers):
        lines += [f"NONHIER_{number}_NAME = {name}", f"NONHIER_{number}_COUNT = {len(values)}"]
        lines += [f"NONHIER_{number}_SECTION = NONHIERLAYER_{number}_SECTION"]
        for value_number, (value_name, value) in enumerate(values):
            page = append(struct.pack("<iiiiiii", 1, 0, 0, 0, *store(value), 0))
            record_heads.append(append(struct.pack("<ii", 0, page)))
            section = f"NONHIERLAYER_{number}_LEVEL_{value_number}_SECTION"
            lines += [f"NONHIER_{number}_VAL_{value_number} = {value_name}"]
            sections += (
                f"[{section}]\nTHUMBNAIL_IMAGE_TYPE = JPEG\nBARCODE_IMAGE_TYPE = JPEG\nBARCODE_VALUE = NAME9\n\n"
            )
            lines += [f"NONHIER_{number}_VAL_{value_number}_SECTION = {section}"]
    level_table = append(struct.pack(f"<{len(level_heads)}i", *level_heads))
    record_table = append(struct.pack(f"<{len(record_heads)}i", *record_heads))
    struct.pack_into("<ii", index, 37, level_table, record_table)
    ini = slidedat(columns, rows, lines, len(layers)) + sections + extra_lines
    for old, new in (replaced or {}).items():
        assert old in ini
        ini = ini.replace(old, new)
    (data / "Slidedat.ini").write_bytes(ini.encode("utf-8-sig") + tail)
    (data / "Index.dat").write_bytes(bytes(index) + tail)
    (data / "Data0000.dat").write_bytes(bytes(content) + tail)
    (folder / "slide.mrxs").write_bytes(jpeg(np.full((16, 16, 3), 9, np.uint8)) + tail)
    return folder / "slide.mrxs"


def slidedat(columns: int, rows: int, record_lines: list[str], layers: int) -> str:
    """Slidedat.ini with every section and key that scanners are known to write, as far as they may name people."""
    text = f"""[GENERAL]
SLIDE_VERSION = 01.02
SLIDE_ID = {SLIDE_ID}
SLIDE_NAME = NAME1
SLIDE_BARCODE = NAME2
PROJECT_NAME = SIMULATED
SLIDE_TYPE = SLIDE_TYPE_BRIGHTFIELD
SLIDE_CREATIONDATETIME = 01/02/2026 03:04:05
SLIDE_UTC_CREATIONDATETIME = 01/02/2026 03:04:05
CURRENT_SLIDE_VERSION = 1.9
IMAGENUMBER_X = {columns}
IMAGENUMBER_Y = {rows}
OBJECTIVE_NAME = NAME3
OBJECTIVE_MAGNIFICATION = 20
CAMERA_TYPE = NAME4
SCANNER_HARDWARE_ID = NAME5
SLIDE_QUALITY = NAME6
CameraImageDivisionsPerSide = 1

[HIERARCHICAL]
HIER_COUNT = 1
NONHIER_COUNT = {layers}
INDEXFILE = Index.dat
HIER_0_NAME = Slide zoom level
HIER_0_COUNT = 2
HIER_0_SECTION = LAYER_0_SECTION
HIER_0_VAL_0 = NAME7
HIER_0_VAL_0_SECTION = LAYER_0_LEVEL_0_SECTION
HIER_0_VAL_1 = ZoomLevel_1
HIER_0_VAL_1_SECTION = LAYER_0_LEVEL_1_SECTION
"""
    text += "\n".join(record_lines) + "\n\n[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n\n"
    for level in range(2):
        text += f"""[LAYER_0_LEVEL_{level}_SECTION]
OVERLAP_X = 0
OVERLAP_Y = 0
MICROMETER_PER_PIXEL_X = {0.25 * 2**level}
MICROMETER_PER_PIXEL_Y = {0.25 * 2**level}
IMAGE_FORMAT = JPEG
IMAGE_FILL_COLOR_BGR = 16777215
DIGITIZER_WIDTH = {SIDE}
DIGITIZER_HEIGHT = {SIDE}
IMAGE_CONCAT_FACTOR = {level}
IMAGE_COMMENT = NAME8

"""
    return text
