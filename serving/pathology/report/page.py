"""Page layout of the PDF report: the header band with the report's status, the footer, and the text styles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from serving.pathology.labels import (
    SIMULATED_NOTICE,
    SPECIMEN_LABELS,
    STATUS_LABELS,
    ReportBody,
    label_for,
    report_status,
)
from serving.pathology.report.text import FONT, single_line

PAGE_WIDTH, PAGE_HEIGHT = A4
MARGIN = 15 * mm
CONTENT_WIDTH = PAGE_WIDTH - 2 * MARGIN
TEXT_COLOR, MUTED_COLOR, RULE_COLOR, PANEL_COLOR = (
    HexColor(value) for value in ("#17212b", "#51606e", "#c9d2da", "#f3f6f8")
)
BAND_COLORS = {"draft": HexColor("#8a4b00"), "signed": HexColor("#0b5d48"), "amended": HexColor("#5b2a86")}
WARNING_COLOR = HexColor("#b3261e")
FIRST_BAND_HEIGHT, LATER_BAND_HEIGHT = 31 * mm, 15 * mm  # height of the header band


def make_style(name: str, size: float = 9.0, color: Color = TEXT_COLOR, **extra: Any) -> ParagraphStyle:
    """A paragraph style in the report's font; `size` in points."""
    options = {"leading": size * 1.38, "splitLongWords": 1, **extra}
    return ParagraphStyle(name, fontName=FONT, fontSize=size, textColor=color, **options)


TEXT_STYLE = make_style("text")
VALUE_STYLE = make_style("value", 8.4)
SMALL_STYLE = make_style("small", 7.5, MUTED_COLOR)
LABEL_STYLE = make_style("label", 7.5, MUTED_COLOR)
HEADING_STYLE = make_style("head", 11.5, HexColor("#0d3b57"), spaceBefore=9, spaceAfter=3, keepWithNext=1)
TRIAGE_STYLE = make_style("big", 20, leading=25)


def header_height(body: ReportBody, first: bool) -> float:
    """Height of the header band and the simulation banner, in points."""
    banner = 7 * mm if body["simulated"] else 0.0
    return float((FIRST_BAND_HEIGHT if first else LATER_BAND_HEIGHT) + banner)


class ReportCanvas(Canvas):  # type: ignore[misc]  # reportlab brings no types
    """Draws headers and footers at the end, when the number of pages is known."""

    body: ReportBody = {}

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "invariant": 1, "initialFontName": FONT})
        self._page_states: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._page_states.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, state in enumerate(self._page_states, 1):
            self.__dict__.update(state)
            _draw_header(self, self.body, number == 1)
            _draw_footer(self, self.body, number, len(self._page_states))
            Canvas.showPage(self)
        Canvas.save(self)


def canvas_class(body: ReportBody) -> type[ReportCanvas]:
    """The canvas class for one report, as reportlab takes a class and not an instance."""
    return type("PagesOf", (ReportCanvas,), {"body": body})


def _draw_header(canvas: Canvas, body: ReportBody, first: bool) -> None:
    status, height = report_status(body), FIRST_BAND_HEIGHT if first else LATER_BAND_HEIGHT
    canvas.saveState()
    canvas.setFillColor(BAND_COLORS[status])
    canvas.rect(0, PAGE_HEIGHT - height, PAGE_WIDTH, height, stroke=0, fill=1)
    title, baseline = _status_text(body), PAGE_HEIGHT - (12 * mm if first else 9.5 * mm)
    _draw_text(
        canvas, MARGIN, baseline, "Pathology reading report  病理判读报告", 15 if first else 10, white, bold=first
    )
    size = 14 if first else 10
    _draw_text(canvas, PAGE_WIDTH - MARGIN - stringWidth(title, FONT, size), baseline, title, size, white, bold=True)
    if first:
        specimen = label_for(SPECIMEN_LABELS, body["specimen"])
        _draw_text(canvas, MARGIN, baseline - 7 * mm, f"{specimen.en}  {specimen.zh}", 9.5, white)
        _draw_text(canvas, MARGIN, baseline - 13 * mm, _clip(_signature_text(body), CONTENT_WIDTH, 8.5), 8.5, white)
    if body["simulated"]:
        banner_bottom = PAGE_HEIGHT - height - 7 * mm
        canvas.setFillColor(WARNING_COLOR)
        canvas.rect(0, banner_bottom, PAGE_WIDTH, 7 * mm, stroke=0, fill=1)
        notice = f"{SIMULATED_NOTICE.en} {SIMULATED_NOTICE.zh}"
        _draw_text(
            canvas, (PAGE_WIDTH - stringWidth(notice, FONT, 7.6)) / 2, banner_bottom + 2.4 * mm, notice, 7.6, white
        )
    canvas.restoreState()


