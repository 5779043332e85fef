"""MRXS: a picture of the label under the slide's name, and beside it a folder whose Slidedat.ini names the rest."""

from __future__ import annotations

from pathlib import Path

from datasets.slides.byte_source import Ends, Found, Source
from datasets.slides.errors import fault
from datasets.slides.formats.tiff import plausible
from datasets.slides.limits import Limits

INI = "Slidedat.ini"


def folder_of(path: Path) -> Path:
    return path.with_suffix("")


def is_mrxs(path: Path) -> bool:
    """Told by the folder, or by the name alone, lest the picture of the label pass for a flat image."""
    return path.suffix.lower() == ".mrxs" or (folder_of(path) != path and (folder_of(path) / INI).is_file())


def check(source: Source, limits: Limits) -> Found | None:
    folder = folder_of(source.path)
    ini = folder / INI
    if folder.is_symlink() or ini.is_symlink():
        raise Ends(fault("outside", what=source.path.name, found=(folder if folder.is_symlink() else ini).name))
    if not ini.is_file():
        raise Ends(fault("mrxs_alone", found=folder.name))
    if ini.stat().st_size > limits.text_bytes:
        raise Ends(fault("too_many", what=f"bytes in {INI}", found=ini.stat().st_size, most=limits.text_bytes))
    table = _read(ini.read_bytes().decode("utf-8-sig", "replace"))
    names = _names(table, source, limits)
    files = [source.path, ini]
    for name in names:
        part = folder / name
        if _leads_out(name) or part.is_symlink():
            source.wrong("outside", what=INI, found=name)
        elif not part.is_file():
            source.wrong("missing_part", what=INI, found=name)
        elif not part.stat().st_size:
            source.wrong("truncated", what=name, found=1, end=0)
        else:
            files.append(part)
    return Found(source.path, "mirax", (), _scale(table, limits), tuple(files))


def _read(text: str) -> dict[tuple[str, str], list[str]]:
    """(section, key): every value given for it. Lines are taken as GLib takes them, by which OpenSlide reads: spaces
    around do not count, upper and lower case differ, a line never continues the one before."""
    table: dict[tuple[str, str], list[str]] = {}
    section = ""
    for line in (each.strip(" \t\r\v\f") for each in text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            table.setdefault((section, key.strip()), []).append(value.strip())
    return table


def _one(table: dict[tuple[str, str], list[str]], section: str, key: str) -> str:
    return table.get((section, key), [""])[-1]


def _names(table: dict[tuple[str, str], list[str]], source: Source, limits: Limits) -> list[str]:
    """Every file that the INI names, in whatever section it does."""
    stated = [(key, values) for (_, key), values in table.items() if key == "INDEXFILE" or key.startswith("FILE_")]
    for key, values in stated:
        if len(values) > 1:
            source.wrong("duplicate", what=f"{key} of {INI}")
    count = _one(table, "DATAFILE", "FILE_COUNT")
    if not count.isdecimal() or not 1 <= int(count) <= limits.files:
        source.wrong(
            "malformed", what=f"FILE_COUNT of {INI}", found=count or "missing", needed=f"1 to {limits.files:,}"
        )
        count = "0"
    for section, key in [("HIERARCHICAL", "INDEXFILE"), *(("DATAFILE", f"FILE_{at}") for at in range(int(count)))]:
        if not _one(table, section, key):
            source.wrong("malformed", what=f"{key} of {INI}", found="missing", needed="a file's name")
    return sorted({name for key, values in stated if key != "FILE_COUNT" for name in values if name})


def _leads_out(name: str) -> bool:
    """A name that is more than a name: a path, a drive, a parent."""
    return name in (".", "..") or any(mark in name for mark in ("/", "\\", ":", "\0"))


def _scale(table: dict[tuple[str, str], list[str]], limits: Limits) -> tuple[float, float] | None:
    section = _one(table, "HIERARCHICAL", "HIER_0_VAL_0_SECTION")
    try:
        x, y = (float(_one(table, section, f"MICROMETER_PER_PIXEL_{axis}")) for axis in "XY")
    except ValueError:
        return None
    return plausible(x, y, limits)
