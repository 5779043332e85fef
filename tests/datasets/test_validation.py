"""Reading by a contract: every fault told, nothing half-read, the same from any kind of file."""

import gzip

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datasets import validation
from datasets.errors import MAX_LISTED_ERRORS, DataError, InvalidTableError, UnreadableFileError
from datasets.schema import ColumnSchema, TableSchema, load_table_schema
from datasets.validation import MAX_ERRORS

CREDIT = TableSchema(
    name="credit",
    columns=(
        ColumnSchema(name="income", low=0, unit="RMB/year", en="income", zh="年收入"),
        ColumnSchema(name="months", low=0, high=84, integer=True, missing_codes=(-9, -8), recode={"-7": 84}),
        ColumnSchema(name="grade", kind="category", levels=("A", "B", "C")),
        ColumnSchema(name="note", kind="text"),
        ColumnSchema(name="bad", role="target", low=0, high=1, integer=True, required=True),
    ),
)


def written(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_all_faults_of_a_file_are_told_together(tmp_path):
    path = written(
        tmp_path, "taxes.csv", "income,months,grade,bad,incmoe\n-4200,1,A,0,\n5,1.5,Z,1,\nNaN,99,B,,\ninf,x,,2,\n"
    )
    with pytest.raises(InvalidTableError) as caught:
        validation.read_table(path, CREDIT)
    output = {(fault.row, fault.field) for fault in caught.value.errors}
    assert output == {
        (None, "incmoe"),
        *((1, "income"), (2, "months"), (2, "grade"), (3, "income"), (3, "months"), (3, "bad")),
        *((4, "income"), (4, "months"), (4, "bad")),
    }
    assert caught.value.total == len(output)


def test_a_fault_says_where_what_was_found_and_what_was_needed(tmp_path):
    path = written(tmp_path, "taxes.csv", "income,bad\n1,0\n-4200,1\n")
    with pytest.raises(InvalidTableError) as caught:
        validation.read_table(path, CREDIT)
    assert str(caught.value) == "taxes.csv, row 2: income is '-4200'; it must be a number of 0 or more, in RMB/year."
    assert caught.value.errors[0].zh() == "taxes.csv, 行 2：income 为 '-4200'；应为不小于 0 的数值，单位 元/年。"


def test_an_unknown_column_names_the_nearest_known_one(tmp_path):
    with pytest.raises(InvalidTableError, match="incmoe is not in the contract.*did you mean 'income'"):
        validation.read_table(written(tmp_path, "a.csv", "incmoe,bad\n1,0\n"), CREDIT)


def test_an_absent_column_is_a_fault_only_where_it_is_required(tmp_path):
    with pytest.raises(InvalidTableError, match="bad is absent"):
        validation.read_table(written(tmp_path, "a.csv", "income\n1\n"), CREDIT)
    frame = validation.read_table(written(tmp_path, "b.csv", "bad\n1\n"), CREDIT)
    assert frame.columns == [column.name for column in CREDIT.columns]
    assert frame["income"].to_list() == [None]


def test_many_faults_are_counted_in_full_and_kept_in_part():
    frame = pl.DataFrame({"income": [-1.0] * 3 * MAX_ERRORS, "bad": [0] * 3 * MAX_ERRORS})
    _, retained, total = validation.validate(frame, CREDIT)
    assert (len(retained), total) == (MAX_ERRORS, 3 * MAX_ERRORS)
    message = str(InvalidTableError(retained, total))
    assert message.count("income is") == MAX_LISTED_ERRORS
    assert f"{total - MAX_LISTED_ERRORS:,} more" in message


def test_missing_is_a_value_of_its_own_and_codes_are_decoded_once(tmp_path):
    frame = validation.read_table(
        written(tmp_path, "a.csv", "income,months,grade,bad\n,-9,,0\nNA,-7,NA,1\n0,-8,A,0\n"), CREDIT
    )
    assert frame["income"].to_list() == [None, None, 0.0]
    assert frame["months"].to_list() == [None, 84.0, None]
    assert frame["grade"].to_list() == [None, None, "A"]


def test_one_code_does_not_feed_another():
    column = ColumnSchema(name="c", low=0, high=9, recode={"-1": 3, "3": 9})
    frame, _, _ = validation.validate(pl.DataFrame({"c": [-1.0, 3.0]}), TableSchema(name="t", columns=(column,)))
    assert frame["c"].to_list() == [3.0, 9.0]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "income": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 10**9).map(float),
            "months": st.none() | st.integers(-12, 100).map(float),
            "grade": st.none() | st.sampled_from(["A", "B", "C", "D"]),
            "note": st.none() | st.sampled_from(["x", "好", "a,b", 'q"q']),
            "bad": st.none() | st.sampled_from([0.0, 1.0, 2.0]),
        }
    ),
    min_size=1,
    max_size=8,
)


