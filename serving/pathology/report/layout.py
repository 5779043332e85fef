"""Building blocks of the PDF report: headings, bilingual text, tables, panels, bars and images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from reportlab.lib.colors import Color
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Image, Table

from serving.pathology.labels import BilingualLabel
from serving.pathology.report.page import (
    CONTENT_WIDTH,
    HEADING_STYLE,
    LABEL_STYLE,
    PANEL_COLOR,
    RULE_COLOR,
    TEXT_STYLE,
    VALUE_STYLE,
)
from serving.pathology.report.text import FONT, paragraph, single_line

BAR_COLUMN_WIDTH = 70 * mm
PANEL_CONTENT_WIDTH = CONTENT_WIDTH - 12  # inside a panel's padding


def heading(en: str, zh: str) -> Flowable:
    """A section heading in both languages."""
    return paragraph(f"{en}  {zh}", HEADING_STYLE)


def bilingual(label: BilingualLabel, text_style: Any = TEXT_STYLE, width: float = CONTENT_WIDTH) -> Table:
    """English on the left, Chinese on the right."""
    return table([[paragraph(label.en, text_style), paragraph(label.zh, text_style)]], [width * 0.54, width * 0.46])


def table(rows: list[list[Any]], widths: list[float], *extra_styles: tuple[Any, ...]) -> Table:
    """A table without lines; `widths` in points."""
    base_styles = [
        ("FONTNAME", (0, 0), (-1, -1), FONT),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 5),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ]
    return Table(rows, widths, style=[*base_styles, *extra_styles], hAlign="LEFT")


def field_table(fields: Sequence[tuple[str, str, str]], columns: int = 2) -> Table:
    """Fields of (English name, Chinese name, value), `columns` per row."""
    cells: list[Any] = []
    for en, zh, value in fields:
        cells += [paragraph(f"{en} {zh}", LABEL_STYLE), paragraph(single_line(value), VALUE_STYLE)]
    while len(cells) % (2 * columns):
        cells.append("")
    rows = [cells[start : start + 2 * columns] for start in range(0, len(cells), 2 * columns)]
    label_width = (29 if columns > 1 else 40) * mm
    return table(
        rows,
        [label_width, CONTENT_WIDTH / columns - label_width] * columns,
        ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE_COLOR),
    )


def panel(content: list[Flowable], color: Color) -> Table:
    """A box with a border of `color` around the content."""
    table_style = [
        ("FONTNAME", (0, 0), (-1, -1), FONT),
        ("BOX", (0, 0), (-1, -1), 0.8, color),
        ("BACKGROUND", (0, 0), (-1, -1), PANEL_COLOR),
        ("LEFTPADDING", (0, 0), (-1, -1), 6),
        ("RIGHTPADDING", (0, 0), (-1, -1), 6),
        ("TOPPADDING", (0, 0), (-1, -1), 4),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
    ]
    return Table([[content]], [CONTENT_WIDTH], style=table_style, hAlign="LEFT", spaceAfter=3)


class ProbabilityBar(Flowable):  # type: ignore[misc]  # reportlab brings no types
    """A bar from 0 to 1; reportlab's own charts would refer to a font that is not embedded."""

    def __init__(self, probability: float, rgb: tuple[int, int, int]):
        super().__init__()
        self.width, self.height = BAR_COLUMN_WIDTH - 4 * mm, 9
        self.probability, self.rgb = min(max(probability, 0.0), 1.0), rgb

    def draw(self) -> None:
        canvas, bar_height = self.canv, self.height - 2
        canvas.setLineWidth(0.4)
        canvas.setStrokeColor(RULE_COLOR)
        canvas.setFillColor(PANEL_COLOR)
        canvas.rect(0, 1, self.width, bar_height, stroke=1, fill=1)
        canvas.setFillColorRGB(*(channel / 255 for channel in self.rgb))
        canvas.rect(0, 1, self.width * self.probability, bar_height, stroke=0, fill=1)
        canvas.line(self.width / 2, 1, self.width / 2, bar_height + 1)


def fit_image(data: bytes, width: float, height: float) -> Image:
    """The image as large as fits, with its aspect ratio."""
    image = Image(io.BytesIO(data))
    scale = min(width / image.imageWidth, height / image.imageHeight)
    image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
    image.hAlign = "LEFT"
    return image
