"""One slide of each container that laboratories send, with a patient's name, a barcode and a case number in it.

write_container("ndpi", folder)      # the file to send; a ZIP where a slide has several files

SVS and its pixels are real (CMU-1-Small-Region, CC0); all others are SIMULATED containers around these pixels, written
by hand and not by a scanner.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from datasets.slides.formats.dicom import tags
from datasets.slides.reader import open_slide
from tests.datasets.slides.deidentification.tiff.planted import plant
from tests.datasets.slides.dicom_files import image
from tests.datasets.slides.slide_files import CMU, kfb
from tests.paths import VENDOR_SLIDES

PATIENT, CASE, BARCODE = "TEST PATIENT", "S26-00001", "TEST-0001"
PLANTED = tuple(word.encode() for word in (PATIENT, CASE, BARCODE, "VEVTVC0wMDAx"))  # the last: BARCODE in base64
SIZE, TILE = (1_536, 1_280), 256
OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="{words}"><Experimenter ID="E:0" '
    'LastName="{words}"/><Image ID="Image:0" Name="{words}"><Description>SIMULATED {words}</Description><Pixels '
    'ID="P:0" SizeX="1536" SizeY="1280" SizeC="3" SizeZ="1" SizeT="1" Type="uint8" DimensionOrder="XYCZT" '
    'PhysicalSizeX="499" PhysicalSizeXUnit="nm" PhysicalSizeY="0.499"><Channel ID="C:0" SamplesPerPixel="3"/>'
    "<TiffData/></Pixels></Image></OME>"
).format(words=f"{PATIENT} {CASE} {BARCODE}")


def pyramid() -> list[np.ndarray]:
    """Real pixels of SIZE at 0.499 microns a pixel, and two smaller copies."""
    with open_slide(CMU) as slide:
        levels = [slide.read(300, 600, SIZE)]
    for _ in range(2):
        height, width = levels[-1].shape[:2]
        levels.append(levels[-1].reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3)).round().astype(np.uint8))
    return levels


def write_svs(folder: Path) -> Path:
    """Real, with its own label; the names are written into tags beside its own."""
    path = folder / f"{PATIENT} {CASE}.svs"
    words = f"{PATIENT}\0{CASE}\0{BARCODE}\0".encode()
    path.write_bytes(plant(CMU, {315: (2, words), 40_093: (1, PATIENT.encode("utf-16-le")), 65_000: (7, words)}))
    return path


def write_generic(folder: Path) -> Path:
    words = f"SIMULATED {PATIENT} {CASE} {BARCODE}"
    return _write_tiff(folder / f"{CASE}.tif", {"description": words, "software": words}, {"subfiletype": 1})


def write_ome(folder: Path) -> Path:
    """Its smaller levels in SubIFDs, as Bio-Formats writes them."""
    return _write_tiff(folder / f"{CASE}.ome.tif", {"description": OME, "subifds": 2}, {"subfiletype": 1})


def write_trestle(folder: Path) -> Path:
    numbers = "SIMULATED;Objective Power=20;Background Color=F0F0F0;OverlapsXY= 0 0 0 0"
    words = f"{numbers};Patient={PATIENT};Case={CASE};Code={BARCODE}"
    scale = {"resolution": (0.499, 0.499), "resolutionunit": 1}
    first = {"description": words, "software": "MedScan", **scale}
    return _write_tiff(folder / f"{CASE}.tif", first, {"software": False, **scale})


def _write_tiff(path: Path, first: dict[str, Any], others: dict[str, Any]) -> Path:
    scale = {"resolution": (1e4 / 0.499, 1e4 / 0.499), "resolutionunit": 3}
    with tifffile.TiffWriter(path) as writer:
        for number, pixels in enumerate(pyramid()):
            options = scale | (others if number else first)
            writer.write(pixels, tile=(TILE, TILE), photometric="rgb", compression="jpeg", metadata=None, **options)
    return path


def write_dicom(folder: Path) -> Path:
    """Two levels, and the label as an instance of its own."""
    series = folder / "series"
    attributes: dict[str, object] = {
        "PatientName": "TEST^PATIENT", "PatientID": CASE, "AccessionNumber": CASE, "ContainerIdentifier": BARCODE,
        "StudyDescription": f"{PATIENT} {BARCODE}", "PatientBirthDate": "19610304", "LabelText": f"SIMULATED {PATIENT}",
    }  # fmt: skip
    for number, pixels in enumerate(pyramid()[:2]):
        path = image(series, f"{CASE}-{number}.dcm", [pixels], tile=TILE, instance=number, attributes=attributes)
    label = {**attributes, "ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"], "SpecimenLabelInImage": "YES"}
    image(series, f"{CASE}-label.dcm", [np.full((TILE, TILE, 3), 9, np.uint8)], instance=9, attributes=label)
    assert tags.VOLUME.encode() in path.read_bytes()
    return _zip(folder / "series.zip", series)


def write_mirax(folder: Path) -> Path:
    source = folder / "mirax"
    source.mkdir()
    shutil.copyfile(VENDOR_SLIDES / "simulated_mirax.mrxs", source / f"{CASE}.mrxs")
    shutil.copytree(VENDOR_SLIDES / "simulated_mirax", source / CASE)
    return _zip(folder / f"{CASE}.zip", source)


def _zip(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def _copy_shared(name: str) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copyfile(VENDOR_SLIDES / name, folder / f"{CASE}{Path(name).suffix}"))


# name: the format that the check states, and how a file of it is written
CONTAINERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "svs": ("aperio", write_svs),
    "ndpi": ("ndpi", _copy_shared("simulated_hamamatsu.ndpi")),
    "mrxs": ("mirax", write_mirax),
    "scn": ("leica", _copy_shared("simulated_leica.scn")),
    "bif": ("ventana", _copy_shared("simulated_ventana.bif")),
    "philips": ("philips", _copy_shared("simulated_philips.tiff")),
    "ome-tiff": ("generic-tiff", write_ome),
    "trestle": ("trestle", write_trestle),
    "dicom": ("dicom", write_dicom),
    "generic-tiff": ("generic-tiff", write_generic),
}


def write_kfb(folder: Path) -> Path:
    """SIMULATED: no sample of this format can be had."""
    (folder / f"{CASE}.kfb").write_bytes(kfb(pyramid()[0], TILE, 0.499))
    return folder / f"{CASE}.kfb"


def write_container(name: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_kfb(folder) if name == "kfb" else CONTAINERS[name][1](folder)
