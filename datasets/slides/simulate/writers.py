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

from datasets.slides.formats.dicom import WSI_SOP_CLASS
from datasets.slides.simulate.fields import encode_jpeg
from datasets.slides.simulate.pyramid import SIMULATED, Pyramid, tile_count
from datasets.slides.simulate.slides import TILE, SimulatedSlide

MAGNIFICATION = 20  # magnification that a KFB tells


class KfbTile(NamedTuple):
    """A tile of a KFB: where it is on its level and how large, in the level's pixels."""

    level: int
    x: int
    y: int
    width: int
    height: int
    jpeg: bytes


def encode_levels(slide: SimulatedSlide) -> list[list[bytes]]:
    """The tiles of each level, by rows."""
    pyramid = Pyramid(slide)
    tiles: list[list[bytes]] = [[] for _ in pyramid.sizes]
    for level, jpeg in pyramid.tiles():
        tiles[level].append(jpeg)
    return tiles


def write_kfb(path: str | Path, slide: SimulatedSlide) -> Path:
    """A KFB has no level under a magnification of 1, so coarser ones are left out."""
    sizes = Pyramid(slide).sizes
    tiles = []
    for level, jpegs in enumerate(encode_levels(slide)):
        width, _ = sizes[level]
        if MAGNIFICATION / 2**level < 1:
            break
        for index, jpeg in enumerate(jpegs):
            x, y = index % tile_count(width) * TILE, index // tile_count(width) * TILE
            tiles.append(KfbTile(level, x, y, TILE, TILE, jpeg))  # whole ones: kfbslide would shrink them to less
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mpp = 0.0 if slide.defect == "no_scale" else slide.mpp
    path.write_bytes(build_kfb(tiles, sizes[0], TILE, mpp))
    return path


def build_kfb(
    kfb_tiles: Iterable[KfbTile], size: tuple[int, int], tile_side: int, mpp: float, magnification: int = MAGNIFICATION
) -> bytes:
    """A KFB as the kfbslide package reads it: header, macro, label, table, tiles."""
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


def write_dicom(folder: str | Path, slide: SimulatedSlide) -> Path:
    """Writes one TILED_FULL instance a level; returns the finest, beside which the others lie."""
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

    for level, ((width, height), jpegs) in enumerate(zip(sizes, tiles, strict=True)):
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
        data.ImagedVolumeWidth, data.ImagedVolumeHeight = (length * slide.mpp / 1_000 for length in slide.size)  # mm
        data.Rows = data.Columns = TILE
        data.NumberOfFrames, data.SamplesPerPixel, data.PlanarConfiguration = len(jpegs), 3, 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PhotometricInterpretation = "YBR_FULL_422"  # the one that OpenSlide takes; the JPEG itself says 4:4:4
        data.LossyImageCompression = "01"
        shared_groups, optical_path = Dataset(), Dataset()
        if slide.defect != "no_scale":
            pixel_measures = Dataset()
            pixel_measures.PixelSpacing = [slide.mpp * 2**level / 1_000] * 2  # mm
            shared_groups.PixelMeasuresSequence = Sequence([pixel_measures])
        data.SharedFunctionalGroupsSequence = Sequence([shared_groups])
        optical_path.OpticalPathIdentifier = "1"
        data.OpticalPathSequence = Sequence([optical_path])
        data.PixelData = encapsulate(jpegs)
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.save_as(path, enforce_file_format=True)
    return folder / "level_0.dcm"
