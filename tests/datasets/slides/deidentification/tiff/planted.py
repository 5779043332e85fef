"""Plant names into TIFF files of any kind, and look for them in all encodings."""

from __future__ import annotations

import base64
import struct

from datasets.slides.byte_source import open_source
from datasets.slides.deidentification.tiff.clean import clean_tiff
from datasets.slides.formats.tiff_directories import TYPE_WIDTHS, read_directories, read_directory, read_layout
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide

NAME = "Zhang San 张三"
PLAIN_NAME = "TEST PATIENT S26-00001"
# each as bytes of which an even number precedes what matters
ENCODINGS = {
    "utf-8": NAME.encode(),
    "utf-16-le": NAME.encode("utf-16-le"),
    "utf-16-be": NAME.encode("utf-16-be"),
    "gbk": NAME.encode("gbk"),
    "latin-1": "José Müller".encode("latin-1"),
    "base64": base64.b64encode(NAME.encode()),
    "ascii": PLAIN_NAME.encode(),
}
ASCII, LONG, IFD = 2, 4, 13
# the simulated slides of VENDOR_SLIDES by OpenSlide's name of the vendor
FILES = {
    "hamamatsu": "simulated_hamamatsu.ndpi",
    "leica": "simulated_leica.scn",
    "ventana": "simulated_ventana.bif",
    "philips": "simulated_philips.tiff",
}
KEY = bytes(32)
Planted = dict[int, tuple[int, bytes]]  # tag -> type and bytes


def names_in(data: bytes) -> list[str]:
    """The encodings in which a planted name, or half of it, is in the bytes."""
    pieces = {"utf-8 family name": "张三".encode(), "gbk family name": "张三".encode("gbk"), "first name": b"Zhang"}
    pieces |= {"utf-16": "Zhang".encode("utf-16-le")[:-1], "latin-1 name": "Müller".encode("latin-1")}
    pieces |= {"number": b"S26-00001", "barcode": b"TEST-0001", "base64 barcode": b"VEVTVC0wMDAx"}
    return [key for key, value in (ENCODINGS | pieces).items() if value in data]


def copy_of(path, store):
    """The clean copy, which replaces the previous one in the store."""
    for previous in store.iterdir():
        previous.unlink()
    return clean_tiff(check_slide(path), store, SLIDE_LIMITS, KEY)


def plant(path, planted: Planted, number: int = 0, tail: bytes = b"") -> bytes:
    """The file with these tags in its directory `number`, written anew at the end, and `tail` behind everything."""
    data = bytearray(path.read_bytes())
    with open_source(path) as source:
        layout, _ = read_layout(source)
        directories = read_directories(source, SLIDE_LIMITS)
    directory = directories[number]
    entries = {
        entry.tag: (entry.kind, bytes(data[entry.offset : entry.offset + entry.length]))
        for entry in directory.entries.values()
    }
    offset = _append_directory(data, layout, entries | planted, _next_offset(path, directories, number))
    link, width = directories[number - 1].next_link if number else ((8, 8) if layout.is_big else (4, 4))
    data[link : link + width] = offset.to_bytes(width, "little" if layout.byte_order == "<" else "big")
    return bytes(data) + tail


def append_sub_directory(data: bytearray, layout, planted: Planted) -> int:
    return _append_directory(data, layout, planted, 0)


def _next_offset(path, directories, number: int) -> int:
    with open_source(path) as source:
        layout, _ = read_layout(source)
        return read_directory(source, layout, directories[number].offset, number, SLIDE_LIMITS)[1]


def _append_directory(data: bytearray, layout, entries: Planted, next_offset: int) -> int:
    order, inline = layout.byte_order, 8 if layout.is_big else 4
    packed = b""
    for tag, (kind, raw) in sorted(entries.items()):
        count = len(raw) // TYPE_WIDTHS[kind]
        if len(raw) > inline:
            data += bytes(len(data) % 2)
            offset = len(data)
            data += raw
            raw = struct.pack(order + ("Q" if layout.is_big else "I"), offset)
        packed += struct.pack(order + ("HHQ" if layout.is_big else "HHI"), tag, kind, count) + raw.ljust(inline, b"\0")
    data += bytes(len(data) % 2)
    start = len(data)
    data += struct.pack(order + ("Q" if layout.is_big else "H"), len(entries)) + packed
    data += struct.pack(order + ("Q" if layout.is_big or layout.is_ndpi else "I"), next_offset)
    data += bytes(4 * len(entries)) if layout.is_ndpi else b""
    return start