def _status_text(body: ReportBody) -> str:
    label = STATUS_LABELS[report_status(body)]
    version = "" if report_status(body) == "draft" else f"  v{int(body['version'])}"
    return f"{label.en}  {label.zh}{version}"


def _signature_text(body: ReportBody) -> str:
    """Who signed the report and when."""
    status = report_status(body)
    if status == "draft":
        return "Machine draft; not signed by a pathologist.  机器草稿，未经病理医师签发。"
    signer = body["signed_by"]
    signature = (
        f"{single_line(signer['name'], 60)}  {single_line(signer['licence'], 40)}  {single_line(body['signed_at'], 40)}"
    )
    if status == "signed":
        return signature
    reason = single_line(body.get("reason", ""), 200)
    return f"{signature}  ·  replaces 替代 v{int(body['amends'])}  ·  reason 原因: {reason}"


def _draw_footer(canvas: Canvas, body: ReportBody, number: int, page_count: int) -> None:
    canvas.saveState()
    canvas.setStrokeColor(RULE_COLOR)
    canvas.line(MARGIN, 13 * mm, PAGE_WIDTH - MARGIN, 13 * mm)
    model = f"{single_line(body['model']['name'], 40)} {single_line(body['model']['version'], 40)}"
    source = f"{single_line(body['accession'], 40)}  ·  {single_line(body['slide_id'], 40)}  ·  {model}"
    page_label = f"page 第 {number} / {page_count} 页"
    _draw_text(canvas, MARGIN, 9 * mm, _clip(source, CONTENT_WIDTH - 30 * mm, 7), 7, MUTED_COLOR)
    _draw_text(canvas, PAGE_WIDTH - MARGIN - stringWidth(page_label, FONT, 7), 9 * mm, page_label, 7, MUTED_COLOR)
    canvas.restoreState()


def _draw_text(canvas: Canvas, x: float, y: float, text: str, size: float, color: Color, bold: bool = False) -> None:
    """Bold text is drawn with an outline, because the font has a single weight."""
    canvas.saveState()
    text_object = canvas.beginText(x, y)
    text_object.setFont(FONT, size)
    text_object.setFillColor(color)
    text_object.setStrokeColor(color)
    text_object.setTextRenderMode(2 if bold else 0)
    canvas.setLineWidth(0.35)
    text_object.textOut(text)
    canvas.drawText(text_object)
    canvas.restoreState()


def _clip(text: str, width: float, size: float) -> str:
    if stringWidth(text, FONT, size) <= width:
        return text
    while text and stringWidth(f"{text}…", FONT, size) > width:
        text = text[:-1]
    return f"{text}…"


def document_properties(body: ReportBody) -> Mapping[str, str]:
    """The PDF's metadata."""
    return {
        "title": f"Pathology reading report {single_line(body['accession'], 60)} {_status_text(body)}",
        "author": single_line(body["signed_by"]["name"], 60) if body.get("signed_by") else "Yuheng (draft)",
        "subject": f"slide {single_line(body['slide_id'], 60)}",
        "creator": f"{single_line(body['model']['name'], 60)} {single_line(body['model']['version'], 60)}",
    }
