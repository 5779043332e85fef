"""MRXS: a picture of the label under the slide's name, and beside it a folder whose Slidedat.ini names the rest."""

from __future__ import annotations

import configparser
from pathlib import Path

from datasets.slides.faults import fault
from datasets.slides.formats.tiff import plausible
from datasets.slides.limits import Limits
from datasets.slides.source import Ends, Found, Source

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
    text = ini.read_bytes().decode("utf-8-sig", "replace")
    table = configparser.RawConfigParser(strict=True, delimiters=("=",), comment_prefixes=("#",))
    try:
        table.read_string(text)
    except configparser.Error as error:
        raise Ends(
            fault("malformed", what=INI, found=str(error).splitlines()[0], needed="sections of KEY = value")
        ) from error
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


def _names(table: configparser.RawConfigParser, source: Source, limits: Limits) -> list[str]:
    """Every file that the INI names, whatever key it stands under."""
    count = table.get("DATAFILE", "FILE_COUNT", fallback="0")
    if not count.isdecimal() or not 1 <= int(count) <= limits.files:
        source.wrong("malformed", what=f"FILE_COUNT of {INI}", found=count, needed=f"1 to {limits.files:,}")
        count = "0"
    index = table.get("HIERARCHICAL", "INDEXFILE", fallback="")
    if not index:
        source.wrong("malformed", what=f"INDEXFILE of {INI}", found="missing", needed="a file's name")
    stated = (
        [value for key, value in table.items("DATAFILE") if key != "file_count"]
        if table.has_section("DATAFILE")
        else []
    )
    if len(stated) < int(count):
        source.wrong("malformed", what=f"DATAFILE of {INI}", found=f"{len(stated)} names", needed=f"{count}")
    return sorted({name.strip() for name in [index, *stated] if name.strip()})


def _leads_out(name: str) -> bool:
    """A name that is more than a name: a path, a drive, a parent."""
    return name in (".", "..") or any(mark in name for mark in ("/", "\\", ":", "\0"))


def _scale(table: configparser.RawConfigParser, limits: Limits) -> tuple[float, float] | None:
    section = table.get("HIERARCHICAL", "HIER_0_VAL_0_SECTION", fallback="")
    try:
        x, y = (float(table.get(section, f"MICROMETER_PER_PIXEL_{axis}", fallback="")) for axis in "XY")
    except ValueError:
        return None
    return plausible(x, y, limits)
