"""The same encoded tiles as DICOM and as KFB, so that a slide has one grid and one score in every format.

write_dicom("folder", painted)              # one instance a level, in one series; needs pydicom
write_kfb("simulated.kfb", painted)         # as the kfbslide package reads it

All encoded tiles of the slide are held at once: these are for small slides.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.slides.formats.dicom import WSI
from datasets.slides.simulate.fields import encode
from datasets.slides.simulate.pyramid import SIMULATED, Pyramid, across
from datasets.slides.simulate.slides import TILE, Slide

POWER = 20  # magnification that a KFB tells


class Placed(NamedTuple):
    """A tile of a KFB: where it is on its level and how large, in the level's pixels."""

    level: int
    x: int
    y: int
    width: int
    height: int
    jpeg: bytes


def encoded(slide: Slide) -> list[list[bytes]]:
    """The tiles of each level, by rows."""
    pyramid = Pyramid(slide)
    tiles: list[list[bytes]] = [[] for _ in pyramid.sizes]
    for level, jpeg in pyramid.tiles():
        tiles[level].append(jpeg)
    return tiles


def write_kfb(path: str | Path, slide: Slide) -> Path:
    """A KFB has no level under a magnification of 1, so coarser ones are left out."""
    sizes = Pyramid(slide).sizes
    tiles = []
    for level, jpegs in enumerate(encoded(slide)):
        width, _ = sizes[level]
        if POWER / 2**level < 1:
            break
        for at, jpeg in enumerate(jpegs):
            x, y = at % across(width) * TILE, at // across(width) * TILE
            tiles.append(Placed(level, x, y, TILE, TILE, jpeg))  # whole ones: kfbslide would shrink them to less
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mpp = 0.0 if slide.fault == "no_scale" else slide.mpp
    path.write_bytes(kfb(tiles, sizes[0], TILE, mpp))
    return path


def kfb(tiles: Iterable[Placed], size: tuple[int, int], tile: int, mpp: float, power: int = POWER) -> bytes:
    """A KFB as the kfbslide package reads it: header, macro, label, table, tiles."""
    entries, stored = b"", []
    for each in tiles:
        scale = power / 2**each.level
        entries += struct.pack("<4xIIIIf8xI28x", each.x, each.y, each.width, each.height, scale, len(each.jpeg))
        stored.append(each.jpeg)
    macro, label = (encode(np.full((8, 8, 3), grey, np.uint8), 90) for grey in (10, 20))
    second = 4 + 88 + 4
    third = second + 52 + len(macro)
    start = third + 52 + len(label)

    def picture(kind: int, data: bytes) -> bytes:
        payload = struct.pack("<IIIIII20x", 0, 8, 8, 0, len(data), 52)
        return bytes([0xF1, kind, 0xEE, 0xEE]) + payload + bytes([0xFF, kind, 0xEE, 0xEE]) + data

    header = bytearray(88)
    struct.pack_into("<4s4xfIIIII", header, 0, b"KFB", 1.6, len(stored), size[1], size[0], power, 0)
    struct.pack_into("<4s", header, 28, b"JPEG")
    struct.pack_into("<IIQQf", header, 48, second, third, start + len(entries), start, mpp)
    struct.pack_into("<I", header, 84, tile)
    head = b"\xf1\x01\xee\xee" + header + b"\xff\x01\xee\xee" + picture(2, macro) + picture(3, label)
    return b"".join([head, entries, *stored])


def write_dicom(folder: str | Path, slide: Slide) -> Path:
    """Writes one TILED_FULL instance a level; returns the finest, beside which the others lie."""
    from pydicom import Dataset
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence
    from pydicom.uid import UID, JPEGBaseline8Bit

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes, tiles = Pyramid(slide).sizes, encoded(slide)

    def uid(*of: object) -> UID:
        """The same for the same slide, in the space of UUIDs."""
        digest = hashlib.sha256(repr((slide, *of)).encode()).digest()
        return UID(f"2.25.{int.from_bytes(digest[:15])}")

    for level, ((width, height), jpegs) in enumerate(zip(sizes, tiles, strict=True)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(WSI), uid("instance", level)
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
        data.ImagedVolumeWidth, data.ImagedVolumeHeight = (each * slide.mpp / 1_000 for each in slide.size)  # mm
        data.Rows = data.Columns = TILE
        data.NumberOfFrames, data.SamplesPerPixel, data.PlanarConfiguration = len(jpegs), 3, 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PhotometricInterpretation = "YBR_FULL_422"  # the one that OpenSlide takes; the JPEG itself says 4:4:4
        data.LossyImageCompression = "01"
        shared, optical = Dataset(), Dataset()
        if slide.fault != "no_scale":
            measures = Dataset()
            measures.PixelSpacing = [slide.mpp * 2**level / 1_000] * 2  # mm
            shared.PixelMeasuresSequence = Sequence([measures])
        data.SharedFunctionalGroupsSequence = Sequence([shared])
        optical.OpticalPathIdentifier = "1"
        data.OpticalPathSequence = Sequence([optical])
        data.PixelData = encapsulate(jpegs)
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.save_as(path, enforce_file_format=True)
    return folder / "level_0.dcm"
