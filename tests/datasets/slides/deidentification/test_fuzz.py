"""Mutated PNG, JPEG, KFB and MRXS files end with a copy without names or a refusal with its reason, never otherwise.

YUHENG_FUZZ_RUNS files of each format are tried; `make test-all` tries 10,000. A failure names its seed.
"""

import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.deidentification.deidentify import CONTAINERS, deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.deidentification.tiff.planted import PLAIN_NAME
from tests.datasets.slides.mirax_files import write_mirax
from tests.datasets.slides.slide_files import kfb, painted

RUNS = int(os.environ.get("YUHENG_FUZZ_RUNS", "40"))
NAME = PLAIN_NAME.encode()
KEY = bytes(32)
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "kfb": ".kfb", "mirax": ".mrxs"}
NUMBERS = (0, 1, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1)


def write_named(folder, kind):
    """A small slide of a format with a name in its texts."""
    path = folder / f"slide{SUFFIXES[kind]}"
    folder.mkdir()
    if kind == "mirax":
        return write_mirax(folder, columns=2, rows=2, replaced={"NAME1": PLAIN_NAME}, records=(NAME,), tail=NAME)
    if kind == "kfb":
        path.write_bytes(kfb(painted(300, 200)) + NAME)
        return path
    buffer, picture = io.BytesIO(), Image.fromarray(painted(96, 64))
    if kind == "png":
        info = PngInfo()
        info.add_text("Patient", PLAIN_NAME)
        picture.save(buffer, "png", pnginfo=info)
    else:
        picture.save(buffer, "jpeg", comment=PLAIN_NAME)
    path.write_bytes(buffer.getvalue() + NAME)
    return path


def mutated(data, rng):
    """One to four changes, half of them in the first 2,000 bytes, where formats have their heads."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        position = int(rng.integers(min(len(changed), 2_000) if rng.random() < 0.5 else len(changed)))
        match rng.integers(8):
            case 0 | 1:
                changed[position] = rng.integers(256)
            case 2 | 3:
                value = NUMBERS[rng.integers(len(NUMBERS))] if rng.random() < 0.6 else int(rng.integers(len(changed)))
                changed[position : position + 4] = value.to_bytes(4, "big" if rng.random() < 0.5 else "little")
            case 4:
                other = int(rng.integers(len(changed)))
                changed[position : position + 8] = changed[other : other + 8]
            case 5:
                changed[position : position + len(NAME)] = NAME
            case 6:
                changed[position:position] = NAME if rng.random() < 0.5 else bytes(int(rng.integers(1, 40)))
            case 7 if rng.random() < 0.3:
                del changed[max(position, 16) :]
    return bytes(changed)


def with_sums(data):
    """A PNG with the check sum of each chunk computed anew, so that more than the first of its faults is found."""
    changed, position = bytearray(data), 8
    while position + 12 <= len(changed):
        end = position + 8 + struct.unpack_from(">I", changed, position)[0]
        if end + 4 > len(changed):
            break
        struct.pack_into(">I", changed, end, zlib.crc32(changed[position + 4 : end]))
        position = end + 4
    return bytes(changed)


def all_bytes(folder):
    return b"".join(path.name.encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_mutated_file_has_no_name_in_its_copy_or_a_reason(tmp_path, kind):
    path, store = write_named(tmp_path / "original", kind), tmp_path / "store"
    files = {file: file.read_bytes() for file in sorted((tmp_path / "original").rglob("*")) if file.is_file()}
    assert NAME in all_bytes(tmp_path / "original")
    copies = 0
    for seed in range(RUNS):
        rng = np.random.default_rng([seed, len(files[path])])
        for file, data in files.items():
            file.write_bytes(data)
        target = list(files)[rng.integers(len(files))]
        content = mutated(files[target], rng)
        target.write_bytes(with_sums(content) if kind == "png" and rng.random() < 0.7 else content)
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        try:
            checked = check_slide(path)
            container = CONTAINERS[checked.format]
            container.clean(checked, store, SLIDE_LIMITS, KEY)
            list(container.iter_texts(checked, SLIDE_LIMITS))
            list(container.tile_ranges(checked, SLIDE_LIMITS))
        except (SlideError, CheckAbortedError) as error:
            issues = error.issues if isinstance(error, SlideError) else [error.issue]
            reasons = [issue.zh for issue in issues]
            assert all(reasons) and reasons, seed  # noqa: PT017, PT018 - a copy is as good an end
            continue
        copies += 1
        if NAME in all_bytes(store):  # among the pixels: the proof finds it
            (tmp_path / "proof").mkdir(exist_ok=True)
            with pytest.raises(SlideError):
                deidentify_slide(path, tmp_path / "proof", key=KEY, known_words=[PLAIN_NAME])
            shutil.rmtree(tmp_path / "proof")
    assert RUNS / 50 < copies <= RUNS
