"""The report as PDF, for people: A4, English and Chinese side by side, the same bytes for the same body.

render(body, overview, heat, [(caption(spot, 1), jpeg), ...])      # bytes

The first thing it says is whether a pathologist signed it. Long text flows on; nothing in it is obeyed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.units import mm
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    NextPageTemplate,
    PageTemplate,
    Spacer,
    Table,
)

from serving.pathology.labels import (
    APART,
    LEVELS,
    MEANS,
    MPP_FROM,
    NOT_FOR,
    SPECIMENS,
    TRIAGE,
    UNFIT,
    Body,
    Words,
    diagnosis,
    named,
    status,
)
from serving.pathology.report import text
from serving.pathology.report.page import (
    BANDS,
    BIG,
    HEAD,
    HEIGHT,
    INNER,
    LABEL,
    MARGIN,
    PALE,
    RULE,
    SMALL,
    TEXT,
    VALUE,
    WARNING,
    WIDTH,
    pages,
    properties,
    style,
    top,
)
from serving.pathology.report.pictures import Heat, colour, with_heat
from serving.pathology.report.text import FONT, line, paragraph, paragraphs

BOTTOM = 16 * mm
ACROSS = 6  # evidence tiles in a row
TILE = (INNER - (ACROSS - 1) * 3 * mm) / ACROSS
BAR = 70 * mm
LABEL_NEXT = LABEL.clone("label-next", keepWithNext=1, spaceBefore=3)
TINY = style("tiny", 6.8, leading=8.6)
INSIDE = INNER - 12  # of a frame
TONES = {
    "negative": HexColor("#0b5d48"),
    "review": HexColor("#8a4b00"),
    "positive": HexColor("#9c1c13"),
    "abstained": HexColor("#3f4a55"),
}


def render(body: Body, overview: bytes | None, heat: Heat | None, tiles: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """overview: PNG or JPEG of the whole slide. heat: (rows, columns) of the grid. tiles: caption and picture."""
    text.ready()
    story = [NextPageTemplate("later"), *_opening(body), *_pathologist(body), *_image_result(body)]
    story += [*_patient(body), *_overview(body, overview, heat), *_evidence(tiles), *_origin(body), *_limits(body)]
    buffer = io.BytesIO()
    document = BaseDocTemplate(buffer, pagesize=(WIDTH, HEIGHT), invariant=1, lang="en", **properties(body))
    document.addPageTemplates([_template(body, "first"), _template(body, "later")])
    document.build(story, canvasmaker=pages(body))
    return buffer.getvalue()


def caption(spot: Mapping[str, Any], number: int) -> str:
    """Below an evidence tile: its number on the overview, what it looks like, where it lies."""
    return f"{number} · {spot['code']} {spot['probability']:.3f}\nx {spot['x']:,}  y {spot['y']:,}"


def _template(body: Body, name: str) -> PageTemplate:
    taken = top(body, name == "first") + 3 * mm
    frame = Frame(MARGIN, BOTTOM, INNER, HEIGHT - taken - BOTTOM, 0, 0, 0, 0)
    return PageTemplate(name, [frame])


def _heading(en: str, zh: str) -> Flowable:
    return paragraph(f"{en}  {zh}", HEAD)


def _both(words: Words, look: Any = TEXT, wide: float = INNER) -> Table:
    """English left, Chinese right."""
    return _grid([[paragraph(words.en, look), paragraph(words.zh, look)]], [wide * 0.54, wide * 0.46])


def _grid(rows: list[list[Any]], widths: list[float], *more: tuple[Any, ...]) -> Table:
    plain = [
        ("FONTNAME", (0, 0), (-1, -1), FONT),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 5),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
    ]
    return Table(rows, widths, style=[*plain, *more], hAlign="LEFT")


def _facts(facts: Sequence[tuple[str, str, str]], columns: int = 2) -> Table:
    """(English name, Chinese name, value), `columns` beside one another."""
    cells: list[Any] = []
    for en, zh, value in facts:
        cells += [paragraph(f"{en} {zh}", LABEL), paragraph(line(value), VALUE)]
    while len(cells) % (2 * columns):
        cells.append("")
    rows = [cells[at : at + 2 * columns] for at in range(0, len(cells), 2 * columns)]
    name = (29 if columns > 1 else 40) * mm
    return _grid(rows, [name, INNER / columns - name] * columns, ("LINEBELOW", (0, 0), (-1, -1), 0.3, RULE))


def _opening(body: Body) -> list[Flowable]:
    specimen = named(SPECIMENS, body["specimen"])
    facts = [
        ("Accession", "病理号", body["accession"]),
        ("Specimen", "标本", f"{specimen.en} {specimen.zh}"),
        ("Slide", "切片编号", body["slide_id"]),
        ("Read at", "判读时间", body["created"]),
    ]
    return [_facts(facts)]


def _pathologist(body: Body) -> list[Flowable]:
    kind = status(body)
    parts = [_heading("Pathologist's report", "病理医师报告")]
    if kind == "draft":
        told = Words(
            "Not signed. Everything in this paper is a machine's draft until a pathologist signs.",
            "未签发。在病理医师签发之前，本页内容均为机器草稿。",
        )
        return [
            KeepTogether(
                [parts[0], _framed([_both(told, style("unsigned", 9, BANDS["draft"]), INSIDE)], BANDS["draft"])]
            )
        ]
    found = diagnosis(body)
    if kind == "amended":
        parts += [paragraph("Reason of the amendment  更正原因", LABEL_NEXT), *paragraphs(body.get("reason", ""), TEXT)]
    parts.append(paragraph("Diagnosis  诊断", LABEL_NEXT))
    if found is not None:
        look = style("diagnosis", 12.5, BANDS[kind])
        parts += [_both(found, look)] if found.en != found.zh else paragraphs(found.en, look)
    parts += [paragraph("Findings  所见", LABEL_NEXT), *paragraphs(body.get("findings") or "–", TEXT), Spacer(1, 3)]
    signer = body["signed_by"]
    signature = [
        ("Signed by", "签发医师", signer["name"]),
        ("Licence", "执业证号", signer["licence"]),
        ("Signed at", "签发时间", body["signed_at"]),
        ("Version", "版本", f"{body['version']}" + (f" (replaces 替代 {body['amends']})" if body["amends"] else "")),
    ]
    return [*parts, _facts(signature)]


def _image_result(body: Body) -> list[Flowable]:
    triage = named(TRIAGE, body["triage"])
    tone = TONES.get(str(body["triage"]), TONES["abstained"])
    head = paragraph(f"{triage.en}  {triage.zh}", BIG.clone("triage", textColor=tone))
    probability = body["probability"]
    said = "–" if probability is None else f"{probability:.3f}"
    numbers = [
        paragraph(f"Calibrated probability of abnormality 校准后异常概率  {said}", TEXT),
        paragraph(f"Operating point 工作点  {body['threshold']:.3f}", TEXT),
    ]
    parts: list[Flowable] = [
        _heading("Image result of the AI (triage)", "AI 图像结果（分流）"),
        _grid([[head, numbers]], [INNER * 0.38, INNER * 0.62]),
        _both(named(MEANS, body["triage"])),
        *(_framed([_both(Words(why["en"], why["zh"]), TEXT, INSIDE)], TONES["abstained"]) for why in body["abstained"]),
    ]
    if body["classes"]:
        parts.append(_bars(body))
    adequacy, counts = body["adequacy"], body["tiles"]
    unfit = ", ".join(f"{named(UNFIT, name).en} {named(UNFIT, name).zh} {n:,}" for name, n in counts["unfit"].items())
    parts.append(Spacer(1, 3))
    facts = [
        ("Adequacy", "标本满意度", f"{adequacy['en']} {adequacy['zh']}"),
        ("Fit tiles", "可判读图块", f"{adequacy['tiles']:,} (needed 需要 {adequacy['needed']:,})"),
        ("Tiles read", "已读图块", f"{counts['read']:,} of 共 {counts['grid']:,}"),
        ("Unfit; unfamiliar", "不合格；陌生", f"{unfit or 'none 无'}; {counts['unknown']:,}"),
    ]
    return [KeepTogether(parts), _facts(facts)]


def _bars(body: Body) -> Table:
    """A class a row: code, names, a bar from 0 to 1, the share."""
    likeliest = max(one["probability"] for one in body["classes"])
    rows = []
    for one in body["classes"]:
        look = TEXT if one["probability"] == likeliest else style("other", 9, HexColor("#51606e"))
        name = f"{line(one['en'], 60)}  {line(one['zh'], 40)}"
        code, share = paragraph(line(one["code"], 20), look), paragraph(f"{one['probability']:.1%}", look)
        rows.append([code, paragraph(name, SMALL), Bar(one["probability"], colour(one)), share])
    widths = [17 * mm, INNER - 17 * mm - BAR - 16 * mm, BAR, 16 * mm]
    return _grid(rows, widths, ("VALIGN", (0, 0), (-1, -1), "MIDDLE"))


class Bar(Flowable):  # type: ignore[misc]  # reportlab brings no types
    """A share of 0 to 1; reportlab's own shapes would name a font that is not embedded."""

    def __init__(self, share: float, tone: tuple[int, int, int]):
        super().__init__()
        self.width, self.height = BAR - 4 * mm, 9
        self.share, self.tone = min(max(share, 0.0), 1.0), tone

    def draw(self) -> None:
        canvas, high = self.canv, self.height - 2
        canvas.setLineWidth(0.4)
        canvas.setStrokeColor(RULE)
        canvas.setFillColor(PALE)
        canvas.rect(0, 1, self.width, high, stroke=1, fill=1)
        canvas.setFillColorRGB(*(channel / 255 for channel in self.tone))
        canvas.rect(0, 1, self.width * self.share, high, stroke=0, fill=1)
        canvas.line(self.width / 2, 1, self.width / 2, high + 1)


