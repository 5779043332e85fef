"""Write a colour profile anew with the tags that transform colours, without its texts."""

from __future__ import annotations

from collections.abc import Iterator

HEADER_BYTES, ENTRY_BYTES, MAX_ENTRIES = 128, 12, 100
# ICC.1:2022, 9: curves, matrices, tables and the points they refer to
COLOR_TAGS = {
    *(b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"chad", b"lumi", b"gamt"),
    *(b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"chrm", b"cicp"),
}
COLOR_TYPES = {b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA ", b"chrm", b"cicp"}
CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}
SPACES = {b"RGB ", b"GRAY", b"CMYK", b"YCbr", b"Lab ", b"XYZ "}
PLATFORMS = {b"APPL", b"MSFT", b"SGI ", b"SUNW"}
NAME = "colour profile"


def clean_icc_profile(profile: bytes) -> bytes | None:
    """The profile without texts, names of devices and dates; None if it is no profile that can be followed."""
    if not _is_profile(profile):
        return None
    values = {signature: _trim(value) for signature, value in _tag_values(profile) if _is_color(signature, value)}
    is_version_4 = profile[8] >= 4
    values = {b"desc": _text(is_version_4), b"cprt": _text(is_version_4, is_copyright=True), **values}
    return _assemble(_clean_header(profile), values)


def profile_texts(profile: bytes) -> Iterator[bytes]:
    """The values that the clean profile does not hold."""
    if not _is_profile(profile):
        yield profile
        return
    names = [_text(is_version_4, is_copyright) for is_version_4 in (False, True) for is_copyright in (False, True)]
    for signature, value in _tag_values(profile):
        if not _is_color(signature, value) and value not in names:
            yield value[8:]  # after its type


def _is_profile(profile: bytes) -> bool:
    count = int.from_bytes(profile[HEADER_BYTES : HEADER_BYTES + 4])
    classes = (profile[12:16] in CLASSES, profile[16:20] in SPACES, profile[20:24] in SPACES)
    return profile[36:40] == b"acsp" and all(classes) and 1 <= count <= MAX_ENTRIES


def _tag_values(profile: bytes) -> Iterator[tuple[bytes, bytes]]:
    count = int.from_bytes(profile[HEADER_BYTES : HEADER_BYTES + 4])
    for start in range(HEADER_BYTES + 4, HEADER_BYTES + 4 + count * ENTRY_BYTES, ENTRY_BYTES):
        offset, size = _integers(profile[start + 4 : start + ENTRY_BYTES])
        value = profile[offset : offset + size]
        if len(value) == size >= 8:
            yield profile[start : start + 4], value


def _is_color(signature: bytes, value: bytes) -> bool:
    return signature in COLOR_TAGS and value[:4] in COLOR_TYPES


def _clean_header(profile: bytes) -> bytes:
    """Version, class, spaces, intent and illuminant; what names a maker, a model or a day is 0."""
    platform = profile[40:44] if profile[40:44] in PLATFORMS else bytes(4)
    version = bytes([min(profile[8], 5), profile[9] & 0xF0, 0, 0])
    intent = (int.from_bytes(profile[64:68]) & 3).to_bytes(4)
    illuminant = b"\0\0\xf6\xd6\0\1\0\0\0\0\xd3\x2d"  # D50, the only one that the standard allows
    header = bytes(4) + bytes(4) + version + profile[12:24] + bytes(12) + b"acsp" + platform
    return header.ljust(64, b"\0") + intent + illuminant + bytes(48)


def _integers(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:4]), int.from_bytes(data[4:8])


def _trim(value: bytes) -> bytes:
    """Without reserved bytes, and without bytes behind the numbers of the simple types."""
    kind, body = value[:4], value[8:]
    if kind == b"curv":
        body = body[: 4 + 2 * int.from_bytes(body[:4])]
    elif kind == b"para":
        body = body[: 4 + 4 * (1, 3, 4, 5, 7)[min(int.from_bytes(body[:2]), 4)]]
    elif kind == b"XYZ ":
        body = body[:12]
    elif kind == b"sf32":
        body = body[:36]
    return kind + bytes(4) + body


def _text(is_version_4: bool, is_copyright: bool = False) -> bytes:
    """The name or the copyright, which every profile must have; both say only what it is."""
    if is_version_4:
        text = NAME.encode("utf-16-be")
        return b"mluc" + bytes(4) + b"\0\0\0\1\0\0\0\x0cenUS" + len(text).to_bytes(4) + b"\0\0\0\x1c" + text
    text = NAME.encode() + b"\0"
    if is_copyright:
        return b"text" + bytes(4) + text
    return b"desc" + bytes(4) + len(text).to_bytes(4) + text + bytes(4 + 4 + 2 + 1 + 67)


def _assemble(header: bytes, values: dict[bytes, bytes]) -> bytes:
    offset = HEADER_BYTES + 4 + ENTRY_BYTES * len(values)
    table, data = len(values).to_bytes(4), b""
    for signature, value in values.items():
        table += signature + (offset + len(data)).to_bytes(4) + len(value).to_bytes(4)
        data += value.ljust(-(-len(value) // 4) * 4, b"\0")
    return (offset + len(data)).to_bytes(4) + header[4:] + table + data
