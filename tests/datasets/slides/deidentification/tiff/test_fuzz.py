"""Mutated files end with a copy without names or a refusal with its reason, never otherwise.

YUHENG_FUZZ_RUNS files of each format are tried; `make test-all` tries 10,000. A failure names its seed.
"""

import os
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.slides.byte_source import open_source
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.deidentification.tiff.clean import clean_tiff, tile_ranges
from datasets.slides.deidentification.tiff.texts import iter_texts
from datasets.slides.errors import SlideError
from datasets.slides.formats.tiff import tile_ranges as stored_ranges
from datasets.slides.formats.tiff_directories import read_directories
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.deidentification.tiff.planted import FILES, PLAIN_NAME, names_in, plant
from tests.datasets.slides.slide_files import CMU, painted, tiled
from tests.paths import VENDOR_SLIDES

RUNS = int(os.environ.get("YUHENG_FUZZ_RUNS", "40"))
NAME = PLAIN_NAME.encode()
NUMBERS = (0, 1, 2, 7, 8, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def written(path, kind):
    """A small file of a format, with names in the tags that it has."""
    if kind in FILES:
        if not VENDOR_SLIDES.exists():
            pytest.skip("no folder of simulated vendor files")
        path.write_bytes((VENDOR_SLIDES / FILES[kind]).read_bytes())
    elif kind == "aperio":
        options = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
        with tifffile.TiffWriter(path) as writer:
            words = "Aperio Image Library v11.2.1\r\n300x200 (64x64)|MPP = 0.5|AppMag = 20|User = " + PLAIN_NAME
            writer.write(painted(300, 200), description=words, compression="jpeg", **options)
            writer.write(painted(90, 60), description="Aperio\nlabel 90x60", photometric="rgb", subfiletype=1)
    elif kind == "jpeg2000":
        with tifffile.TiffFile(CMU) as file:
            assert file.pages[0].is_tiled
        options = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
        tifffile.imwrite(path, painted(200, 130), compression="APERIO_JP2000_RGB", description="Aperio\r\n", **options)
    elif kind == "flat":
        Image.fromarray(painted(90, 70)).save(path, compression="tiff_lzw")
    elif kind == "raw":
        tifffile.imwrite(path, painted(150, 100), tile=(64, 64), photometric="rgb", metadata=None)
    elif kind == "deflate":
        tifffile.imwrite(path, painted(150, 100), tile=(64, 64), photometric="rgb", compression="zlib", metadata=None)
    elif kind == "ome":
        with tifffile.TiffWriter(path, ome=True) as writer:
            options = {"tile": (64, 64), "photometric": "rgb"}
            metadata = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Name": PLAIN_NAME}
            writer.write(painted(300, 200), subifds=1, metadata=metadata, **options)
            writer.write(painted(150, 100), subfiletype=1, **options)
    elif kind == "trestle":
        words = f"{PLAIN_NAME};Objective Power=20;OverlapsXY= 4 6"
        options = {"tile": (64, 64), "photometric": "rgb", "resolution": (0.5, 0.5), "resolutionunit": 1}
        tifffile.imwrite(path, painted(150, 100), description=words, software="MedScan", metadata=None, **options)
    else:
        path.write_bytes(tiled(painted(300, 200)))
    path.write_bytes(plant(path, {315: (2, NAME), 40_092: (1, NAME), 65_000: (7, NAME)}, tail=NAME))
    return path.read_bytes()


def metadata_positions(path):
    """The bytes that are no pixels: there a mutation matters most."""
    with open_source(path) as source:
        directories = read_directories(source, SLIDE_LIMITS)
    is_pixel = np.zeros(path.stat().st_size, bool)
    for directory in [each for parent in directories for each in (parent, *parent.sub_directories)]:
        for offset, length in stored_ranges(directory):
            is_pixel[offset : offset + length] = True
    reach = np.convolve(is_pixel, np.ones(len(NAME), bool))[len(NAME) - 1 :].astype(bool)
    return np.flatnonzero(~reach)


def mutated(data, metadata, rng):
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        positions = metadata if rng.random() < 0.85 and metadata[-1] < len(data) else np.arange(len(data))
        position = int(rng.choice(positions))
        match rng.integers(8):
            case 0 | 1:
                data[position] = rng.integers(256)
            case 2 | 3:
                width = int(rng.choice([2, 4, 8]))
                value = NUMBERS[rng.integers(len(NUMBERS))] if rng.random() < 0.6 else int(rng.integers(len(data)))
                data[position : position + width] = (value % 256**width).to_bytes(width, "little")
            case 4:  # where no pixel is, as names among pixels are no text
                position, other = int(rng.choice(metadata)), int(rng.choice(positions))
                data[position : position + 8] = data[other : other + 8]
            case 5:
                position = int(rng.choice(metadata))
                data[position : position + len(NAME)] = NAME
            case 6:
                data[position : position + int(rng.integers(1, 40))] = bytes(int(rng.integers(1, 40)))
            case 7 if rng.random() < 0.3:
                del data[int(rng.integers(16, len(data))) :]
    return bytes(data)


KINDS = ("aperio", "jpeg2000", "generic", "flat", "raw", "deflate", "ome", "trestle", *FILES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_has_no_name_in_its_copy_or_a_reason(tmp_path, kind):
    path, store = tmp_path / "slide.tif", tmp_path / "store"
    store.mkdir()
    data = written(path, kind)
    metadata = metadata_positions(path)
    copies = disproved = 0
    for seed in range(RUNS):
        path.write_bytes(mutated(data, metadata, np.random.default_rng([seed, len(data)])))
        try:
            checked = check_slide(path)
            copy = clean_tiff(checked, store, SLIDE_LIMITS, bytes(32))
            list(iter_texts(checked, SLIDE_LIMITS))
            list(tile_ranges(checked, SLIDE_LIMITS))
        except SlideError as error:
            reasons = [issue.zh for issue in error.issues]
            assert all(reasons) and reasons, seed  # noqa: PT017, PT018 - a copy is as good an end
        else:
            copies += 1
            content = copy.read_bytes()
            check_slide(copy)
            if names_in(content):  # among the numbers of a table that decodes pixels: the proof finds it
                disproved += 1
                (tmp_path / "proof").mkdir(exist_ok=True)
                with pytest.raises(SlideError):
                    deidentify_slide(path, tmp_path / "proof", key=bytes(32))
                shutil.rmtree(tmp_path / "proof")
        for left in store.iterdir():
            left.unlink()
    assert copies > RUNS / 50
    assert copies < RUNS
    assert disproved <= max(2, RUNS / 100)