def _patient(body: Body) -> list[Flowable]:
    """Apart from the image result, and saying so."""
    risk = body["patient"]
    parts: list[Flowable] = [_heading("Patient-level risk (separate)", "患者层面风险（独立于图像）")]
    if risk is None:
        told = Words("Not known: nothing in the form or the record counts.", "未知：申请单与档案中无可用信息。")
        return [KeepTogether([*parts, _framed([_both(told, TEXT, INSIDE), _both(APART, SMALL, INSIDE)], RULE)])]
    level = named(LEVELS, risk["level"])
    inside: list[Flowable] = [paragraph(f"{level.en}  {level.zh}  ·  {risk['points']} points 分", TEXT)]
    inside += [
        _both(Words(f"+{why['points']}  {line(why['en'])}", f"+{why['points']}  {line(why['zh'])}"), TEXT, INSIDE)
        for why in risk["reasons"]
    ]
    if risk["unknown"]:
        inside.append(paragraph(f"Unknown 未知: {line(', '.join(risk['unknown']))}", SMALL))
    return [KeepTogether([*parts, _framed([*inside, _both(APART, SMALL, INSIDE)], RULE)])]


def _framed(inside: list[Flowable], tone: Color) -> Table:
    look = [
        ("FONTNAME", (0, 0), (-1, -1), FONT),
        ("BOX", (0, 0), (-1, -1), 0.8, tone),
        ("BACKGROUND", (0, 0), (-1, -1), PALE),
        ("LEFTPADDING", (0, 0), (-1, -1), 6),
        ("RIGHTPADDING", (0, 0), (-1, -1), 6),
        ("TOPPADDING", (0, 0), (-1, -1), 4),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
    ]
    return Table([[inside]], [INNER], style=look, hAlign="LEFT", spaceAfter=3)


