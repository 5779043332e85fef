"""Whole slide microscopy images as scanners write them, by pydicom and the codecs of imagecodecs."""

from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID

from datasets.slides.formats.dicom.tags import WSI_SOP_CLASS

# name: transfer syntax, encoder of a tile, photometric interpretation of colour
CODECS = {
    "implicit": ("1.2.840.10008.1.2", None, "RGB"),
    "explicit": ("1.2.840.10008.1.2.1", None, "RGB"),
    "encapsulated": ("1.2.840.10008.1.2.1.98", lambda tile: tile.tobytes(), "RGB"),
    "rle": ("1.2.840.10008.1.2.5", lambda tile: rle(tile), "RGB"),
    "jpeg": ("1.2.840.10008.1.2.4.50", lambda tile: imagecodecs.jpeg8_encode(tile, level=95), "YBR_FULL_422"),
    "jpeg-lossless": ("1.2.840.10008.1.2.4.70", lambda tile: jpeg_lossless(tile), "RGB"),
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", lambda tile: imagecodecs.jpegls_encode(tile), "RGB"),
    "jpeg-2000": (
        "1.2.840.10008.1.2.4.90",
        lambda tile: imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", reversible=True),
        "YBR_RCT",
    ),
    "htj2k": ("1.2.840.10008.1.2.4.201", lambda tile: imagecodecs.htj2k_encode(tile, reversible=True), "YBR_RCT"),
}


def jpeg_lossless(tile: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(tile, lossless=True) if tile.ndim == 3 else imagecodecs.ljpeg_encode(tile)


def rle(tile: np.ndarray) -> bytes:
    """One segment for each byte of a sample, the high bytes first (PS3.5, G)."""
    height, width = tile.shape[:2]
    samples = tile.reshape(height, width, -1).astype(tile.dtype.newbyteorder(">"))
    planes = samples.view(np.uint8).reshape(height, width, -1)
    segments = [imagecodecs.packbits_encode(planes[..., index].tobytes()) for index in range(planes.shape[2])]
    segments = [segment + bytes(len(segment) % 2) for segment in segments]
    offsets = 64 + np.cumsum([0, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[0], header[1 : 1 + len(segments)] = len(segments), offsets
    return header.tobytes() + b"".join(segments)


def tiles_of(pixels: np.ndarray, tile: int) -> list[np.ndarray]:
    """Row by row, padded at the right and at the bottom."""
    height, width = pixels.shape[:2]
    padding = [(0, -height % tile), (0, -width % tile)] + [(0, 0)] * (pixels.ndim - 2)
    padded = np.pad(pixels, padding, mode="edge")
    return [
        np.ascontiguousarray(padded[top : top + tile, left : left + tile])
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]


def image(
    folder: Path,
    name: str,
    planes: list[np.ndarray],
    codec: str = "jpeg",
    tile: int = 64,
    sparse: bool = False,
    instance: int = 1,
    attributes: dict[str, object] | None = None,
) -> Path:
    """An instance of one or more focal planes (or optical paths) of the same size, each (height, width[, 3])."""
    data = image_data(planes, codec, tile, sparse, instance)
    for keyword, value in (attributes or {}).items():
        setattr(data, keyword, value)
    folder.mkdir(exist_ok=True, parents=True)
    data.save_as(folder / name, enforce_file_format=True)
    return folder / name


def image_data(
    planes: list[np.ndarray], codec: str = "jpeg", tile: int = 64, sparse: bool = False, instance: int = 1
) -> FileDataset:
    syntax, encode, photometric = CODECS[codec]
    first = planes[0]
    tiles = [each for plane in planes for each in tiles_of(plane, tile)]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(WSI_SOP_CLASS), UID(f"1.2.826.9.{instance}")
    meta.TransferSyntaxUID = UID(syntax)
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SpecificCharacterSet, data.Modality = "ISO_IR 192", "SM"
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.826.1", "1.2.826.2"
    data.FrameOfReferenceUID = "1.2.826.3"
    data.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = first.shape[:2]
    data.TotalPixelMatrixFocalPlanes, data.NumberOfOpticalPaths = len(planes), 1
    data.Rows = data.Columns = tile
    data.NumberOfFrames, data.SamplesPerPixel = len(tiles), 3 if first.ndim == 3 else 1
    data.PhotometricInterpretation = photometric if first.ndim == 3 else "MONOCHROME2"
    if first.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * first.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    measures, groups, path, code = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.0005, 0.00051], 0.001
    groups.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([groups])
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "111744", "DCM", "Brightfield illumination"
    path.OpticalPathIdentifier, path.IlluminationTypeCodeSequence = "A", Sequence([code])
    data.OpticalPathSequence = Sequence([path])
    if sparse:
        data.PerFrameFunctionalGroupsSequence = Sequence(frame_groups(planes, tile))
    if encode is None:
        data.PixelData = b"".join(each.tobytes() for each in tiles)
        data["PixelData"].VR = "OW" if first.dtype.itemsize == 2 else "OB"
        if len(data.PixelData) % 2:
            data.PixelData += b"\0"
    else:
        data.PixelData = encapsulate([encode(each) for each in tiles])
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    return data


def frame_groups(planes: list[np.ndarray], tile: int, path: str = "A") -> list[Dataset]:
    height, width = planes[0].shape[:2]
    items = []
    for number, _ in enumerate(planes):
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                position, reference, item = Dataset(), Dataset(), Dataset()
                position.XOffsetInSlideCoordinateSystem, position.YOffsetInSlideCoordinateSystem = 1.5, 2.5
                position.ZOffsetInSlideCoordinateSystem = number
                position.ColumnPositionInTotalImagePixelMatrix = left + 1
                position.RowPositionInTotalImagePixelMatrix = top + 1
                reference.OpticalPathIdentifier = path
                item.PlanePositionSlideSequence = Sequence([position])
                item.OpticalPathIdentificationSequence = Sequence([reference])
                items.append(item)
    return items
