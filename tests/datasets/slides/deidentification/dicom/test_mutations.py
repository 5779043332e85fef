"""Mutated DICOM files are copied without a name, or refused with a reason; nothing else ever happens.

YUHENG_FUZZ_RUNS files are tried, with the seed YUHENG_SEED; `make test-all` tries 10,000.
"""

import os
import random
import shutil
import warnings

import pytest
from pydicom import config, dcmread

from datasets.slides import sandbox
from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.deidentification.dicom.clean import clean_dicom
from datasets.slides.errors import SlideError
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.deidentification.dicom.test_clean import KEY, plant_everywhere, survivors
from tests.datasets.slides.dicom_files import image
from tests.datasets.slides.slide_files import painted

COUNT = int(os.environ.get("YUHENG_FUZZ_RUNS", "150"))
SEED = int(os.environ.get("YUHENG_SEED", "7"))
INTERESTING = (
    b"\0" * 4,
    b"\xff" * 4,
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\xdd\xe0",
    b"SQ\0\0",
    b"UN\0\0",
    b"\xff\xd8\xff\xe1",
)
CODECS = ("explicit", "implicit", "jpeg", "jpeg-ls", "jpeg-2000")


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to eight changes: bytes replaced, cut out, doubled or moved; most of them before the pixels."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        end = len(changed) if chance.random() < 0.3 else min(len(changed), 6_000)
        position = chance.randrange(132, end)
        kind = chance.randrange(6)
        if kind == 0:
            changed[position] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[position : position + 4] = chance.choice(INTERESTING)
        elif kind == 2:
            changed[position : position + chance.randint(1, 64)] = b""
        elif kind == 3:
            changed[position:position] = changed[position : position + chance.randint(1, 256)]
        elif kind == 4:
            changed[position : position + 2] = chance.randbytes(2)
        elif chance.random() < 0.2:
            del changed[position:]
        if len(changed) < 200:
            return bytes(changed)
    return bytes(changed)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    files = []
    for codec in CODECS:
        path = image(folder / codec, "a.dcm", [painted(100, 70)], codec, sparse=codec in ("jpeg", "explicit"))
        plain = path.read_bytes()
        syntax = dcmread(path).file_meta.TransferSyntaxUID
        plant_everywhere(path, syntax if codec == "implicit" else None)
        files += [plain, path.read_bytes()]
    config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes
    return files


def copy_or_refuse(path, folder):
    """The copy, or None if there is a reason against it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        with warnings.catch_warnings(action="ignore"):
            return clean_dicom(check_slide(path), folder, SLIDE_LIMITS, KEY)
    except (SlideError, CheckAbortedError) as error:
        return None if str(error) else "an empty reason"


def read_in_sandbox(path):
    try:
        with sandbox.open_slide(path) as slide:
            slide.read(0, 0, (min(slide.metadata.size[0], 500), min(slide.metadata.size[1], 500)))
    except SlideError as error:
        return error.codes[0]
    return "read"


def test_a_mutated_file_is_copied_without_a_name_or_refused_with_a_reason(tmp_path, originals):
    chance = random.Random(SEED)
    copied = 0
    for number in range(COUNT):
        (tmp_path / "a.dcm").write_bytes(mutate(originals[number % len(originals)], chance))
        copy = copy_or_refuse(tmp_path / "a.dcm", tmp_path / "out")
        if copy is None:
            continue
        copied += 1
        assert survivors(tmp_path / "out") == [], number
        assert check_slide(copy).format == "dicom", number
        if copied % 25 == 0:  # a process of its own for each
            assert read_in_sandbox(copy) in ("read", "undecodable", "sandbox_memory"), number
    assert 0.1 * COUNT < copied < COUNT, "some are still slides, and some are none"