def _overview(body: Body, overview: bytes | None, heat: Heat | None) -> list[Flowable]:
    if overview is None:
        return []
    drawn = with_heat(body, overview, heat)
    wide, high = (INNER - 5 * mm) / 2, 82 * mm
    pair = [_picture(overview, wide, high), _picture(drawn, wide, high)]
    told = [
        paragraph("Slide 切片", SMALL),
        paragraph("Probability of each tile, dark low to light high; evidence numbered. "
                  "各图块概率，深低浅高；编号为证据图块。", SMALL),
    ]  # fmt: skip
    half = INNER / 2
    heading = _heading("Overview and heatmap", "全片概览与热图")
    return [KeepTogether([heading, _grid([pair, told], [half, half])])]


def _picture(data: bytes, width: float, height: float) -> Image:
    """As large as it fits, its shape kept."""
    image = Image(io.BytesIO(data))
    shrink = min(width / image.imageWidth, height / image.imageHeight)
    image.drawWidth, image.drawHeight = image.imageWidth * shrink, image.imageHeight * shrink
    image.hAlign = "LEFT"
    return image


def _evidence(tiles: Sequence[tuple[str, bytes]]) -> list[Flowable]:
    if not tiles:
        return []
    cells = [
        [_picture(data, TILE - 1 * mm, TILE - 1 * mm), *(paragraph(line(part, 40), TINY) for part in words.split("\n"))]
        for words, data in tiles
    ]
    cells += [[Spacer(1, 1)]] * (-len(cells) % ACROSS)
    rows = [_grid([cells[at : at + ACROSS]], [INNER / ACROSS] * ACROSS) for at in range(0, len(cells), ACROSS)]
    heading = _heading("Evidence (level-0 pixels)", "证据图块（第 0 层像素坐标）")
    return [KeepTogether([heading, rows[0]]), *rows[1:]]


