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
    spots = READING["evidence"]
    captions = [pdf.caption(spot, number) for number, spot in enumerate(spots, 1)]
    return (
        fake_readings.overview(400),
        fake_readings.heat()[0],
        list(zip(captions, fake_readings.tiles(spots), strict=True)),
    )


def read(data: bytes) -> tuple[PdfReader, str]:
    reader = PdfReader(io.BytesIO(data))
    words = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in reader.pages))
    return reader, re.sub(r"(?<=[\u3000-\uffef]) (?=[\u3000-\uffef])", "", words)  # lines break between any two letters


def bare(body: dict[str, Any]) -> tuple[PdfReader, str]:
    return read(pdf.render(body, None, None))


def test_a_draft_says_on_every_page_that_nobody_signed_it(pictures):
    reader, _ = read(pdf.render(READING, *pictures))
    assert len(reader.pages) >= 2
    for page in reader.pages:
        words = page.extract_text()
        assert "DRAFT - not signed" in words
        assert "草稿 - 未签发" in words


def test_a_report_tells_in_both_languages_what_was_found_and_by_what(pictures):
    _, words = read(pdf.render(SIGNED, *pictures))
    for told in (
        "SIGNED 已签发 v1", "High-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变", "Positive", "阳性",
        "0.934", "0.082", "73.1%", "Satisfactory for evaluation.", "标本满意。", "王敏", "110330200012345",
        "HPV 16 was found", "never lowers the image result", "绝不降低图像结果", "x 1,026 y 770", "2026.11.25-1",
        "Sensitivity is at least 0.951", "灵敏度不低于0.951", "pathology-2026-11", READING["slide"]["sha256"],
        READING["model"]["bundle"], READING["config_sha256"], "0.499 × 0.499 (from the file 取自文件)",
        "not for diagnosis without a pathologist", "阴性分流不能排除疾病", "SIMULATED", "模拟数据",
    ):  # fmt: skip
        assert told in words, told
    assert "DRAFT" not in words


def test_an_amended_report_gives_its_version_what_it_replaces_and_why():
    _, words = bare(AMENDED)
    for told in ("AMENDED 已更正 v2", "replaces 替代 v1", "Second look at conference", "会诊复核", "ASC-H"):
        assert told in words, told


def test_a_slide_without_an_answer_gives_its_reasons_and_no_banner_where_nothing_was_simulated():
    _, words = bare({**ABSTAINED, "classes": [], "probability": None, "evidence": []})
    assert "No answer 不作判断" in words
    assert "unlike anything the model learned from" in words
    assert "Not known: nothing in the form or the record counts." in words
    assert "SIMULATED" not in words


def test_the_fonts_are_embedded_and_nothing_else_is_used(pictures):
    reader, _ = read(pdf.render(SIGNED, *pictures))
    fonts = {str(font["/BaseFont"]): font for page in reader.pages for font in _fonts(page)}
    assert fonts
    assert all("NotoSansSC" in name and "/FontFile2" in font["/FontDescriptor"] for name, font in fonts.items()), fonts


def _fonts(page: Any) -> list[Any]:
    return [font.get_object() for font in page["/Resources"]["/Font"].values()]


def test_the_same_body_gives_the_same_bytes_also_from_several_threads(pictures):
    first = pdf.render(SIGNED, *pictures)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(pdf.render(SIGNED, *pictures))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [first] * 4


def test_long_findings_flow_on_to_further_pages():
    long = "Koilocytes are seen. 可见挖空细胞。" * 400 + "\n\n" + "x" * 4_000 + "\nthe last word 末句"
    reader, words = bare({**SIGNED, "findings": long})
    assert len(reader.pages) >= 4
    assert "the last word 末句" in words


HOSTILE = "<b>bold</b> <para> &amp; </font> <img src='file:///etc/passwd'/>"
HOSTILE += " \x00\x07\u202e\u2066 ]]> 龘𠮷😀 \ud800 %s {0} \\( )"


def test_markup_and_control_characters_in_a_text_are_shown_or_dropped_and_never_obeyed():
    signer = {"name": HOSTILE, "licence": HOSTILE * 50}
    body = {**AMENDED, "findings": HOSTILE, "diagnosis": HOSTILE, "reason": HOSTILE * 30, "signed_by": signer}
    body |= {"accession": HOSTILE, "model": {"name": HOSTILE, "version": HOSTILE * 9, "bundle": HOSTILE}}
    reader, words = bare(body)
    assert "<b>bold</b> <para> &amp; </font> <img src='file:///etc/passwd'/>" in words
    assert "\u202e" not in words
    assert "\x00" not in words
    assert text.MISSING_GLYPH in words  # what the font cannot draw is seen to be missing
    assert "\x00" not in str(reader.metadata)


@settings(max_examples=15)
@given(st.text(max_size=400))
def test_any_text_can_be_printed(told):
    bare(
        {**SIGNED, "findings": told, "diagnosis": told, "accession": told, "signed_by": {"name": told, "licence": told}}
    )


def test_the_shipped_font_is_the_one_written_beside_it():
    digest = hashlib.sha256(text.FONT_FILE.read_bytes()).hexdigest()
    assert f"`{digest}`" in (Path(text.FONT_FILE).parent / "README.md").read_text()
    assert "SIL OPEN FONT LICENSE" in (Path(text.FONT_FILE).parent / "OFL.txt").read_text().upper()
