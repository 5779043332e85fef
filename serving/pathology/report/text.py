"""Text of the PDF report: the embedded font, and sanitising of free text."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

FONT = "NotoSansSC"
FONT_FILE = Path(__file__).parent / "fonts" / "NotoSansSC-Regular.ttf"
MISSING_GLYPH = "\u25a1"  # for characters that the font lacks
GLYPH_SUBSTITUTES = {0x3BC: 0xB5, 0x2011: 0x2D, 0x2010: 0x2D, 0x2212: 0x2D, 0x3000: 0x20, 0xA0: 0x20}  # look the same
MAX_FIELD_CHARS = 300  # of a value in a table; longer text is set as paragraphs

_font_lock = threading.Lock()


@cache
def _supported_code_points() -> frozenset[int]:
    """Register the font with reportlab and return the code points that it has."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    font = TTFont(FONT, str(FONT_FILE))
    pdfmetrics.registerFont(font)
    return frozenset(font.face.charToGlyph)


def load_font() -> None:
    """Register the font with reportlab, once per process."""
    with _font_lock:
        _supported_code_points()


def sanitize(text: object) -> str:
    """Remove control, format and private-use characters except line breaks, and replace those that the font lacks."""
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
    """Sanitised text as one line of at most `max_chars` characters, for tables and the header band."""
    flat = " ".join(sanitize(str(text)[: 4 * max_chars]).split())
    return flat if len(flat) <= max_chars else f"{flat[: max_chars - 1]}…"


def escape_markup(text: str) -> str:
    """Escape text for a reportlab paragraph, so that nothing in it is read as markup."""
    return escape(text, quote=False).replace("\n", "<br/>")


def has_cjk(text: str) -> bool:
    """Whether the text holds CJK characters, between which lines may break."""
    return any("\u2e80" <= character <= "\uffef" for character in text)


def paragraph(text: object, style: Any) -> Any:
    """A flowable with the line breaking of the text's language."""
    from reportlab.platypus import Paragraph

    sanitized = sanitize(text)
    return Paragraph(
        escape_markup(sanitized), style.clone(f"{style.name}-zh", wordWrap="CJK") if has_cjk(sanitized) else style
    )


def paragraphs(text: object, style: Any) -> list[Any]:
    """Free text of any length: one flowable per line, so that it may continue on the next page."""
    return [paragraph(text_line or " ", style) for text_line in sanitize(text).split("\n")]
