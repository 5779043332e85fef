"""The report as PDF: A4, English and Chinese side by side, the same bytes for the same body.

render(body, overview, heatmap, [(caption(tile, 1), jpeg), ...])      # bytes

Its header says first whether a pathologist has signed it. Long text continues on further pages, and is never
interpreted as markup.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from reportlab.lib.colors import HexColor
from reportlab.lib.units import mm
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    KeepTogether,
    NextPageTemplate,
    PageTemplate,
    Spacer,
    Table,
)

from serving.pathology.labels import (
    INTENDED_USE_LIMITS,
    MPP_SOURCE_LABELS,
    PATIENT_RISK_NOTE,
    REJECTION_REASONS,
    RISK_LEVEL_LABELS,
    SPECIMEN_LABELS,
    TRIAGE_LABELS,
    TRIAGE_MEANINGS,
    BilingualLabel,
    ReportBody,
    diagnosis_label,
    label_for,
    report_status,
)
from serving.pathology.report import text
from serving.pathology.report.layout import (
    BAR_COLUMN_WIDTH,
    PANEL_CONTENT_WIDTH,
    ProbabilityBar,
    bilingual,
    field_table,
    fit_image,
    heading,
    panel,
    table,
)
from serving.pathology.report.page import (
    BAND_COLORS,
    CONTENT_WIDTH,
    LABEL_STYLE,
    MARGIN,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    RULE_COLOR,
    SMALL_STYLE,
    TEXT_STYLE,
    TRIAGE_STYLE,
    WARNING_COLOR,
    canvas_class,
    document_properties,
    header_height,
    make_style,
)
from serving.pathology.report.pictures import Heatmap, class_colour, overlay_heatmap
from serving.pathology.report.text import paragraph, paragraphs, single_line
from serving.pathology.slides.focus import planes_text

BOTTOM_MARGIN = 16 * mm
TILES_PER_ROW = 6  # evidence tiles in a row
TILE_SIZE = (CONTENT_WIDTH - (TILES_PER_ROW - 1) * 3 * mm) / TILES_PER_ROW
FIELD_LABEL_STYLE = LABEL_STYLE.clone("label-next", keepWithNext=1, spaceBefore=3)
CAPTION_STYLE = make_style("tiny", 6.8, leading=8.6)
TRIAGE_COLORS = {
    "negative": HexColor("#0b5d48"),
    "review": HexColor("#8a4b00"),
    "positive": HexColor("#9c1c13"),
    "abstained": HexColor("#3f4a55"),
}


def render(
    body: ReportBody, overview: bytes | None, heatmap: Heatmap | None, evidence_tiles: Sequence[tuple[str, bytes]] = ()
) -> bytes:
    """The PDF's bytes.

    overview: PNG or JPEG of the whole slide. heatmap: (rows, columns) of the grid. evidence_tiles: caption and JPEG.
    """
    text.load_font()
    story = [NextPageTemplate("later"), *_identification(body), *_pathologist_section(body), *_image_result(body)]
    story += [
        *_patient_risk(body),
        *_overview(body, overview, heatmap),
        *_evidence(evidence_tiles),
        *_provenance(body),
        *_limitations(body),
    ]
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer, pagesize=(PAGE_WIDTH, PAGE_HEIGHT), invariant=1, lang="en", **document_properties(body)
    )
    document.addPageTemplates([_page_template(body, "first"), _page_template(body, "later")])
    document.build(story, canvasmaker=canvas_class(body))
    return buffer.getvalue()


def caption(tile: Mapping[str, Any], number: int) -> str:
    """The caption of an evidence tile: its number on the overview, its class and its position."""
    return f"{number} · {tile['code']} {tile['probability']:.3f}\nx {tile['x']:,}  y {tile['y']:,}"


def _page_template(body: ReportBody, name: str) -> PageTemplate:
    reserved_height = header_height(body, name == "first") + 3 * mm
    frame = Frame(MARGIN, BOTTOM_MARGIN, CONTENT_WIDTH, PAGE_HEIGHT - reserved_height - BOTTOM_MARGIN, 0, 0, 0, 0)
    return PageTemplate(name, [frame])


def _identification(body: ReportBody) -> list[Flowable]:
    specimen = label_for(SPECIMEN_LABELS, body["specimen"])
    fields = [
        ("Accession", "病理号", body["accession"]),
        ("Specimen", "标本", f"{specimen.en} {specimen.zh}"),
        ("Slide", "切片编号", body["slide_id"]),
        ("Read at", "判读时间", body["created"]),
    ]
    return [field_table(fields)]


def _pathologist_section(body: ReportBody) -> list[Flowable]:
    status = report_status(body)
    flowables = [heading("Pathologist's report", "病理医师报告")]
    if status == "draft":
        notice = BilingualLabel(
            "Not signed. Everything in this document is a machine's draft until a pathologist signs it.",
            "未签发。在病理医师签发之前，本报告内容均为机器草稿。",
        )
        return [
            KeepTogether(
                [
                    flowables[0],
                    panel(
                        [bilingual(notice, make_style("unsigned", 9, BAND_COLORS["draft"]), PANEL_CONTENT_WIDTH)],
                        BAND_COLORS["draft"],
                    ),
                ]
            )
        ]
    diagnosis = diagnosis_label(body)
    if status == "amended":
        flowables += [
            paragraph("Reason for the amendment  更正原因", FIELD_LABEL_STYLE),
            *paragraphs(body.get("reason", ""), TEXT_STYLE),
        ]
    flowables.append(paragraph("Diagnosis  诊断", FIELD_LABEL_STYLE))
    if diagnosis is not None:
        text_style = make_style("diagnosis", 12.5, BAND_COLORS[status])
        flowables += (
            [bilingual(diagnosis, text_style)] if diagnosis.en != diagnosis.zh else paragraphs(diagnosis.en, text_style)
        )
    flowables += [
        paragraph("Findings  所见", FIELD_LABEL_STYLE),
        *paragraphs(body.get("findings") or "–", TEXT_STYLE),
        Spacer(1, 3),
    ]
    signer = body["signed_by"]
    signature = [
        ("Signed by", "签发医师", signer["name"]),
        ("Licence", "执业证号", signer["licence"]),
        ("Signed at", "签发时间", body["signed_at"]),
        ("Version", "版本", f"{body['version']}" + (f" (replaces 替代 {body['amends']})" if body["amends"] else "")),
    ]
    return [*flowables, field_table(signature)]


def _image_result(body: ReportBody) -> list[Flowable]:
    triage = label_for(TRIAGE_LABELS, body["triage"])
    color = TRIAGE_COLORS.get(str(body["triage"]), TRIAGE_COLORS["abstained"])
    head = paragraph(f"{triage.en}  {triage.zh}", TRIAGE_STYLE.clone("triage", textColor=color))
    probability = body["probability"]
    probability_text = "–" if probability is None else f"{probability:.3f}"
    figures = [
        paragraph(f"Calibrated probability of abnormality 校准后异常概率  {probability_text}", TEXT_STYLE),
        paragraph(f"Operating point 工作点  {body['threshold']:.3f}", TEXT_STYLE),
    ]
    flowables: list[Flowable] = [
        heading("Image result of the AI (triage)", "AI 图像结果（分流）"),
        table([[head, figures]], [CONTENT_WIDTH * 0.38, CONTENT_WIDTH * 0.62]),
        bilingual(label_for(TRIAGE_MEANINGS, body["triage"])),
        *(
            panel(
                [bilingual(BilingualLabel(reason["en"], reason["zh"]), TEXT_STYLE, PANEL_CONTENT_WIDTH)],
                TRIAGE_COLORS["abstained"],
            )
            for reason in body["abstained"]
        ),
    ]
    if body["classes"]:
        flowables.append(_class_bars(body))
    adequacy, counts = body["adequacy"], body["tiles"]
    unfit = ", ".join(
        f"{label_for(REJECTION_REASONS, name).en} {label_for(REJECTION_REASONS, name).zh} {count:,}"
        for name, count in counts["unfit"].items()
    )
    flowables.append(Spacer(1, 3))
    fields = [
        ("Adequacy", "标本满意度", f"{adequacy['en']} {adequacy['zh']}"),
        ("Usable tiles", "可判读图块", f"{adequacy['tiles']:,} (required 要求 {adequacy['needed']:,})"),
        ("Tiles read", "已读图块", f"{counts['read']:,} of 共 {counts['grid']:,}"),
        ("Rejected; unfamiliar", "不合格；陌生", f"{unfit or 'none 无'}; {counts['unknown']:,}"),
    ]
    return [KeepTogether(flowables), field_table(fields)]


def _class_bars(body: ReportBody) -> Table:
    """One row per class: code, names, a bar from 0 to 1, the probability."""
    likeliest = max(item["probability"] for item in body["classes"])
    rows = []
    for item in body["classes"]:
        text_style = TEXT_STYLE if item["probability"] == likeliest else make_style("other", 9, HexColor("#51606e"))
        name = f"{single_line(item['en'], 60)}  {single_line(item['zh'], 40)}"
        code, percentage = (
            paragraph(single_line(item["code"], 20), text_style),
            paragraph(f"{item['probability']:.1%}", text_style),
        )
        rows.append(
            [code, paragraph(name, SMALL_STYLE), ProbabilityBar(item["probability"], class_colour(item)), percentage]
        )
    widths = [17 * mm, CONTENT_WIDTH - 17 * mm - BAR_COLUMN_WIDTH - 16 * mm, BAR_COLUMN_WIDTH, 16 * mm]
    return table(rows, widths, ("VALIGN", (0, 0), (-1, -1), "MIDDLE"))


def _patient_risk(body: ReportBody) -> list[Flowable]:
    """The patient-level risk, which is separate from the image result and says so."""
    risk = body["patient"]
    flowables: list[Flowable] = [heading("Patient-level risk (separate)", "患者层面风险（独立于图像）")]
    if risk is None:
        notice = BilingualLabel(
            "Unknown: the request form and the record hold no relevant information.",
            "未知：申请单与健康档案中无相关信息。",
        )
        return [
            KeepTogether(
                [
                    *flowables,
                    panel(
                        [
                            bilingual(notice, TEXT_STYLE, PANEL_CONTENT_WIDTH),
                            bilingual(PATIENT_RISK_NOTE, SMALL_STYLE, PANEL_CONTENT_WIDTH),
                        ],
                        RULE_COLOR,
                    ),
                ]
            )
        ]
    level = label_for(RISK_LEVEL_LABELS, risk["level"])
    content: list[Flowable] = [paragraph(f"{level.en}  {level.zh}  ·  {risk['points']} points 分", TEXT_STYLE)]
    content += [
        bilingual(
            BilingualLabel(
                f"+{reason['points']}  {single_line(reason['en'])}", f"+{reason['points']}  {single_line(reason['zh'])}"
            ),
            TEXT_STYLE,
            PANEL_CONTENT_WIDTH,
        )
        for reason in risk["reasons"]
    ]
    if risk["unknown"]:
        content.append(paragraph(f"Unknown 未知: {single_line(', '.join(risk['unknown']))}", SMALL_STYLE))
    return [
        KeepTogether(
            [
                *flowables,
                panel([*content, bilingual(PATIENT_RISK_NOTE, SMALL_STYLE, PANEL_CONTENT_WIDTH)], RULE_COLOR),
            ]
        )
    ]


def _overview(body: ReportBody, overview: bytes | None, heatmap: Heatmap | None) -> list[Flowable]:
    if overview is None:
        return []
    overlay = overlay_heatmap(body, overview, heatmap)
    width, height = (CONTENT_WIDTH - 5 * mm) / 2, 82 * mm
    images = [fit_image(overview, width, height), fit_image(overlay, width, height)]
    captions = [
        paragraph("Slide 切片", SMALL_STYLE),
        paragraph("Probability of each tile, dark (low) to light (high); evidence tiles are numbered. "
                  "各图块概率，颜色越浅概率越高；编号为证据图块。", SMALL_STYLE),
    ]  # fmt: skip
    column_width = CONTENT_WIDTH / 2
    section_heading = heading("Overview and heatmap", "全片概览与热图")
    return [KeepTogether([section_heading, table([images, captions], [column_width, column_width])])]


def _evidence(tiles: Sequence[tuple[str, bytes]]) -> list[Flowable]:
    if not tiles:
        return []
    cells = [
        [
            fit_image(data, TILE_SIZE - 1 * mm, TILE_SIZE - 1 * mm),
            *(paragraph(single_line(text_line, 40), CAPTION_STYLE) for text_line in tile_caption.split("\n")),
        ]
        for tile_caption, data in tiles
    ]
    cells += [[Spacer(1, 1)]] * (-len(cells) % TILES_PER_ROW)
    rows = [
        table([cells[start : start + TILES_PER_ROW]], [CONTENT_WIDTH / TILES_PER_ROW] * TILES_PER_ROW)
        for start in range(0, len(cells), TILES_PER_ROW)
    ]
    section_heading = heading("Evidence (level-0 pixels)", "证据图块（第 0 层像素坐标）")
    return [KeepTogether([section_heading, rows[0]]), *rows[1:]]


def _provenance(body: ReportBody) -> list[Flowable]:
    slide, model = body["slide"], body["model"]
    mpp = " × ".join(f"{value:g}" for value in slide["mpp"]) if slide["mpp"] else "unknown 未知"
    mpp_source = label_for(MPP_SOURCE_LABELS, slide["mpp_from"])
    grid = body["grid"]
    fields = [
        ("Model", "模型", f"{model['name']} {model['version']}"),
        ("Weights digest", "权重摘要", model["bundle"]),
        ("Threshold", "工作点", f"{body['threshold']:.6g}"),
        ("Policy", "策略版本", body["policy_version"]),
        ("Config digest", "配置摘要", body["config_sha256"]),
        ("Slide SHA-256", "切片 SHA-256", slide["sha256"]),
        ("Slide", "切片", f"{slide['format']}, {slide['width']:,} × {slide['height']:,} px"),
        ("Microns per pixel", "每像素微米", f"{mpp} ({mpp_source.en} {mpp_source.zh})"),
        *([("Focal planes", "焦平面", " ".join(planes))] if (planes := planes_text(slide)) else []),
        ("Tiles", "图块", f"{grid['tile']} px at {grid['mpp']:g} µm/px"),
        ("Notes", "备注", ", ".join(map(str, slide["notes"])) or "none 无"),
    ]
    claim = bilingual(BilingualLabel(single_line(body["claim"]["en"], 600), single_line(body["claim"]["zh"], 400)))
    claim_label = paragraph("Performance claim at this operating point  该工作点的性能声明", LABEL_STYLE)
    section_heading = heading("Provenance", "来源与版本")
    return [KeepTogether([section_heading, field_table(fields, columns=1), Spacer(1, 3), claim_label, claim])]


def _limitations(body: ReportBody) -> list[Flowable]:
    section_heading = heading("Limitations of the AI", "AI 的适用限制")
    limits = bilingual(INTENDED_USE_LIMITS, TEXT_STYLE, PANEL_CONTENT_WIDTH)
    return [KeepTogether([section_heading, panel([limits], WARNING_COLOR)])]
