"""Batches as banks send them, reported to other projects: answered row for row, or refused by name."""

from __future__ import annotations

import io

import polars as pl
import pytest
import xlsxwriter

from serving.decisions.batch.files.formats import MEDIA_TYPES
from tests.paths import FIELD_CASES

URL = "/v1/credit-limits/batch"
files = pytest.mark.skipif(not FIELD_CASES.is_dir(), reason="no folder of reported files")


async def send(client, content: bytes, format: str = "csv", query: str = "") -> pl.DataFrame:
    response = await client.post(URL + query, content=content, headers={"Content-Type": MEDIA_TYPES[format]})
    assert response.status_code == 200, response.text
    return pl.read_csv(io.BytesIO(response.content), infer_schema=False)


@files
def test_no_veto_in_other_words_is_as_an_empty_cell(inside):
    async def story(client, gateway):
        content = (FIELD_CASES / "a20_no_veto_in_other_words.csv").read_bytes()
        answers = await send(client, content, query="?keep=household_id")
        assert answers["error"].null_count() == 8
        assert answers.select("decision", "limit", "referral").unique().height == 1
        assert not answers["referral"].fill_null("").str.contains("veto").any()

    inside(story)


def test_an_unknown_veto_code_is_refused_by_name_in_a_batch_and_alone(inside):
    async def story(client, gateway):
        answers = await send(client, b"declared_income,veto_codes\n50000,wanted\n50000,X9\n50000,wanted; X9\n50000,\n")
        assert answers["error"].is_null().to_list() == [True, False, False, True]
        assert answers["error"].drop_nulls().str.contains("veto_codes is .*X9.*dishonest_debtor").all()
        assert "statutory_veto" in answers["referral"][0]
        assert "statutory_veto" not in (answers["referral"][3] or "")
        single = await client.post(
            "/v1/credit-limits", json={"indicators": {"declared_income": 50_000, "veto_codes": "X9"}}
        )
        assert (single.status_code, single.json()["errors"][0]["field"]) == (422, "veto_codes")

    inside(story)


@files
def test_a_number_of_23_digits_keeps_them_all(inside):
    async def story(client, gateway):
        content = (FIELD_CASES / "a30_long_numbers.ndjson").read_bytes()
        answers = await send(client, content, "ndjson", "?keep=loan_no&format=csv")
        assert answers["loan_no"].to_list() == [f"3302811961030412345678{i}" for i in range(3)]
        assert answers["error"].null_count() == 3

    inside(story)


@files
def test_one_inch_mark_faults_one_row_of_fifty_thousand(inside):
    async def story(client, gateway):
        content = (FIELD_CASES / "a32_one_inch_mark.csv").read_bytes()
        answers = await send(client, content, query="?keep=household_id")
        assert (answers.height, answers["error"].null_count()) == (50_000, 49_999)
        assert "quotation mark" in answers["error"][4]

    inside(story)


def workbook(rows: list[list[str]]) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
    return out.getvalue()


@pytest.mark.parametrize("format", ["csv", "xlsx"])
def test_empty_rows_and_columns_are_neither_answered_nor_charged(inside, format):
    rows = [["declared_income", "", ""], ["50000", "", ""], ["", "", ""], ["60000", "", ""], *[["", " ", ""]] * 20]

    async def story(client, gateway):
        content = workbook(rows) if format == "xlsx" else "\n".join(",".join(row) for row in rows).encode()
        response = await client.post(
            f"{URL}?format=csv", content=content, headers={"Content-Type": MEDIA_TYPES[format]}
        )
        answers = pl.read_csv(io.BytesIO(response.content), infer_schema=False)
        assert answers.height == 3  # the rows below the last one with a value are no rows
        assert answers["error"].is_null().to_list() == [True, False, True]
        assert "empty row" in answers["error"][1]
        batch = (await client.get(response.headers["location"])).json()
        assert (batch["rows"], batch["answered"]) == (3, 2)

    inside(story)


def test_a_csv_answer_holds_no_formula_and_leaves_numbers_as_they_are(inside):
    notes = ["=1+1", "+cmd|' /C calc'!A0", "-5", "+8613800138000", "@SUM(A1)", "-", "\t=2", "fine", "a=b"]
    content = pl.DataFrame({"declared_income": [50_000] * len(notes), "note": notes}).write_csv().encode()

    async def story(client, gateway):
        answers = await send(client, content, query="?keep=note")
        assert answers["note"].to_list() == [
            *("'=1+1", "'+cmd|' /C calc'!A0", "-5", "+8613800138000", "'@SUM(A1)", "'-", "'\t=2", "fine", "a=b")
        ]
        response = await client.post(
            f"{URL}?keep=note&format=xlsx", content=content, headers={"Content-Type": "text/csv"}
        )
        assert response.headers["content-type"] == MEDIA_TYPES["xlsx"]
        assert pl.read_excel(io.BytesIO(response.content))["note"].to_list() == notes  # a text cell runs nothing

    inside(story)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_batch_of_any_encoding_and_delimiter_is_answered(inside, encoding, delimiter):
    rows = [["declared_income", "tax_grade", "姓名"], ["50000", "A", "张三"], ["60000", "B", "李四"]]
    content = "".join(delimiter.join(row) + "\r\n" for row in rows).encode(encoding)

    async def story(client, gateway):
        answers = await send(client, content, query="?keep=姓名")
        assert answers["error"].null_count() == 2
        assert answers["姓名"].to_list() == ["张三", "李四"]

    inside(story)
