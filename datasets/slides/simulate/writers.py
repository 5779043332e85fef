"""Write simulated slides as DICOM, KFB, or a folder of TIFF files with their truth.

write_dicom("folder", slide)              # one instance per level, in one series; needs pydicom
write_kfb("simulated.kfb", slide)         # as the kfbslide package reads it
write("folder", slides=8, columns=12, rows=10, seed=7)

Every format has the same encoded tiles, so a slide has one grid and one score in all of them. DICOM and KFB hold all
tiles in memory at once: they are for small slides.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.errors import DataError
from datasets.slides.formats.dicom.tags import WSI_SOP_CLASS
from datasets.slides.simulate.cell_types import CLASSES
from datasets.slides.simulate.fields import encode_jpeg
from datasets.slides.simulate.pyramid import SIMULATED, Pyramid, tile_count, write_tiff
from datasets.slides.simulate.slides import TILE, SimulatedSlide, simulate_slide

MAGNIFICATION = 20  # as a KFB states it
MAX_PLANES = 100
DEFOCUSED_QUALITY = 85  # of the JPEG of tiles that are out of focus


class KfbTile(NamedTuple):
    """A tile of a KFB: its position and size in pixels of its level."""

    level: int
    x: int
    y: int
    width: int
    height: int
    jpeg: bytes


def encode_levels(slide: SimulatedSlide) -> list[list[bytes]]:
    """The encoded tiles of each level, row by row."""
    pyramid = Pyramid(slide)
    tiles: list[list[bytes]] = [[] for _ in pyramid.sizes]
    for level, jpeg in pyramid.tiles():
        tiles[level].append(jpeg)
    return tiles


def write_kfb(path: str | Path, slide: SimulatedSlide) -> Path:
    """Write a KFB. The format has no level below a magnification of 1, so coarser levels are left out."""
    sizes = Pyramid(slide).sizes
    tiles = []
    for level, jpegs in enumerate(encode_levels(slide)):
        width, _ = sizes[level]
        if MAGNIFICATION / 2**level < 1:
            break
        for index, jpeg in enumerate(jpegs):
            x, y = index % tile_count(width) * TILE, index // tile_count(width) * TILE
            tiles.append(KfbTile(level, x, y, TILE, TILE, jpeg))  # complete tiles: kfbslide would crop smaller ones
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mpp = 0.0 if slide.defect == "no_scale" else slide.mpp
    path.write_bytes(build_kfb(tiles, sizes[0], TILE, mpp))
    return path


def build_kfb(
    kfb_tiles: Iterable[KfbTile], size: tuple[int, int], tile_side: int, mpp: float, magnification: int = MAGNIFICATION
) -> bytes:
    """The bytes of a KFB as the kfbslide package reads it: header, macro, label, table, tiles."""
    entries, stored_jpegs = b"", []
    for kfb_tile in kfb_tiles:
        scale = magnification / 2**kfb_tile.level
        entries += struct.pack(
            "<4xIIIIf8xI28x", kfb_tile.x, kfb_tile.y, kfb_tile.width, kfb_tile.height, scale, len(kfb_tile.jpeg)
        )
        stored_jpegs.append(kfb_tile.jpeg)
    macro, label = (encode_jpeg(np.full((8, 8, 3), grey, np.uint8), 90) for grey in (10, 20))
    macro_offset = 4 + 88 + 4
    label_offset = macro_offset + 52 + len(macro)
    tiles_offset = label_offset + 52 + len(label)

    def picture(section: int, data: bytes) -> bytes:
        payload = struct.pack("<IIIIII20x", 0, 8, 8, 0, len(data), 52)
        return bytes([0xF1, section, 0xEE, 0xEE]) + payload + bytes([0xFF, section, 0xEE, 0xEE]) + data

    header = bytearray(88)
    struct.pack_into("<4s4xfIIIII", header, 0, b"KFB", 1.6, len(stored_jpegs), size[1], size[0], magnification, 0)
    struct.pack_into("<4s", header, 28, b"JPEG")
    struct.pack_into("<IIQQf", header, 48, macro_offset, label_offset, tiles_offset + len(entries), tiles_offset, mpp)
    struct.pack_into("<I", header, 84, tile_side)
    head = b"\xf1\x01\xee\xee" + header + b"\xff\x01\xee\xee" + picture(2, macro) + picture(3, label)
    return b"".join([head, entries, *stored_jpegs])


def write_dicom(folder: str | Path, slide: SimulatedSlide, planes: int = 1, plane_spacing: float = 1.0) -> Path:
    """Write one TILED_FULL instance per level; return the path of the finest, in the same folder as the others.

    planes: focal planes, `plane_spacing` microns apart; the sharp one rises from the left of the slide to its right.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence
    from pydicom.uid import UID, JPEGBaseline8Bit

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes, tiles = Pyramid(slide).sizes, encode_levels(slide)

    def uid(*key: object) -> UID:
        """The same for the same slide, in the space of UUIDs."""
        digest = hashlib.sha256(repr((slide, *key)).encode()).digest()
        return UID(f"2.25.{int.from_bytes(digest[:15])}")

    for level, ((width, height), sharp_jpegs) in enumerate(zip(sizes, tiles, strict=True)):
        columns = tile_count(width)
        jpegs = [jpeg for plane in range(planes) for jpeg in _plane_tiles(sharp_jpegs, columns, level, plane, planes)]
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(WSI_SOP_CLASS), uid("instance", level)
        meta.TransferSyntaxUID = JPEGBaseline8Bit
        path = folder / f"level_{level}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid("series")
        data.FrameOfReferenceUID, data.DimensionOrganizationType = uid("frame"), "TILED_FULL"
        data.SpecificCharacterSet, data.Modality, data.PatientName, data.PatientID = (
            "ISO_IR 192",
            "SM",
            "SIMULATED",
            "SIMULATED",
        )
        data.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if level else "NONE"]
        data.ImageComments, data.InstanceNumber = SIMULATED, level + 1
        data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
        if slide.defect != "no_scale":
            data.ImagedVolumeWidth, data.ImagedVolumeHeight = (
                length * slide.mpp / 1_000 for length in slide.size
            )  # mm
        data.Rows = data.Columns = TILE
        data.TotalPixelMatrixFocalPlanes, data.NumberOfOpticalPaths = planes, 1
        data.NumberOfFrames, data.SamplesPerPixel, data.PlanarConfiguration = len(jpegs), 3, 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PhotometricInterpretation = "YBR_FULL_422"  # the one that OpenSlide takes; the JPEG itself says 4:4:4
        data.LossyImageCompression = "01"
        shared_groups, optical_path = Dataset(), Dataset()
        if slide.defect != "no_scale":
            pixel_measures = Dataset()
            pixel_measures.PixelSpacing = [slide.mpp * 2**level / 1_000] * 2  # mm
            if planes > 1:
                pixel_measures.SpacingBetweenSlices = plane_spacing / 1_000  # mm
            shared_groups.PixelMeasuresSequence = Sequence([pixel_measures])
        data.SharedFunctionalGroupsSequence = Sequence([shared_groups])
        optical_path.OpticalPathIdentifier = "1"
        data.OpticalPathSequence = Sequence([optical_path])
        data.PixelData = encapsulate(jpegs)
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.save_as(path, enforce_file_format=True)
    return folder / "level_0.dcm"


