"""The table of slide formats says what is so: every file that it names is read, stripped and proved as it says."""

import zipfile
from pathlib import Path

import pytest

from datasets.slides.deidentification.deidentify import CONTAINERS, deidentify_slide
from datasets.slides.deidentification.proof.prove import OWN_READER
from datasets.slides.limits import SlideLimits
from datasets.slides.static_check import SUFFIXES, check_slide
from docs.generate.slide_formats import CHINESE_NAMES, EVIDENCE, LIMITS, NOTES, SIMULATED, proving_readers
from serving.pathology.originals.assembly import find_slide
from tests.datasets.slides.vendor_containers import write_container
from tests.documentation.pages import DOCS, text
from tests.paths import CMU, DATA

PATHOLOGY = DATA / "pathology"


def evidence_file(name: str, folder: Path) -> Path:
    if "/" in name:
        path = CMU if name.endswith(CMU.name) else PATHOLOGY / name
        return path if path.exists() else pytest.skip(f"{path} is missing")
    path = write_container(name, folder)
    if path.suffix != ".zip":
        return path
    zipfile.ZipFile(path).extractall(folder / "files")
    return find_slide(folder / "files", path.name)


@pytest.mark.parametrize(
    ("name", "kind", "file"), [(name, *each) for name, files in EVIDENCE.items() for each in files]
)
def test_a_format_is_read_stripped_and_proved_as_its_row_says(tmp_path, name, kind, file):
    path = evidence_file(file, tmp_path / "original")
    assert check_slide(path).format == NOTES[name].key
    assert (kind == SIMULATED) == ("simulated" in file or "/" not in file or "openslide-boxes" in file)
    (tmp_path / "copy").mkdir()
    proof = deidentify_slide(path, tmp_path / "copy", key=bytes(32)).proof
    assert [reader for reader, _ in proof.readers] == [*proving_readers(NOTES[name].key), OWN_READER]
    assert proof.tiles >= 1


def test_every_format_has_a_row_with_evidence_and_every_limit_a_name():
    assert {note.key for note in NOTES.values()} == set(CONTAINERS)
    assert EVIDENCE.keys() == NOTES.keys()
    assert all(EVIDENCE.values())
    assert set(LIMITS) <= {*SlideLimits.__dataclass_fields__}
    for note in NOTES.values():
        known = SUFFIXES.get(note.key, {".tif", ".tiff"})
        assert all(suffix.endswith(tuple(known - {""})) for suffix in note.suffixes)


@pytest.mark.parametrize("page", ["slide-formats.md", "slide-formats.zh.md"])
def test_the_pages_name_each_format_and_no_simulated_file_as_real(page):
    content = text(DOCS / "reference" / page)
    for name, files in EVIDENCE.items():
        name = CHINESE_NAMES.get(name, name) if ".zh" in page else name
        row = next(line for line in content.splitlines() if line.startswith(f"| {name} |"))
        assert all(file in row for _, file in files if "/" in file)
        assert any(word in row for word in ("simulated", "模拟", "real", "真实"))
    for line in content.splitlines():
        assert "real: `slides_simulated" not in line
        assert "真实: `slides_simulated" not in line
