"""A bank's table of invoices is read by its own headings; what cannot be used is named, and loses no table."""

from contextlib import suppress
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import DataError, InvalidTableError, UnreadableFileError
from datasets.scitech_risk.invoices.reader import FRAME, HEADINGS, read_invoices

SALES = "企业代号,发票号码,开票日期,购方单位代号,金额,税额,价税合计,发票状态\n"
PURCHASES = SALES.replace("购方", "销方")


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_chinese_headings_tell_sales_from_purchases(tmp_path, encoding):
    sales = write(tmp_path / "s.csv", SALES + 'E1,0001,2019年1月4日,B1,"1,000.50",30,1030.5,有效发票\n', encoding)
    purchases = write(tmp_path / "p.csv", PURCHASES + "E1,0002,2019/1/5,A1,-200,-6,-206,作废发票\n", encoding)
    frame = read_invoices([sales, purchases]).frame
    assert frame.schema == FRAME
    assert frame.rows() == [
        ("E1", "0001", date(2019, 1, 4), "B1", 1000.5, 30.0, False, True),
        ("E1", "0002", date(2019, 1, 5), "A1", -200.0, -6.0, True, False),
    ]


def test_an_unusable_row_is_left_out_and_named(tmp_path):
    rows = [f"E1,{i},2019-01-{i % 28 + 1:02d},B{i % 3},{i}.5,1,2,有效发票\n" for i in range(100)]
    rows[41] = "E1,41,2019-01-04,B1,约一百,1,2,有效发票\n"
    rows[70] = "E1,70,2019-01-04,B1,100,1,2,红冲\n"
    invoices = read_invoices([write(tmp_path / "s.csv", SALES + "".join(rows))])
    assert invoices.frame.height == 98
    assert [(fault.row, fault.field, fault.actual) for fault in invoices.faults] == [
        (42, "金额", "'约一百'"),
        (71, "发票状态", "'红冲'"),
    ]
    assert invoices.remarks == ("s.csv: 2 rows are left out, because a value cannot be used.",)


def test_a_table_of_which_many_rows_cannot_be_used_is_refused(tmp_path):
    rows = [f"E1,{i},2019-01-04,B1,{'x' if i < 10 else 5},1,2,有效发票\n" for i in range(100)]
    with pytest.raises(InvalidTableError, match="row 1: 金额 is 'x'; it must be a number"):
        read_invoices([write(tmp_path / "s.csv", SALES + "".join(rows))])


def test_a_repeated_row_counts_once(tmp_path):
    row = "E1,1,2019-01-04,B1,100,1,2,有效发票\n"
    invoices = read_invoices([write(tmp_path / "s.csv", SALES + row + row)])
    assert invoices.frame.height == 1
    assert invoices.remarks == ("1 repeated row is left out.",)


@pytest.mark.parametrize("number", ["", "-"])
def test_equal_rows_without_a_number_are_different_invoices(tmp_path, number):
    row = f"E1,{number},2019-01-04,B1,100,1,2,有效发票\n"
    invoices = read_invoices([write(tmp_path / "s.csv", SALES + row + row)])
    assert (invoices.frame.height, invoices.remarks) == (2, ())
    table = write(tmp_path / "t.csv", "company,date,buyer,amount\n" + "E1,2019-01-04,B1,100\n" * 3)
    assert read_invoices([table]).frame.height == 3


def test_headings_of_another_kind_are_named_by_the_owner(tmp_path):
    file = write(tmp_path / "s.csv", "客户号,记账日,往来单位,净额,类别\nE1,2019-01-04,B1,100,销项\n")
    with pytest.raises(UnreadableFileError, match="no heading is recognised for company .*date .*counterparty.*amount"):
        read_invoices([file])
    headings = {
        "company": "客户号", "date": "记账日", "counterparty": "往来单位", "amount": "净额", "direction": "类别",
    }  # fmt: skip
    assert read_invoices([file], headings).frame.row(0) == (
        "E1", None, date(2019, 1, 4), "B1", 100.0, None, False, True,
    )  # fmt: skip
    with pytest.raises(UnreadableFileError, match="whether an invoice is a purchase or a sale is not stated"):
        read_invoices([file], {name: heading for name, heading in headings.items() if name != "direction"})
    with pytest.raises(UnreadableFileError, match="'dates' is no column of an invoice.*did you mean 'date'"):
        read_invoices([file], {"dates": "记账日"})


def test_a_table_with_seller_and_buyer_in_each_row_is_refused(tmp_path):
    file = write(tmp_path / "s.csv", "企业代号,开票日期,销方,购方,金额\nE1,2019-01-04,E1,B1,100\n")
    with pytest.raises(UnreadableFileError, match="sellers and buyers .销方, 购方.*Split it"):
        read_invoices([file])


CELLS = st.one_of(
    st.sampled_from(["E1", "2019-01-04", "20190104", "45012", "1.2万", "-", "", "有效", "作废", "in", "销项", "1,000"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)


@settings(max_examples=60, deadline=None)
@given(
    st.permutations([names[-1] if name != "counterparty" else "购方" for name, names in HEADINGS.items()]),
    st.integers(0, 3),
    st.lists(st.lists(CELLS, min_size=8, max_size=8), max_size=8),
)
def test_any_table_is_read_or_refused_in_a_sentence(tmp_path_factory, headings, left_out, rows):
    headings = headings[left_out:]
    frame = pl.DataFrame(
        {name: [row[i] for row in rows] for i, name in enumerate(headings)}, dict.fromkeys(headings, pl.String)
    )
    file = tmp_path_factory.mktemp("table") / "t.csv"
    frame.write_csv(file)
    with suppress(DataError):  # a sentence
        used = read_invoices([file]).frame
        assert used.schema == FRAME
        assert (
            not used.select("company", "date", "counterparty", "amount", "void", "sale")
            .null_count()
            .sum_horizontal()[0]
        )
