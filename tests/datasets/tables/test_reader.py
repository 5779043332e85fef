"""A table is read right from any kind of file, or refused in a sentence; nothing about it is lost in silence."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import sqlite3
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import datasets.tables
from datasets.errors import DataError, UnreadableFileError
from datasets.tables.reader import ReadOptions, read_raw

HEADER, ROWS = ["编号", "收入", "作物"], [["007", "1,200", "水稻"], ["008", "", "茶叶"], ["009", "950.5", "杨梅"]]
EXPECTED = [tuple(value or None for value in row) for row in ROWS]


def rendered(delimiter: str = ",", newline: str = "\n", rows=(HEADER, *ROWS)) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=newline).writerows(rows)
    return out.getvalue()


def written(folder, content: str | bytes, name: str = "loans.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030", "gbk"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encoding_delimiter_and_line_end_are_recognised(tmp_path, encoding, delimiter, newline):
    raw = read_raw(written(tmp_path, rendered(delimiter, newline).encode(encoding)))
    assert raw.frame.columns == HEADER
    assert raw.frame.rows() == EXPECTED
    assert not raw.faults


def test_latin_letters_are_read_in_their_encoding(tmp_path):
    rows = [["Straße", "Größe"], ["Müllerstraße", "1"], ["Königsallee", "2"], ["Rue du Château", "3"]]
    raw = read_raw(written(tmp_path, rendered(";", rows=rows).encode("cp1252")))
    assert raw.frame.rows() == [tuple(row) for row in rows[1:]]
    assert "Latin-1" in raw.format


def test_a_damaged_line_of_a_utf8_file_is_a_fault_of_its_row(tmp_path):
    content = rendered().encode() + b"010,\xff\xfe,x\n"
    raw = read_raw(written(tmp_path, content))
    assert raw.frame.rows() == EXPECTED
    assert [(fault.row, "UTF-8" in fault.actual) for fault in raw.faults] == [(4, True)]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_compressed_text_is_read_whatever_its_name(tmp_path, compress):
    assert read_raw(written(tmp_path, compress(rendered().encode()), "loans")).frame.rows() == EXPECTED


def workbook(folder, rows, name: str = "loans.xlsx", merged=()):
    path = folder / name
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("贷款")
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
        for first, last, text in merged:
            sheet.merge_range(0, first, 0, last, text)
    return path


def test_a_workbook_is_read_below_its_title_and_without_its_empty_rows(tmp_path):
    raw = read_raw(workbook(tmp_path, [["2026年贷款明细"], HEADER, *ROWS, ["", " ", ""], []]))
    assert raw.frame.columns == HEADER
    assert raw.frame.rows() == EXPECTED
    assert "sheet '贷款', header in row 2" in raw.format
    assert raw.rows is None or raw.rows.to_list() == [2, 3, 4]


def test_merged_headings_are_joined_with_those_below(tmp_path):
    rows = [["id", "income", "", "bad"], ["", "2025", "2026", ""], ["a", 1, 2, 0], ["b", 3, 4, 1]]
    raw = read_raw(workbook(tmp_path, rows, merged=[(1, 2, "income")]))
    assert raw.frame.columns == ["id", "income 2025", "income 2026", "bad"]
    assert raw.frame.height == 2


def test_a_sheet_and_a_header_row_can_be_named(tmp_path):
    path = tmp_path / "two.xlsx"
    with xlsxwriter.Workbook(path) as book:
        book.add_worksheet("notes").write(0, 0, "see the next sheet")
        sheet = book.add_worksheet("data")
        for number, row in enumerate([["a", "b"], ["unit", "yuan"], ["x", "y"], [1, 2]]):
            sheet.write_row(number, 0, row)
    assert read_raw(path).frame.columns == ["a", "b"]
    raw = read_raw(path, ReadOptions(sheet="data", header_row=3))
    assert (raw.frame.columns, raw.frame.rows()) == (["x", "y"], [("1", "2")])
    with pytest.raises(UnreadableFileError, match="no sheet 'date'; its sheets are notes, data"):
        read_raw(path, ReadOptions(sheet="date"))


def test_a_zip_archive_and_a_huge_workbook_are_refused(tmp_path, monkeypatch):
    import zipfile

    from datasets.tables import excel

    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
        archive.writestr("a.csv", "a,b\n")
    with pytest.raises(UnreadableFileError, match="ZIP archive"):
        read_raw(tmp_path / "a.xlsx")
    with pytest.raises(UnreadableFileError, match="once it is unzipped"):
        excel.read_sheet(workbook(tmp_path, [HEADER, *ROWS]), max_bytes=100)


def test_records_in_records_are_columns_and_long_numbers_keep_their_digits(tmp_path):
    lines = ['{"id": 33028119610304123456780, "a": {"b": 1, "c": "x"}}', '{"id": 5, "a": {"b": true}}']
    raw = read_raw(written(tmp_path, "\n".join(lines), "x.ndjson"))
    assert raw.frame.rows(named=True) == [
        {"id": "33028119610304123456780", "a.b": "1", "a.c": "x"},
        {"id": "5", "a.b": "true", "a.c": None},
    ]


def test_a_folder_of_parts_is_one_table_with_the_keys_of_its_folders(tmp_path):
    for year in (2024, 2025):
        (tmp_path / f"year={year}").mkdir()
        pl.DataFrame({"a": [year, 1]}).write_parquet(tmp_path / f"year={year}" / "part-0.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "year=2024" / ".part-0.parquet.crc").write_bytes(b"x")
    frame = read_raw(tmp_path).frame
    assert sorted(frame["a"].to_list()) == [1, 1, 2024, 2025]
    assert sorted(set(frame["year"].cast(pl.Int64))) == [2024, 2025]


def test_nested_columns_are_flattened_or_left_out_with_a_remark(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"s": [{"x": 1, "y": {"z": 2.5}}], "l": [[1, 2]], "b": [b"\xe8\x8c\xb6"]}).write_parquet(path)
    raw = read_raw(path)
    assert raw.frame.rows(named=True) == [{"s.x": 1, "s.y.z": 2.5, "b": "茶"}]
    assert any(remark.startswith("l: holds lists") for remark in raw.remarks)


def test_a_table_and_a_query_of_a_database_are_read(tmp_path):
    with sqlite3.connect(tmp_path / "bank.db") as connection:
        connection.execute("create table loans (id text, income real)")
        connection.executemany("insert into loans values (?, ?)", [("007", 1.5), ("008", None)])
    address = f"sqlite:///{tmp_path}/bank.db"
    assert read_raw(address, ReadOptions(query="loans")).frame.rows() == [("007", 1.5), ("008", None)]
    query = "select income from loans where id = '007'"
    assert read_raw(address, ReadOptions(query=query)).frame.rows() == [(1.5,)]
    for query, sentence in (("", "Tables: loans"), ("select * from credits", "the query failed.*no such table")):
        with pytest.raises(UnreadableFileError, match=sentence):
            read_raw(address, ReadOptions(query=query))
    with pytest.raises(UnreadableFileError) as caught:
        read_raw("postgresql+psycopg://reader:secret@127.0.0.1:1/x", ReadOptions(query="loans"))
    assert "secret" not in str(caught.value)


def test_an_open_quotation_mark_costs_its_record_and_no_other(tmp_path):
    lines = ["a,b", *(f"{i},x" for i in range(500)), '500,"open', *(f"{i},y" for i in range(501, 1_000))]
    raw = read_raw(written(tmp_path, "\n".join(lines) + "\n"))
    assert [fault.row for fault in raw.faults] == [501]
    assert raw.frame.height == 999
    assert raw.rows[500] == 502


CELLS = st.text(
    st.characters(codec="gb18030", exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\ufffd"), max_size=8
)
NAMES = st.lists(
    st.from_regex(r"[a-z]{1,6}|[收入债务月份年龄]{1,4}", fullmatch=True), min_size=2, max_size=6, unique=True
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    names=NAMES,
    data=st.data(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_any_text_comes_back_as_it_was_written(tmp_path, names, data, encoding, delimiter, newline):
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), min_size=4, max_size=12))
    rows = [["k", *row[1:]] for row in rows]  # no row is empty
    raw = read_raw(written(tmp_path, rendered(delimiter, newline, [names, *rows]).encode(encoding)), None, names)
    assert raw.frame.columns == names
    assert raw.frame.rows() == [tuple(value or None for value in row) for row in rows]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(content=st.binary(max_size=400) | st.text("ab,;\"'\n\r\t|{}[]:1é无\x00\\", max_size=200).map(str.encode))
@example(content=b'a,b\n"1,2\n')
@example(content=b"PAR1PAR1")
@example(content=b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600)
@example(content=b"sep=;\n")
def test_any_bytes_are_a_table_or_a_sentence(tmp_path, content):
    for name in ("x.csv", "x.ndjson", "x.json", "x.parquet", "x.xlsx"):
        try:
            assert read_raw(written(tmp_path, content, name)).frame is not None
        except DataError as error:
            sentence = str(error)
            assert sentence.endswith(".")
            assert "Traceback" not in sentence


def test_json_in_one_list_is_a_table(tmp_path):
    path = written(tmp_path, json.dumps([{"a": 1, "b": "x"}, {"a": 2.5, "b": None}]), "x.json")
    assert read_raw(path).frame.rows() == [(1.0, "x"), (2.5, None)]


# --- what a clerk's file may have beside


@pytest.mark.parametrize("count", [3, 60_000])
def test_a_full_width_comma_between_values_stays_one_inside_quotes(tmp_path, count):
    row = '张三，"水稻，茶叶"，5\n'
    raw = read_raw(written(tmp_path, "姓名，作物，金额\n" + row * count))
    assert raw.frame.unique().rows() == [("张三", "水稻，茶叶", "5")]
    assert raw.frame.height == count
    assert not raw.faults


def test_escaped_quotation_marks_are_read_wherever_a_block_ends(tmp_path):
    raw = read_raw(written(tmp_path, "name,note\n" + 'a,"6\\" pipe"\n' * 120_000))
    assert raw.frame["note"].unique().to_list() == ['6" pipe']
    assert raw.frame.height == 120_000
    assert not raw.faults


def test_blank_lines_above_the_header_are_no_header(tmp_path):
    raw = read_raw(written(tmp_path, "\n\n" + rendered()))
    assert (raw.frame.columns, raw.frame.rows()) == (HEADER, EXPECTED)


def test_big5_is_not_taken_for_gb18030(tmp_path):
    rows = [["姓名", "金額"], ["張三", "5"], ["李四", "6"], ["陳五", "7"]]
    raw = read_raw(written(tmp_path, rendered(rows=rows).encode("big5")))
    assert raw.frame.columns == rows[0]
    assert raw.frame.rows() == [tuple(row) for row in rows[1:]]
    assert "Big5" in raw.format


def test_a_zero_byte_spoils_the_value_and_not_the_file(tmp_path):
    raw = read_raw(written(tmp_path, "id,income\n" + "1,100\n" * 200 + "2,\x00300\n" + "3,400\n"))
    assert raw.frame["income"].to_list() == ["100"] * 200 + ["\x00300", "400"]


@pytest.mark.parametrize("suffix", ["ndjson", "parquet", "csv"])
def test_headings_that_differ_in_blanks_alone_are_refused_by_name(tmp_path, suffix):
    frame = pl.DataFrame({"income": [1], "income ": [2]})
    path = tmp_path / f"loans.{suffix}"
    {"ndjson": frame.write_ndjson, "parquet": frame.write_parquet, "csv": frame.write_csv}[suffix](path)
    with pytest.raises(UnreadableFileError, match="names 'income' twice"):
        read_raw(path)


def test_a_field_and_an_inner_field_of_one_name_are_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"record 1 names 'a\.b' twice"):
        read_raw(written(tmp_path, '{"a": {"b": 1}, "a.b": 2}\n', "loans.ndjson"))


@pytest.mark.parametrize("number", ["1", "12345678901234567890"])
def test_lists_in_records_are_left_out_with_a_remark(tmp_path, number):
    raw = read_raw(written(tmp_path, f'{{"a": [1, 2], "b": {number}}}\n{{"a": [3], "b": 2}}\n', "loans.ndjson"))
    assert raw.frame.columns == ["b"]
    assert "a: holds lists" in raw.remarks[0]


def test_a_page_of_notes_before_the_table_is_not_the_table(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "loans.xlsx") as book:
        book.add_worksheet("说明").write_column(0, 0, ["说明", "金额单位为元"])
        sheet = book.add_worksheet("数据")
        for index, row in enumerate((HEADER, *ROWS)):
            sheet.write_row(index, 0, row)
    raw = read_raw(tmp_path / "loans.xlsx")
    assert raw.frame.columns == HEADER
    assert "数据" in raw.format


def test_a_compressed_workbook_is_named_as_such(tmp_path):
    path = workbook(tmp_path, [HEADER, *ROWS])
    (tmp_path / "loans.xlsx.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UnreadableFileError, match="workbook or an archive inside gzip.*Decompress it"):
        read_raw(tmp_path / "loans.xlsx.gz")


LOANS = [["编号", "收入", "逾期", "结果"], *([f"HT{i}", f"{i * 100}", f"{i % 3}", "正常"] for i in range(40))]


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
@pytest.mark.parametrize(
    ("row", "remark"),
    [
        (LOANS[0], "1 row is the header again and left out (row 21)."),
        ([" 编号 ", "收入", "逾期", "结果 "], "1 row is the header again and left out (row 21)."),
        (["合 计", "78000", "40", ""], "1 row is a row of totals and left out (row 21)."),
        (["Total:", "78000", "", ""], "1 row is a row of totals and left out (row 21)."),
        (["", "78000", "总计", ""], "1 row is a row of totals and left out (row 21)."),
    ],
)
def test_a_row_that_is_no_record_is_left_out_with_a_remark(tmp_path, suffix, row, remark):
    rows = [*LOANS[:21], row, *LOANS[21:]]
    path = tmp_path / f"loans.{suffix}"
    if suffix == "csv":
        path.write_text(rendered(",", "\n", rows), encoding="utf-8")
    else:
        workbook(tmp_path, rows)
    raw = read_raw(path)
    assert raw.frame.height == 40
    assert raw.frame["编号"].to_list() == [row[0] for row in LOANS[1:]]
    assert [text.replace("row 22", "row 21") for text in raw.remarks] == [remark]


def test_a_level_that_is_called_total_is_a_record(tmp_path):
    rows = [["id", "kind", "x"], *([f"{i}", ("total", "part", "合计")[i % 3], "1"] for i in range(30))]
    path = tmp_path / "loans.csv"
    path.write_text(rendered(",", "\n", rows), encoding="utf-8")
    assert read_raw(path).frame.height == 30


GROUPED = [["基本信息", "", "本年", "", "上年", ""], ["编号", "结果", "收入", "负债", "收入", "负债"]]
GROUPED_NAMES = ["基本信息 编号", "基本信息 结果", "本年 收入", "本年 负债", "上年 收入", "上年 负债"]


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
@pytest.mark.parametrize(
    "above", [[], [["某行台账", "", "", "", "", ""]], [["某行台账", "", "", "", "", ""], [""] * 6]]
)
def test_headings_that_occur_twice_take_the_name_of_their_group_above(tmp_path, suffix, above):
    rows = [*above, *GROUPED, *([f"HT{i}", "正常", f"{i}00", "5", f"{i}50", "6"] for i in range(20))]
    path = written(tmp_path, rendered(rows=rows), "loans.csv") if suffix == "csv" else workbook(tmp_path, rows)
    raw = read_raw(path)
    assert raw.frame.columns == GROUPED_NAMES
    assert raw.frame.height == 20


def test_a_group_that_spans_few_columns_leaves_the_others_as_they_are(tmp_path):
    rows = [["", "", "本年", "", "上年", ""], GROUPED[1], *([f"HT{i}", "正常", "1", "2", "3", "4"] for i in range(9))]
    raw = read_raw(workbook(tmp_path, rows))
    assert raw.frame.columns == ["编号", "结果", *GROUPED_NAMES[2:]]


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_headings_that_occur_twice_without_a_group_are_refused_with_their_positions(tmp_path, suffix):
    rows = [["编号", "收入", "结果", "收入"], *([f"HT{i}", "1", "正常", "2"] for i in range(9))]
    path = written(tmp_path, rendered(rows=rows), "loans.csv") if suffix == "csv" else workbook(tmp_path, rows)
    with pytest.raises(UnreadableFileError, match="names '收入' twice") as refusal:
        read_raw(path)
    assert "columns 2 and 4" in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html><head><meta charset=gbk></head><table><tr><td>1</td></tr></table></html>", "web page"),
        (b"\xef\xbb\xbf\r\n<TABLE border=1><tr><td>1</td></tr></TABLE>", "web page"),
        ("<html><body><table></table></body></html>".encode("utf-16"), "web page"),
        (b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook></Workbook>', "XML"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"{\\rtf1\\ansi table}", "RTF"),
    ],
)
def test_what_is_no_table_is_named_in_two_languages(tmp_path, content, kind):
    with pytest.raises(UnreadableFileError, match=f"{kind}.*save the table as xlsx or CSV") as refusal:
        read_raw(written(tmp_path, content, "loans.xls"))
    assert "另存为 xlsx 或 CSV" in refusal.value.zh
    assert refusal.value.both().count("\n") == 1


def test_every_refusal_of_a_file_has_a_sentence_in_chinese():
    """Each place that refuses a file passes two texts."""
    folder = Path(datasets.tables.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UnreadableFileError":
                assert len(node.args) == 2, f"{path.name}, line {node.lineno}"


def test_a_workbook_of_excel_97_is_read_with_its_dates_and_without_its_totals():
    """loans.xls was written by xlwt: a title over merged cells, dates with a format, a row of totals."""
    raw = read_raw(Path(__file__).with_name("loans.xls"))
    assert raw.frame.columns == ["合同编号", "年收入", "逾期次数", "申请日期", "结果"]
    assert raw.frame.height == 12
    assert raw.frame.row(3) == ("HT003", "3001.5", "0", "2023-04-05", "正常")
    assert raw.remarks == ("1 row is a row of totals and left out (row 14).",)
