"""Write an MRXS slide anew: tiles and camera positions byte by byte, numbers of Slidedat.ini from a closed list.

The .mrxs file, which shows the label, becomes a blank picture; OpenSlide only needs it to be there.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from datasets.slides.byte_source import CheckAbortedError, CheckedSlide, open_source
from datasets.slides.deidentification.codestream import clean_jpeg
from datasets.slides.deidentification.container import Text, TileRange, copy_name
from datasets.slides.deidentification.flat import clean_png_stream, read_from
from datasets.slides.deidentification.pseudonyms import keyed_hex
from datasets.slides.errors import slide_issue
from datasets.slides.formats.mrxs import INI_NAME, data_folder, last_value
from datasets.slides.formats.mrxs_index import (
    INDEX_VERSION,
    POSITION_LAYERS,
    ZOOM_LEVELS,
    Entries,
    MiraxLayout,
    Record,
    read_layout,
    tile_records,
)
from datasets.slides.limits import SlideLimits

Positions = tuple[str, Record]

INDEX_NAME = "Index.dat"
POSITION_BYTES = 9  # a flag, x, y
HEADER_BYTES = 5 + 32 + 3 + 256  # of a data file
MAX_TEXT_RECORD = 1 << 20
MAX_NUMBER = 24  # characters
_NUMBER = re.compile(r"[-+]?\d{1,9}(?:\.\d{1,20})?(?:[eE][-+]?\d{1,2})?", re.ASCII)

# key -> values that are retained beside numbers
GENERAL_KEYS: dict[str, set[str]] = {
    **dict.fromkeys(("SLIDE_VERSION", "CURRENT_SLIDE_VERSION", "IMAGENUMBER_X", "IMAGENUMBER_Y"), set()),
    **dict.fromkeys(("OBJECTIVE_MAGNIFICATION", "CameraImageDivisionsPerSide"), set()),
    "SLIDE_TYPE": {"SLIDE_TYPE_BRIGHTFIELD", "SLIDE_TYPE_FLUORESCENCE"},
    "PROJECT_NAME": {"SIMULATED"},  # a simulated slide keeps saying so
}
LEVEL_KEYS: dict[str, set[str]] = {
    **dict.fromkeys(("OVERLAP_X", "OVERLAP_Y", "MICROMETER_PER_PIXEL_X", "MICROMETER_PER_PIXEL_Y"), set()),
    **dict.fromkeys(("IMAGE_FILL_COLOR_BGR", "DIGITIZER_WIDTH", "DIGITIZER_HEIGHT", "IMAGE_CONCAT_FACTOR"), set()),
    "IMAGE_FORMAT": {"JPEG", "PNG", "BMP24"},
}
_RETAINED_TEXTS = [text for keys in (GENERAL_KEYS, LEVEL_KEYS) for key, words in keys.items() for text in (key, *words)]
_OTHER_WORDS = frozenset(
    [
        *(
            "general",
            "hierarchical",
            "datafile",
            "hier",
            "nonhier",
            "count",
            "name",
            "val",
            "indexfile",
            "index",
            "dat",
        ),
        *(
            "layer",
            "level",
            "section",
            "nonhierlayer",
            "data",
            "file",
            "zoom",
            "zoomlevel",
            "default",
            "slidedat",
            "ini",
        ),
        *("vimslide", "position", "buffer", "format", "version", "stitchingintensitylayer", "stitchingintensitylevel"),
    ]
)
WORDS = _OTHER_WORDS.union(word.lower() for text in _RETAINED_TEXTS for word in re.findall(r"[^\W_]+", text))


def clean_mirax(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    layout = read_layout(checked, limits)
    copy = folder / copy_name(checked.path.with_suffix(".mrxs"))
    data = data_folder(copy)
    data.mkdir()
    copy.write_bytes(_blank_picture())
    slide_id = keyed_hex(key, "slide", last_value(layout.entries, "GENERAL", "SLIDE_ID"))
    positions = _positions(layout)
    placed = _copy_records(layout, positions, data, slide_id)
    (data / INDEX_NAME).write_bytes(_index(layout, positions, placed, slide_id))
    (data / INI_NAME).write_bytes(_ini(layout, positions, slide_id).encode("utf-8-sig"))
    return copy


def iter_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    """Values of Slidedat.ini and records that are not retained; its keys are the vendor's, unless they are no words."""
    layout = read_layout(checked, limits)
    for (section, key), values in layout.entries.items():
        allowed = LEVEL_KEYS if section in layout.level_sections else GENERAL_KEYS if section == "GENERAL" else {}
        for value in values:
            if key not in allowed or not _is_retained(value, allowed[key]):
                yield f"{INI_NAME}, a value", value.encode()
        for name in (section, key):
            if not re.fullmatch(r"\w+", name, re.ASCII):
                yield f"{INI_NAME}, a name", name.encode()
    ini = (data_folder(checked.path) / INI_NAME).read_bytes()
    yield from ((f"{INI_NAME}, a comment", line) for line in ini.splitlines() if line.lstrip().startswith(b"#"))
    positions = _positions(layout)
    for number, record in enumerate(layout.records.values()):
        path, offset, length = record
        if (positions is None or record != positions[1]) and length <= MAX_TEXT_RECORD:
            with open_source(path) as source:
                content = source.read(offset, length, "a record")
            if not content.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM")):
                yield f"record {number}", content


def tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    layout = read_layout(checked, limits)
    positions = _positions(layout)
    if positions is not None:
        yield positions[1]
    yield from tile_records(layout)


def _positions(layout: MiraxLayout) -> Positions | None:
    """Layer and record of the camera positions. Raises CheckAbortedError unless it holds nothing else."""
    for layer in POSITION_LAYERS:
        for name, record in layout.records.items():
            if name[0] == layer:
                _check_positions(layout.entries, record, is_deflated=layer != POSITION_LAYERS[0])
                return layer, record
    return None


def _check_positions(entries: Entries, record: Record, is_deflated: bool) -> None:
    path, offset, length = record
    divisions, *counts = (
        int(value) if value.isascii() and value.isdecimal() else default
        for value, default in (
            (last_value(entries, "GENERAL", "CameraImageDivisionsPerSide"), 1),
            (last_value(entries, "GENERAL", "IMAGENUMBER_X"), 0),
            (last_value(entries, "GENERAL", "IMAGENUMBER_Y"), 0),
        )
    )
    expected = POSITION_BYTES * (counts[0] // max(divisions, 1)) * (counts[1] // max(divisions, 1))
    with open_source(path) as source:
        content = source.read(offset, length, "the camera positions")
    if is_deflated:
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(content, expected + 1)
        except zlib.error as error:
            raise _malformed("the camera positions", "damaged", "deflated numbers") from error
        if not inflater.eof or inflater.unused_data:
            raise _malformed("the camera positions", "followed by other bytes", f"{expected:,} bytes, deflated")
    flags = np.frombuffer(content, np.uint8)[::POSITION_BYTES]
    if len(content) != expected or (flags > 1).any():
        raise _malformed("the camera positions", f"{len(content):,} bytes", f"{expected:,} bytes with flags of 0 or 1")


def _copy_records(
    layout: MiraxLayout, positions: Positions | None, data: Path, slide_id: str
) -> dict[Record, tuple[int, int, int]]:
    """Write the data files; returns the number of the file, offset and length of each record of the original."""
    placed: dict[Record, tuple[int, int, int]] = {}
    with ExitStack() as stack:
        sources = {path: stack.enter_context(open_source(path)) for path in dict.fromkeys(layout.data_files)}
        copies = [stack.enter_context((data / _data_name(number)).open("wb")) for number in range(len(sources))]
        numbers = {path: number for number, path in enumerate(sources)}
        for number, file in enumerate(copies):
            file.write(INDEX_VERSION + slide_id.encode() + f"{number:03d}".encode() + bytes(256))
        for record in (*([positions[1]] if positions else ()), *tile_records(layout)):
            if record in placed:
                continue
            path, offset, length = record
            file = copies[numbers[path]]
            content = sources[path].read(offset, length, "a tile")
            cleaned = content if positions and record == positions[1] else _clean_tile(content)
            placed[record] = numbers[path], file.tell(), len(cleaned)
            file.write(cleaned)
            if file.tell() > sources[path].size + 2 * HEADER_BYTES:  # overlapping records would multiply the bytes
                raise _malformed("the tiles of the index", "overlapping", "each byte in one tile")
    return placed


def _data_name(number: int) -> str:
    return f"Data{number:04d}.dat"


def _clean_tile(content: bytes) -> bytes:
    if content.startswith(b"\xff\xd8"):
        return b"".join(clean_jpeg(read_from(content), len(content)))
    if content.startswith(b"\x89PNG"):
        return clean_png_stream(content)
    if content.startswith(b"BM"):
        return b"BM" + content[2:6] + bytes(4) + content[10:]  # four reserved bytes
    if content:
        raise CheckAbortedError(slide_issue("packing", actual="unknown tiles", expected="JPEG, PNG or BMP tiles"))
    return content


def _index(
    layout: MiraxLayout,
    positions: Positions | None,
    placed: dict[Record, tuple[int, int, int]],
    slide_id: str,
) -> bytes:
    """The root with its tables of levels and records; of each a start and one page."""
    head = INDEX_VERSION + slide_id.encode()
    level_table = len(head) + 8
    record_table = level_table + 4 * len(layout.levels)
    position = record_table + (4 if positions else 0)
    pointers, body = [], []
    for level in layout.levels:
        rows = level.copy()
        for row, (_, offset, length, file) in zip(rows, level.tolist(), strict=True):
            row[3], row[1], row[2] = placed[layout.data_files[file], offset, length]
        page = _int32(0, position + 8, len(rows), 0) + rows.astype("<i4").tobytes()
        pointers.append(position)
        body.append(page)
        position += len(page)
    if positions:
        file, offset, length = placed[positions[1]]
        pointers.append(position)
        body.append(_int32(0, position + 8, 1, 0, 0, 0, offset, length, file))
    return b"".join([head, _int32(level_table, record_table if positions else 0), _int32(*pointers), *body])


def _int32(*values: int) -> bytes:
    return np.array(values, "<i4").tobytes()


def _ini(layout: MiraxLayout, positions: Positions | None, slide_id: str) -> str:
    entries, count = layout.entries, len(set(layout.data_files))
    sections: dict[str, dict[str, str]] = {"GENERAL": {"SLIDE_ID": slide_id}}
    sections["GENERAL"] |= _retained_values(entries, "GENERAL", GENERAL_KEYS)
    hierarchy = {"HIER_COUNT": "1", "NONHIER_COUNT": "1" if positions else "0", "INDEXFILE": INDEX_NAME}
    hierarchy |= {"HIER_0_NAME": ZOOM_LEVELS, "HIER_0_COUNT": str(len(layout.levels))}
    sections["HIERARCHICAL"] = hierarchy
    sections["DATAFILE"] = {"FILE_COUNT": str(count)}
    sections["DATAFILE"] |= {f"FILE_{number}": _data_name(number) for number in range(count)}
    for level, section in enumerate(layout.level_sections):
        hierarchy[f"HIER_0_VAL_{level}"] = f"ZoomLevel_{level}"
        hierarchy[f"HIER_0_VAL_{level}_SECTION"] = name = f"LAYER_0_LEVEL_{level}_SECTION"
        sections[name] = _retained_values(entries, section, LEVEL_KEYS)
    if positions:
        value = "default" if positions[0] == POSITION_LAYERS[0] else "StitchingIntensityLevel"
        hierarchy |= {"NONHIER_0_NAME": positions[0], "NONHIER_0_COUNT": "1", "NONHIER_0_VAL_0": value}
        hierarchy |= {"NONHIER_0_SECTION": "NONHIERLAYER_0_SECTION"}
        hierarchy |= {"NONHIER_0_VAL_0_SECTION": "NONHIERLAYER_0_LEVEL_0_SECTION"}
        sections["NONHIERLAYER_0_SECTION"] = {"VIMSLIDE_POSITION_DATA_FORMAT_VERSION": "257"}
        sections["NONHIERLAYER_0_LEVEL_0_SECTION"] = {"VIMSLIDE_POSITION_DATA_FORMAT_VERSION": "257"}
    return "".join(
        f"[{name}]\r\n" + "".join(f"{key} = {value}\r\n" for key, value in values.items()) + "\r\n"
        for name, values in sections.items()
    )


def _retained_values(entries: Entries, section: str, allowed: dict[str, set[str]]) -> dict[str, str]:
    values = {key: last_value(entries, section, key) for key in allowed}
    return {key: value for key, value in values.items() if _is_retained(value, allowed[key])}


def _is_retained(value: str, words: set[str]) -> bool:
    return value in words or (_NUMBER.fullmatch(value) is not None and len(value) <= MAX_NUMBER)


def _blank_picture() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(buffer, "JPEG")
    return buffer.getvalue()


def _malformed(what: str, actual: str, expected: str) -> CheckAbortedError:
    return CheckAbortedError(slide_issue("malformed", what=what, actual=actual, expected=expected))
