"""A register folder becomes one table, or every fault of its files is told together."""

from pathlib import Path

import polars as pl
import pytest

from datasets import schema as table_schema
from datasets import validation
from datasets.errors import DataError, InvalidTableError, UnreadableFileError
from datasets.scitech_risk.register import reader
from datasets.scitech_risk.register import schema as register
from datasets.scitech_risk.register.schema import (
    COMPANIES,
    COMPUTED_COLUMNS,
    HISTORY,
    INVOICES,
    LINK_COLUMNS,
    LINKS,
    MONTHLY_COLUMNS,
    TABLE,
)
from datasets.scitech_risk.register.simulator import write

MONTH = "2026-06"


def companies(*names: str, **values: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"company_id": list(names), "as_of": [MONTH] * len(names), **values})


def assembled(frame: pl.DataFrame, **parts: pl.DataFrame | None) -> register.Register:
    return reader.build_register({"companies": frame, **parts})


def refusal(frame: pl.DataFrame, **parts: pl.DataFrame | None) -> str:
    with pytest.raises(InvalidTableError) as refused:
        assembled(frame, **parts)
    assert len(refused.value.errors) == refused.value.total
    return str(refused.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zone")
    write(path, 400, seed=3)
    return path


@pytest.mark.parametrize(
    "column",
    {column.name: column for table in (TABLE, HISTORY, LINKS, INVOICES) for column in table.columns}.values(),
    ids=lambda column: column.name,
)
def test_every_column_is_named_in_english_and_in_chinese(column):
    assert column.en
    assert column.zh
    assert not column.unit or column.unit in (*table_schema.UNITS_ZH, "0/1", "YYYY-MM")


def test_every_indicator_has_a_group_and_every_computed_column_is_in_the_table():
    assert all(column.group for column in TABLE.indicators)
    assert {column.name for column in COMPANIES.columns} | set(COMPUTED_COLUMNS) == {
        column.name for column in TABLE.columns
    }


def test_a_register_comes_back_whole_and_by_its_contract(folder):
    read = reader.read(folder)
    assert read.simulated
    assert (read.month, read.remarks) == (MONTH, ())
    stated = [column.name for column in TABLE.columns if column.derived is None]
    again, _, faults = validation.validate(read.frame.select(stated), TABLE)
    assert (read.frame.columns, faults) == ([column.name for column in TABLE.columns], 0)
    assert again.equals(read.frame)
    assert read.history.columns == [column.name for column in HISTORY.columns]


def test_a_flat_table_of_every_column_is_read_by_the_same_contract(folder, tmp_path):
    frame = reader.read(folder).frame
    flat = frame.select(column.name for column in TABLE.columns if column.derived is None)
    flat.write_parquet(tmp_path / "batch.parquet")
    flat.write_csv(tmp_path / "batch.csv")
    assert validation.read_table(tmp_path / "batch.parquet", TABLE).equals(frame)
    assert validation.read_table(tmp_path / "batch.csv", TABLE).equals(frame)


def test_csv_files_of_the_same_names_are_the_same_register(folder, tmp_path):
    real, simulated = tmp_path / "zone", tmp_path / "zone_simulated"
    for made in (real, simulated):
        made.mkdir()
        for name in register.FILES:
            pl.read_parquet(folder / f"{name}.parquet").write_csv(made / f"{name}.csv")
    assert reader.read(real).frame.equals(reader.read(folder).frame)
    assert not reader.read(real).simulated
    assert reader.read(simulated).simulated


def test_the_order_of_the_rows_changes_nothing(folder):
    parts = {name: pl.read_parquet(folder / f"{name}.parquet") for name in register.FILES}
    turned = {name: frame.sample(fraction=1, shuffle=True, seed=5) for name, frame in parts.items()}
    first, second = (reader.build_register(dict(some)).frame.sort("company_id") for some in (parts, turned))
    assert first.equals(second)


def test_a_sample_is_small_and_says_that_it_is_simulated():
    made = reader.sample(40, seed=1)
    assert made.simulated
    assert made.frame.height == 40
    assert reader.sample(40, seed=1).frame.equals(made.frame)


def test_without_other_files_the_columns_are_missing_and_the_register_says_so():
    made = assembled(companies("A", "B"))
    assert [remark.code for remark in made.remarks] == ["no_history", "no_links", "no_invoices"]
    assert all(remark.zh for remark in made.remarks)
    assert made.frame.select(COMPUTED_COLUMNS).null_count().row(0) == (2,) * len(COMPUTED_COLUMNS)
    assert made.history.height == 0


def test_empty_links_are_nothing_known_and_not_nobody_tied():
    made = assembled(
        companies("A"), links=pl.DataFrame(schema=dict.fromkeys(("company_id", "kind", "party"), pl.String))
    )
    assert made.frame.select(LINK_COLUMNS).null_count().row(0) == (1,) * len(LINK_COLUMNS)


def test_an_empty_file_is_remarked_on_as_an_absent_one_is():
    made = assembled(
        companies("A"), links=pl.DataFrame(schema=dict.fromkeys(("company_id", "kind", "party"), pl.String))
    )
    assert "no_links" in [remark.code for remark in made.remarks]


def test_links_and_invoices_of_nobody_in_the_register_are_remarked_on():
    """Ids written in another way would disarm the gate without a word."""
    links = pl.DataFrame({"company_id": ["a", "A", "B "], "kind": ["officer"] * 3, "party": ["P", "P", "P"]})
    invoices = pl.DataFrame({"seller": ["a", "A"], "buyer": ["b", "x"], "amount": [1.0, 2.0]})
    output = {remark.code: remark for remark in assembled(companies("A", "B"), links=links, invoices=invoices).remarks}
    assert "2 of 3" in output["links_of_strangers"].en
    assert "1 of 2" in output["invoices_of_strangers"].en
    assert output["links_of_strangers"].zh


def test_a_company_without_a_history_has_no_months_and_a_remark():
    history = pl.DataFrame({"company_id": ["A"], "month": [MONTH], "zero_filing": [1]})
    made = assembled(companies("A", "B"), history=history)
    assert made.frame["zero_filing_months"].to_list() == [1, None]
    assert made.frame.filter(company_id="B").select(MONTHLY_COLUMNS).null_count().row(0) == (1,) * len(MONTHLY_COLUMNS)
    assert [remark.code for remark in made.remarks if remark.code == "without_history"]


def test_zero_assets_and_zero_sales_give_no_ratio_and_not_an_infinite_one():
    frame = companies("A", total_assets=[0.0], total_liabilities=[5.0], revenue=[0.0], rd_expense=[7.0], cash=[1.0],
                      current_liabilities=[0.0], net_profit=[-7.0], interest_expense=[0.0])  # fmt: skip
    row = assembled(frame).frame.row(0, named=True)
    ratios = [column.name for column in TABLE.columns if column.derived]
    assert {row[name] for name in ratios} == {None}


def test_every_fault_of_every_file_is_told_together():
    message = refusal(
        companies("A", "B", "A", revenue=[-1.0, 2.0, 3.0], colour=["red"] * 3),
        history=pl.DataFrame({"company_id": ["A", "Z"], "month": ["2026-07", MONTH]}),
        links=pl.DataFrame({"company_id": ["A"], "kind": ["cousin"], "party": ["p"]}),
        invoices=pl.DataFrame({"seller": ["A"], "buyer": [None], "amount": [-3.0]}),
    )
    for message_part in (
        "colour is not in the contract",
        "companies, row 1: revenue is -1",
        "companies, row 3: company_id is 'A', which another row has too; it must be unique",
        "history, row 1: month is 2026-07 of 'A'; it must be no later than the register's month, 2026-06",
        "history, row 2: company_id is 'Z'; it must be a company of the register",
        "links, row 1: kind is 'cousin'; it must be one of officer, address, owner",
        "invoices, row 1: buyer is missing",
        "invoices, row 1: amount is -3",
    ):
        assert message_part in message


def test_months_that_differ_within_a_register_are_faults():
    frame = companies("A", "B", "C").with_columns(as_of=pl.Series([MONTH, MONTH, "2026-05"]))
    assert "row 3: as_of is '2026-05'; it must be 2026-06, the month of the register" in refusal(frame)


@pytest.mark.parametrize("as_of", [None, "June", "2026-13", "2026-06-30"])
def test_a_register_without_a_month_is_refused(as_of):
    frame = pl.DataFrame({"company_id": ["A"], "as_of": [as_of]}, schema={"company_id": pl.String, "as_of": pl.String})
    assert "it must be a month, YYYY-MM" in refusal(frame)


def test_an_empty_register_is_refused():
    assert "one row per company" in refusal(companies())


def test_a_column_that_is_computed_is_not_stated(folder):
    assert "loop_path is not in the contract" in refusal(companies("A", loop_path=["A > A"]))


def test_a_folder_without_companies_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"there is no companies\.parquet.*python -m datasets simulate register"):
        reader.read(tmp_path)


def test_a_file_told_twice_is_refused(tmp_path):
    companies("A").write_csv(tmp_path / "companies.csv")
    companies("A").write_parquet(tmp_path / "companies.parquet")
    with pytest.raises(DataError, match="contains both"):
        reader.read(tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "companies.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UnreadableFileError, match=r"companies\.parquet"):
        reader.read(tmp_path)


def test_the_digest_is_of_all_its_files(folder, tmp_path):
    for name in ("companies", "links"):
        (tmp_path / f"{name}.parquet").write_bytes((folder / f"{name}.parquet").read_bytes())
    two = reader.register_digest(tmp_path)
    (tmp_path / "history.parquet").write_bytes((folder / "history.parquet").read_bytes())
    assert two != reader.register_digest(tmp_path)
    assert len(two) == 64