def _origin(body: Body) -> list[Flowable]:
    slide, model = body["slide"], body["model"]
    mpp = " × ".join(f"{value:g}" for value in slide["mpp"]) if slide["mpp"] else "unknown 未知"
    where = named(MPP_FROM, slide["mpp_from"])
    grid = body["grid"]
    facts = [
        ("Model", "模型", f"{model['name']} {model['version']}"),
        ("Weights digest", "权重摘要", model["bundle"]),
        ("Threshold", "工作点", f"{body['threshold']:.6g}"),
        ("Policy", "策略版本", body["policy_version"]),
        ("Config digest", "配置摘要", body["config_sha256"]),
        ("Slide SHA-256", "切片 SHA-256", slide["sha256"]),
        ("Slide", "切片", f"{slide['format']}, {slide['width']:,} × {slide['height']:,} px"),
        ("Microns per pixel", "每像素微米", f"{mpp} ({where.en} {where.zh})"),
        ("Tiles", "图块", f"{grid['tile']} px at {grid['mpp']:g} µm/px"),
        ("Notes", "备注", ", ".join(map(str, slide["notes"])) or "none 无"),
    ]
    claim = _both(Words(line(body["claim"]["en"], 600), line(body["claim"]["zh"], 400)))
    claimed = paragraph("What is claimed at this threshold  该工作点的声明", LABEL)
    heading = _heading("Where this comes from", "来源与版本")
    return [KeepTogether([heading, _facts(facts, columns=1), Spacer(1, 3), claimed, claim])]


def _limits(body: Body) -> list[Flowable]:
    heading = _heading("What the AI is not for", "AI 不适用的情形")
    own = body["model"].get("not_for")
    parts: list[Flowable] = [_both(NOT_FOR, TEXT, INSIDE)]
    if own:
        parts += paragraphs(own, TEXT)
    return [KeepTogether([heading, _framed(parts[:1], WARNING)]), *parts[1:]]
