"""Text on a page: the one font, and free text made harmless."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

FONT = "NotoSansSC"
FONT_FILE = Path(__file__).parent / "fonts" / "NotoSansSC-Regular.ttf"
MISSING_GLYPH = "\u25a1"  # shown for what the font has no outline of
GLYPH_SUBSTITUTES = {0x3BC: 0xB5, 0x2011: 0x2D, 0x2010: 0x2D, 0x2212: 0x2D, 0x3000: 0x20, 0xA0: 0x20}  # drawn alike
MAX_FIELD_CHARS = 300  # characters of a value that stands in a table; longer text flows by itself

_font_lock = threading.Lock()


@cache
def _supported_code_points() -> frozenset[int]:
    """Code points that the font can draw; the font is known to reportlab from then on."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = TTFont(FONT, str(FONT_FILE))
    pdfmetrics.registerFont(font)
    return frozenset(font.face.charToGlyph)


def load_font() -> None:
    """Reads the font once."""
    with _font_lock:
        _supported_code_points()


def sanitize(text: object) -> str:
    """What can be drawn, in reading order: no control, format or private characters; line breaks stay."""
    supported = _supported_code_points()
    characters = []
    for character in unicodedata.normalize("NFC", str(text).replace("\r\n", "\n").replace("\r", "\n")):
        if character == "\n":
            characters.append(character)
        elif character == "\t":
            characters.append("    ")
        elif unicodedata.category(character)[0] != "C":
            code = GLYPH_SUBSTITUTES.get(ord(character), ord(character))
            characters.append(chr(code) if code in supported else MISSING_GLYPH)
    return "".join(characters)


def single_line(text: object, max_chars: int = MAX_FIELD_CHARS) -> str:
    """One line for a table or the band, cut where it is too long."""
    flat = " ".join(sanitize(str(text)[: 4 * max_chars]).split())
    return flat if len(flat) <= max_chars else f"{flat[: max_chars - 1]}…"


def escape_markup(text: str) -> str:
    """For a paragraph: nothing in it is taken for a tag."""
    return escape(text, quote=False).replace("\n", "<br/>")


def has_cjk(text: str) -> bool:
    """Whether lines may break between any two letters."""
    return any("\u2e80" <= character <= "\uffef" for character in text)


def paragraph(text: object, style: Any) -> Any:
    """A flowable; its lines break as its language does."""
    from reportlab.platypus import Paragraph

    sanitized = sanitize(text)
    return Paragraph(
        escape_markup(sanitized), style.clone(f"{style.name}-zh", wordWrap="CJK") if has_cjk(sanitized) else style
    )


def paragraphs(text: object, style: Any) -> list[Any]:
    """Free text of any length: one flowable a line, so that it goes on over the page's end."""
    return [paragraph(text_line or " ", style) for text_line in sanitize(text).split("\n")]
