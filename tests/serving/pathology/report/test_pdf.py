from __future__ import annotations

import hashlib
import io
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from serving.pathology.report import pdf, text
from tests.serving.pathology import fake_readings
from tests.serving.pathology.fake_readings import ABSTAINED, AMENDED, READING, SIGNED


@pytest.fixture(scope="module")
def pictures() -> tuple[bytes, Any, list[tuple[str, bytes]]]:
    evidence = READING["evidence"]
    captions = [pdf.caption(tile, number) for number, tile in enumerate(evidence, 1)]
    return (
        fake_readings.overview(400),
        fake_readings.heatmap()[0],
        list(zip(captions, fake_readings.tiles(evidence), strict=True)),
    )


def parse_pdf(data: bytes) -> tuple[PdfReader, str]:
    reader = PdfReader(io.BytesIO(data))
    words = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in reader.pages))
    return reader, re.sub(r"(?<=[\u3000-\uffef]) (?=[\u3000-\uffef])", "", words)  # lines break between any two letters


def render_without_images(body: dict[str, Any]) -> tuple[PdfReader, str]:
    return parse_pdf(pdf.render(body, None, None))


def test_a_draft_says_on_every_page_that_it_is_not_signed(pictures):
    reader, _ = parse_pdf(pdf.render(READING, *pictures))
    assert len(reader.pages) >= 2
    for page in reader.pages:
        words = page.extract_text()
        assert "DRAFT - not signed" in words
        assert "草稿 - 未签发" in words


def test_a_report_gives_findings_and_provenance_in_both_languages(pictures):
    _, words = parse_pdf(pdf.render(SIGNED, *pictures))
    for expected in (
        "SIGNED 已签发 v1", "High-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变", "Positive", "阳性",
        "0.934", "0.082", "73.1%", "Satisfactory for evaluation.", "标本满意。", "王敏", "110330200012345",
        "HPV 16 was found", "never lowers the image result", "绝不降低图像结果", "x 1,026 y 770", "2026.11.25-1",
        "Sensitivity is at least 0.951", "灵敏度不低于0.951", "pathology-2026-11", READING["slide"]["sha256"],
        READING["model"]["bundle"], READING["config_sha256"], "0.499 × 0.499 (from the file 取自文件)",
        "must not be used for diagnosis without a pathologist", "阴性分流不能排除疾病", "SIMULATED", "模拟数据",
    ):  # fmt: skip
        assert expected in words, expected
    assert "DRAFT" not in words


def test_an_amended_report_gives_its_version_the_replaced_one_and_the_reason():
    _, words = render_without_images(AMENDED)
    for expected in ("AMENDED 已更正 v2", "replaces 替代 v1", "Second look at conference", "会诊复核", "ASC-H"):
        assert expected in words, expected


def test_an_abstention_gives_its_reasons_and_only_simulated_readings_have_a_banner():
    _, words = render_without_images(ABSTAINED)
    assert "No answer 不作判断" in words
    assert "unlike anything the model learned from" in words
    assert "Unknown: the request form and the record hold no relevant information." in words
    assert "SIMULATED" not in words


def test_only_the_embedded_font_is_used(pictures):
    reader, _ = parse_pdf(pdf.render(SIGNED, *pictures))
    fonts = {str(font["/BaseFont"]): font for page in reader.pages for font in _fonts(page)}
    assert fonts
    assert all("NotoSansSC" in name and "/FontFile2" in font["/FontDescriptor"] for name, font in fonts.items()), fonts


def _fonts(page: Any) -> list[Any]:
    return [font.get_object() for font in page["/Resources"]["/Font"].values()]


def test_one_body_gives_the_same_bytes_in_every_thread(pictures):
    first = pdf.render(SIGNED, *pictures)
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(pdf.render(SIGNED, *pictures))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [first] * 4


def test_long_findings_continue_on_further_pages():
    findings = "Koilocytes are seen. 可见挖空细胞。" * 400 + "\n\n" + "x" * 4_000 + "\nthe last word 末句"
    reader, words = render_without_images({**SIGNED, "findings": findings})
    assert len(reader.pages) >= 4
    assert "the last word 末句" in words


HOSTILE = "<b>bold</b> <para> &amp; </font> <img src='file:///etc/passwd'/>"
HOSTILE += " \x00\x07\u202e\u2066 ]]> 龘𠮷😀 \ud800 %s {0} \\( )"


def test_markup_is_printed_and_control_characters_are_dropped():
    signer = {"name": HOSTILE, "licence": HOSTILE * 50}
    body = {**AMENDED, "findings": HOSTILE, "diagnosis": HOSTILE, "reason": HOSTILE * 30, "signed_by": signer}
    body |= {"accession": HOSTILE, "model": {"name": HOSTILE, "version": HOSTILE * 9, "bundle": HOSTILE}}
    reader, words = render_without_images(body)
    assert "<b>bold</b> <para> &amp; </font> <img src='file:///etc/passwd'/>" in words
    assert "\u202e" not in words
    assert "\x00" not in words
    assert text.MISSING_GLYPH in words  # for characters that the font lacks
    assert "\x00" not in str(reader.metadata)


@settings(max_examples=15)
@given(st.text(max_size=400))
def test_any_text_can_be_printed(content):
    signer = {"name": content, "licence": content}
    render_without_images(
        {**SIGNED, "findings": content, "diagnosis": content, "accession": content, "signed_by": signer}
    )


def test_the_shipped_font_has_the_digest_in_its_readme():
    digest = hashlib.sha256(text.FONT_FILE.read_bytes()).hexdigest()
    assert f"`{digest}`" in (Path(text.FONT_FILE).parent / "README.md").read_text()
    assert "SIL OPEN FONT LICENSE" in (Path(text.FONT_FILE).parent / "OFL.txt").read_text().upper()


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        (None, "5 focal planes, 1 µm apart; each tile in the sharpest 5 个焦平面，间距 1 µm；各图块取最清晰者"),
        (2, "focal plane 2 of 5, 1 µm apart, counted from the slide"),
    ],
)
def test_a_report_says_which_focal_planes_were_read(plane, expected):
    slide = READING["slide"] | {"planes": 5, "plane_spacing": 1.0, "plane": plane}
    _, words = render_without_images({**READING, "slide": slide})
    assert expected.replace(" ", "") in words.replace(" ", "")
    assert "焦平面" not in render_without_images(READING)[1]
