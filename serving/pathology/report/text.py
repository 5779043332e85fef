"""Text on a page: the one font, and free text made harmless."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

FONT = "NotoSansSC"
FILE = Path(__file__).parent / "fonts" / "NotoSansSC-Regular.ttf"
MISSING = "\u25a1"  # shown for what the font has no outline of
SAME = {0x3BC: 0xB5, 0x2011: 0x2D, 0x2010: 0x2D, 0x2212: 0x2D, 0x3000: 0x20, 0xA0: 0x20}  # drawn alike
FIELD = 300  # characters of a value that stands in a table; longer text flows by itself

_lock = threading.Lock()


@cache
def _outlines() -> frozenset[int]:
    """Code points that the font can draw; the font is known to reportlab from then on."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = TTFont(FONT, str(FILE))
    pdfmetrics.registerFont(font)
    return frozenset(font.face.charToGlyph)


def ready() -> None:
    """Reads the font once."""
    with _lock:
        _outlines()


def clean(text: object) -> str:
    """What can be drawn, in reading order: no control, format or private characters; line breaks stay."""
    drawn = _outlines()
    parts = []
    for letter in unicodedata.normalize("NFC", str(text).replace("\r\n", "\n").replace("\r", "\n")):
        if letter == "\n":
            parts.append(letter)
        elif letter == "\t":
            parts.append("    ")
        elif unicodedata.category(letter)[0] != "C":
            code = SAME.get(ord(letter), ord(letter))
            parts.append(chr(code) if code in drawn else MISSING)
    return "".join(parts)


def line(text: object, most: int = FIELD) -> str:
    """One line for a table or the band, cut where it is too long."""
    flat = " ".join(clean(str(text)[: 4 * most]).split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def markup(text: str) -> str:
    """For a paragraph: nothing in it is taken for a tag."""
    return escape(text, quote=False).replace("\n", "<br/>")


def chinese(text: str) -> bool:
    """Whether lines may break between any two letters."""
    return any("\u2e80" <= letter <= "\uffef" for letter in text)


def paragraph(text: object, style: Any) -> Any:
    """A flowable; its lines break as its language does."""
    from reportlab.platypus import Paragraph

    told = clean(text)
    return Paragraph(markup(told), style.clone(f"{style.name}-zh", wordWrap="CJK") if chinese(told) else style)


def paragraphs(text: object, style: Any) -> list[Any]:
    """Free text of any length: one flowable a line, so that it goes on over the page's end."""
    return [paragraph(part or " ", style) for part in clean(text).split("\n")]
