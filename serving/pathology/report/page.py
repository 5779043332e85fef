"""The page around the report: the band that says what it is, the foot, and the styles of what stands between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from serving.pathology.labels import SIMULATED, SPECIMENS, STATUS, Body, named, status
from serving.pathology.report.text import FONT, line

WIDTH, HEIGHT = A4
MARGIN = 15 * mm
INNER = WIDTH - 2 * MARGIN
INK, SOFT, RULE, PALE = (HexColor(value) for value in ("#17212b", "#51606e", "#c9d2da", "#f3f6f8"))
BANDS = {"draft": HexColor("#8a4b00"), "signed": HexColor("#0b5d48"), "amended": HexColor("#5b2a86")}
WARNING = HexColor("#b3261e")
FIRST, LATER = 31 * mm, 15 * mm  # height of the band


def style(name: str, size: float = 9.0, color: Color = INK, **more: Any) -> ParagraphStyle:
    given = {"leading": size * 1.38, "splitLongWords": 1, **more}
    return ParagraphStyle(name, fontName=FONT, fontSize=size, textColor=color, **given)


TEXT = style("text")
VALUE = style("value", 8.4)
SMALL = style("small", 7.5, SOFT)
LABEL = style("label", 7.5, SOFT)
HEAD = style("head", 11.5, HexColor("#0d3b57"), spaceBefore=9, spaceAfter=3, keepWithNext=1)
BIG = style("big", 20, leading=25)


def top(body: Body, first: bool) -> float:
    """Height taken from the top of a page."""
    banner = 7 * mm if body["simulated"] else 0.0
    return float((FIRST if first else LATER) + banner)


class Pages(Canvas):  # type: ignore[misc]  # reportlab brings no types
    """Knows how many pages there are before it draws any foot."""

    body: Body = {}

    def __init__(self, *given: Any, **more: Any):
        super().__init__(*given, **{**more, "invariant": 1, "initialFontName": FONT})
        self._kept: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._kept.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, kept in enumerate(self._kept, 1):
            self.__dict__.update(kept)
            _band(self, self.body, number == 1)
            _foot(self, self.body, number, len(self._kept))
            Canvas.showPage(self)
        Canvas.save(self)


def pages(body: Body) -> type[Pages]:
    return type("PagesOf", (Pages,), {"body": body})


def _band(canvas: Canvas, body: Body, first: bool) -> None:
    kind, height = status(body), FIRST if first else LATER
    canvas.saveState()
    canvas.setFillColor(BANDS[kind])
    canvas.rect(0, HEIGHT - height, WIDTH, height, stroke=0, fill=1)
    title, base = _standing(body), HEIGHT - (12 * mm if first else 9.5 * mm)
    _write(canvas, MARGIN, base, "Pathology reading report  病理判读报告", 15 if first else 10, white, bold=first)
    size = 14 if first else 10
    _write(canvas, WIDTH - MARGIN - stringWidth(title, FONT, size), base, title, size, white, bold=True)
    if first:
        specimen = named(SPECIMENS, body["specimen"])
        _write(canvas, MARGIN, base - 7 * mm, f"{specimen.en}  {specimen.zh}", 9.5, white)
        _write(canvas, MARGIN, base - 13 * mm, _clip(_under(body), INNER, 8.5), 8.5, white)
    if body["simulated"]:
        low = HEIGHT - height - 7 * mm
        canvas.setFillColor(WARNING)
        canvas.rect(0, low, WIDTH, 7 * mm, stroke=0, fill=1)
        told = f"{SIMULATED.en} {SIMULATED.zh}"
        _write(canvas, (WIDTH - stringWidth(told, FONT, 7.6)) / 2, low + 2.4 * mm, told, 7.6, white)
    canvas.restoreState()


def _standing(body: Body) -> str:
    words = STATUS[status(body)]
    version = "" if status(body) == "draft" else f"  v{int(body['version'])}"
    return f"{words.en}  {words.zh}{version}"


def _under(body: Body) -> str:
    """Whose word it is, and since when."""
    kind = status(body)
    if kind == "draft":
        return "Machine draft; no pathologist has signed it.  机器草稿，尚无病理医师签发。"
    signer = body["signed_by"]
    told = f"{line(signer['name'], 60)}  {line(signer['licence'], 40)}  {line(body['signed_at'], 40)}"
    if kind == "signed":
        return told
    return f"{told}  ·  replaces 替代 v{int(body['amends'])}  ·  reason 原因: {line(body.get('reason', ''), 200)}"


def _foot(canvas: Canvas, body: Body, number: int, of: int) -> None:
    canvas.saveState()
    canvas.setStrokeColor(RULE)
    canvas.line(MARGIN, 13 * mm, WIDTH - MARGIN, 13 * mm)
    where = f"{line(body['accession'], 40)}  ·  {line(body['slide_id'], 40)}  ·  {line(body['model']['name'], 40)} "
    where += line(body["model"]["version"], 40)
    count = f"page 第 {number} / {of} 页"
    _write(canvas, MARGIN, 9 * mm, _clip(where, INNER - 30 * mm, 7), 7, SOFT)
    _write(canvas, WIDTH - MARGIN - stringWidth(count, FONT, 7), 9 * mm, count, 7, SOFT)
    canvas.restoreState()


def _write(canvas: Canvas, x: float, y: float, text: str, size: float, color: Color, bold: bool = False) -> None:
    """The font has one weight; a heavier one is drawn with an outline."""
    canvas.saveState()
    told = canvas.beginText(x, y)
    told.setFont(FONT, size)
    told.setFillColor(color)
    told.setStrokeColor(color)
    told.setTextRenderMode(2 if bold else 0)
    canvas.setLineWidth(0.35)
    told.textOut(text)
    canvas.drawText(told)
    canvas.restoreState()


def _clip(text: str, width: float, size: float) -> str:
    if stringWidth(text, FONT, size) <= width:
        return text
    while text and stringWidth(f"{text}…", FONT, size) > width:
        text = text[:-1]
    return f"{text}…"


def properties(body: Body) -> Mapping[str, str]:
    """What the file says of itself."""
    return {
        "title": f"Pathology reading report {line(body['accession'], 60)} {_standing(body)}",
        "author": line(body["signed_by"]["name"], 60) if body.get("signed_by") else "Yuheng (draft)",
        "subject": f"slide {line(body['slide_id'], 60)}",
        "creator": f"{line(body['model']['name'], 60)} {line(body['model']['version'], 60)}",
    }