@given(rows=ROWS)
def test_a_table_reads_the_same_from_csv_ndjson_and_parquet(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("same")
    schema = {"income": pl.Float64, "months": pl.Float64, "grade": pl.String, "note": pl.String, "bad": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema)
    frame.write_csv(folder / "a.csv")
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes()))
    frame.write_parquet(folder / "a.parquet")
    frame.write_ndjson(folder / "a.ndjson")
    answers = []
    for name in ("a.csv", "a.csv.gz", "a.parquet", "a.ndjson"):
        typed, faults, total = validation.validate(validation.read_raw(folder / name), CREDIT)
        answers.append((typed, {(fault.row, fault.field) for fault in faults}, total))
    for typed, places, total in answers[1:]:
        assert typed.equals(answers[0][0])
        assert (places, total) == answers[0][1:]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"income,income,bad\n1,2,0\n", "'income' twice"),
        ("a.csv", b"income,bad\n\x00\x01,1\n", "is not text.*UTF-8"),
        ("a.parquet", b"PAR1 and nothing else", "cannot be read as Parquet"),
        ("a.parquet", b"no Parquet", "cannot be read as parquet"),
        ("a.csv.gz", b"\x1f\x8b and nothing else", "cannot be decompressed"),
        ("a.ndjson", b'{"income": 1}\n{oh\n', "cannot be read as ndjson"),
        ("a.xlsx", b"PK\x03\x04 and nothing else", "cannot be read as an Excel workbook"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused_in_a_sentence(tmp_path, name, content, reason):
    with pytest.raises(UnreadableFileError, match=reason) as caught:
        validation.read_table(written(tmp_path, name, content), CREDIT)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "row"),
    [(b"income,bad\n1,0,7\n2,1\n", 1), (b'income,note,bad\n1,"x,1\n2,y,0\n', 1), (b"income,bad\n1,0\n2\n", 2)],
)
def test_a_record_that_cannot_be_read_is_reported_with_its_row(tmp_path, content, row):
    with pytest.raises(InvalidTableError) as caught:
        validation.read_table(written(tmp_path, "a.csv", content), CREDIT)
    assert [(fault.row, fault.field) for fault in caught.value.errors] == [(row, "(record)")]


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="no such file"):
        validation.read_table(tmp_path / "none.csv", CREDIT)


def test_a_header_without_rows_is_an_empty_table(tmp_path):
    assert validation.read_table(written(tmp_path, "a.csv", "income,bad\n"), CREDIT).height == 0


@pytest.mark.parametrize("result", [True, [1], {"a": 1}, b"1", "1e999"])
def test_a_value_of_a_wrong_kind_is_a_fault_and_never_a_crash(result):
    frame = pl.DataFrame({"income": [result], "grade": [result], "note": [result], "bad": [0]})
    _, faults, _ = validation.validate(frame, CREDIT)
    assert {"income", "grade"} <= {fault.field for fault in faults}
    assert all("\n" not in str(fault) for fault in faults)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "c", "kind": "category"},
        {"name": "c", "levels": ("a",)},
        {"name": "c", "kind": "category", "levels": ("a", "a")},
        {"name": "c", "low": 2, "high": 1},
        {"name": "c", "missing_codes": (-1,), "recode": {"-1": 0}},
        {"name": "c", "colour": "red"},
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(ValidationError):
        ColumnSchema.model_validate(wrong)


def test_a_contract_names_each_column_once_and_has_one_target():
    with pytest.raises(ValidationError, match="declared twice: a"):
        TableSchema(name="t", columns=(ColumnSchema(name="a"), ColumnSchema(name="a")))
    with pytest.raises(DataError, match="0 columns have the role 'target'"):
        _ = TableSchema(name="t", columns=(ColumnSchema(name="a"),)).target


def test_a_contract_may_be_written_as_toml(tmp_path):
    path = written(
        tmp_path, "t.toml", 'name = "t"\n[[columns]]\nname = "a"\nlow = 0\n[[columns]]\nname = "y"\nrole = "target"\n'
    )
    assert load_table_schema(path)["a"].low == 0
    with pytest.raises(DataError, match=r"t\.toml"):
        load_table_schema(written(tmp_path, "t.toml", 'name = "t"\n[[columns]]\nnmae = "a"\n'))
