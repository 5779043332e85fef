"""Check MRXS slides: a file with the label image, and a folder whose Slidedat.ini names the other files."""

from __future__ import annotations

from pathlib import Path

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide
from datasets.slides.errors import slide_issue
from datasets.slides.limits import SlideLimits
from datasets.slides.scale import ScaleStatement, parse_decimal, resolve_scale, state_scale

INI_NAME = "Slidedat.ini"


def data_folder(path: Path) -> Path:
    return path.with_suffix("")


def is_mrxs(path: Path) -> bool:
    """Recognised by folder or name, so that the label image is not taken for a flat slide."""
    return path.suffix.lower() == ".mrxs" or (data_folder(path) != path and (data_folder(path) / INI_NAME).is_file())


def check_mrxs(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    folder = data_folder(source.path)
    ini = folder / INI_NAME
    if folder.is_symlink() or ini.is_symlink():
        actual = "a link as its folder" if folder.is_symlink() else f"a link as {INI_NAME}"
        raise CheckAbortedError(slide_issue("outside", what="the slide", actual=actual))
    if not ini.is_file():
        raise CheckAbortedError(slide_issue("mrxs_alone"))
    if ini.stat().st_size > limits.text_bytes:
        raise CheckAbortedError(
            slide_issue("too_many", what=f"bytes in {INI_NAME}", actual=ini.stat().st_size, limit=limits.text_bytes)
        )
    entries = parse_ini(ini.read_bytes().decode("utf-8-sig", "replace"))
    names = _listed_files(entries, source, limits)
    files = [source.path, ini]
    for name in names:
        path = folder / name
        if _is_unsafe_name(name) or path.is_symlink():
            source.add_issue("outside", what=INI_NAME, actual=name)
        elif not path.is_file():
            source.add_issue("missing_part", what=INI_NAME, actual=name)
        elif not path.stat().st_size:
            source.add_issue("truncated", what=name, actual=1, end=0)
        else:
            files.append(path)
    scales = _scale_statements(entries, limits)
    return CheckedSlide(source.path, "mirax", (), resolve_scale(scales), tuple(files), scales=scales)


def parse_ini(text: str) -> dict[tuple[str, str], list[str]]:
    """(section, key) -> all of its values. Lines are parsed like GLib, which OpenSlide uses: surrounding spaces are
    ignored, case matters, and a line never continues the previous one.
    """
    entries: dict[tuple[str, str], list[str]] = {}
    section = ""
    for line in (raw_line.strip(" \t\r\v\f") for raw_line in text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            entries.setdefault((section, key.strip()), []).append(value.strip())
    return entries


def last_value(entries: dict[tuple[str, str], list[str]], section: str, key: str) -> str:
    return entries.get((section, key), [""])[-1]


def _listed_files(entries: dict[tuple[str, str], list[str]], source: ByteSource, limits: SlideLimits) -> list[str]:
    """All files that the INI names, in any section."""
    file_entries = [
        (key, values) for (_, key), values in entries.items() if key == "INDEXFILE" or key.startswith("FILE_")
    ]
    for key, values in file_entries:
        if len(values) > 1:
            source.add_issue("duplicate", what=f"{key} of {INI_NAME}")
    count = last_value(entries, "DATAFILE", "FILE_COUNT")
    if not count.isdecimal() or not 1 <= int(count) <= limits.files:
        source.add_issue(
            "malformed", what=f"FILE_COUNT of {INI_NAME}", actual=count or "missing", expected=f"1 to {limits.files:,}"
        )
        count = "0"
    for section, key in [
        ("HIERARCHICAL", "INDEXFILE"),
        *(("DATAFILE", f"FILE_{index}") for index in range(int(count))),
    ]:
        if not last_value(entries, section, key):
            source.add_issue("malformed", what=f"{key} of {INI_NAME}", actual="missing", expected="a file's name")
    return sorted({name for key, values in file_entries if key != "FILE_COUNT" for name in values if name})


def _is_unsafe_name(name: str) -> bool:
    """Whether a name is a path, a drive or a parent folder."""
    return name in (".", "..") or any(character in name for character in ("/", "\\", ":", "\0"))


def _scale_statements(entries: dict[tuple[str, str], list[str]], limits: SlideLimits) -> tuple[ScaleStatement, ...]:
    """The scale of the finest level. The lens's magnification says nothing: a camera's adapter changes it by half."""
    section = last_value(entries, "HIERARCHICAL", "HIER_0_VAL_0_SECTION")
    x, y = (parse_decimal(last_value(entries, section, f"MICROMETER_PER_PIXEL_{axis}")) for axis in "XY")
    return () if y is None else tuple(state_scale("Slidedat.ini MICROMETER_PER_PIXEL", x, y, limits))