def write_tiff_stack(path: str | Path, slide: SimulatedSlide, planes: int, plane_spacing: float = 1.0) -> Path:
    """Write an OME-TIFF of several focal planes, `plane_spacing` microns apart, each with its levels in SubIFDs; the
    sharp plane rises as in `write_dicom`.
    """
    import tifffile

    path, sizes, tiles = Path(path), Pyramid(slide).sizes, encode_levels(slide)
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = {} if slide.defect == "no_scale" else {f"PhysicalSize{axis}": slide.mpp for axis in "XY"}
    metadata = {"axes": "ZYXS", "Name": SIMULATED, "PhysicalSizeZ": plane_spacing, **scale}
    layout: dict[str, Any] = {"dtype": np.uint8, "photometric": "ycbcr", "subsampling": (1, 1), "compression": "jpeg"}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        for level, ((width, height), sharp_jpegs) in enumerate(zip(sizes, tiles, strict=True)):
            columns = tile_count(width)
            encoded = (
                jpeg for plane in range(planes) for jpeg in _plane_tiles(sharp_jpegs, columns, level, plane, planes)
            )
            options: dict[str, Any] = (
                {"metadata": None, "subfiletype": 1} if level else {"metadata": metadata, "subifds": len(sizes) - 1}
            )
            file.write(encoded, shape=(planes, height, width, 3), tile=(TILE, TILE), **layout, **options)
    return path


def _plane_tiles(sharp_jpegs: list[bytes], columns: int, level: int, plane: int, planes: int) -> Iterator[bytes]:
    """The tiles of a level in a focal plane."""
    for index, jpeg in enumerate(sharp_jpegs):
        yield _defocus(jpeg, abs(plane - (index % columns) * planes // columns) / 2**level)


def _defocus(jpeg: bytes, planes: float) -> bytes:
    """The tile as it looks some focal planes away from the sharp one; SIMULATED as a Gaussian blur."""
    import io

    from PIL import Image, ImageFilter

    if planes == 0:
        return jpeg
    blurred = Image.open(io.BytesIO(jpeg)).filter(ImageFilter.GaussianBlur(1.5 * planes))
    return encode_jpeg(np.asarray(blurred), DEFOCUSED_QUALITY)


def write(
    folder: str | Path,
    slides: int,
    columns: int,
    rows: int,
    seed: int,
    mpp: float = 0.5,
    progress: bool = False,
    planes: int = 1,
) -> Path:
    """Write slides of each class in turn as TIFF, and truth.json, whose path is returned.

    columns, rows: tiles of 256 px. planes: focal planes of each slide. Raises DataError for arguments out of range.
    """
    from rich.console import Console
    from rich.progress import Progress

    if slides < 1:
        raise DataError(f"slides is {slides}; it must be 1 or more.")
    if not 1 <= planes <= MAX_PLANES:
        raise DataError(f"planes is {planes}; it must be from 1 to {MAX_PLANES}.")
    folder = Path(folder)
    simulated_slides = [
        simulate_slide(seed + index, index % len(CLASSES), columns, rows, mpp) for index in range(slides)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    truth: dict[str, object] = {}
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as progress_bar:
        task = progress_bar.add_task("simulated slides", total=slides * columns * rows)
        for slide in simulated_slides:
            path = folder / f"simulated_{slide.seed}_{CLASSES[slide.label]}.{'ome.tiff' if planes > 1 else 'tiff'}"
            if planes > 1:
                write_tiff_stack(path, slide, planes)
                progress_bar.advance(task, columns * rows)
            else:
                write_tiff(path, slide, lambda: progress_bar.advance(task))
            truth[path.name] = describe(slide)
    document = {"simulated": True, "classes": CLASSES, "seed": seed, "slides": truth}
    (folder / "truth.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return folder / "truth.json"


def describe(slide: SimulatedSlide) -> dict[str, object]:
    """The truth about a slide, as truth.json has it; the label of a slide without cells is null."""
    cells = list(slide.cells())
    return {
        "label": CLASSES[slide.label] if cells else None,
        "fault": slide.defect or None,
        "mpp": slide.mpp,
        "size": slide.size,
        "cells": [{"x": cell.x, "y": cell.y, "class": CLASSES[cell.label], "kind": cell.kind} for cell in cells],
    }
