"""The real tables of companies: what a contract promises is what the file holds, and what it gives away is known."""

import os
from pathlib import Path

import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets import leakage, validation
from datasets.catalog import load_source, source_modules
from datasets.errors import DataError, UnreadableFileError
from datasets.files import external_files
from datasets.scitech_risk import polish, sba, sba_case, us

data = pytest.mark.skipif("YUHENG_DATA" not in os.environ, reason="YUHENG_DATA is not set: the file is not shipped")
FACTS = {  # rows, columns of the file, bad rate
    "sba": (41_609, 26, 0.19392),
    "sba_case": (2_101, 32, 0.32651),
    "polish": (5_850, 65, 0.06974),
    "us": (61_359, 21, 0.00794),
}
OUTSIDE = ["sba_case", "polish", "us"]
EACH = [pytest.param(name, marks=[data] if name in OUTSIDE else []) for name in FACTS]


def as_if_honest(declared):
    """The contract of someone who took every column for an indicator."""
    columns = [
        column.model_copy(update={"role": "indicator"}) if column.role == "leak" else column
        for column in declared.columns
    ]
    return declared.model_copy(update={"columns": tuple(columns)})


def test_the_tables_are_known_by_name():
    assert set(FACTS) <= set(source_modules("scitech_risk"))


@pytest.mark.parametrize("name", EACH)
def test_a_source_holds_what_its_docstring_says(name):
    module = load_source(name)
    frame, (rows, columns, rate) = module.read(), FACTS[name]
    read = [column.name for column in module.TABLE.columns if column.derived is None]
    assert frame.select(read).shape == (rows, columns)
    assert frame[module.TABLE.target.name].mean() == pytest.approx(rate, abs=5e-6)
    assert frame[module.TABLE.target.name].null_count() == 0


@pytest.mark.parametrize("name", EACH)
def test_a_sample_is_of_the_same_columns_and_reproducible(name):
    module = load_source(name)
    assert module.sample(40, seed=1).equals(module.sample(40, seed=1))
    assert module.sample(40, seed=1).columns == [column.name for column in module.TABLE.columns]


@pytest.mark.parametrize("name", FACTS)
def test_a_contract_names_every_column_in_two_languages_and_its_origin(name):
    declared = load_source(name).TABLE
    assert all(column.en and column.zh for column in declared.columns)
    assert declared.origin.source
    assert declared.origin.licence
    assert len(declared.origin.sha256) == 64
    assert not declared.origin.simulated


@pytest.mark.parametrize("module", [sba, sba_case])
def test_every_coded_level_has_its_meaning_in_two_languages(module):
    for column, labels in module.LABELS.items():
        assert set(module.TABLE[column].levels) <= set(labels)
        assert all(en and zh for en, zh in labels.values())


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_that_is_not_shipped_says_how_to_name_it(name, monkeypatch, tmp_path):
    monkeypatch.delenv("YUHENG_DATA", raising=False)
    with pytest.raises(DataError, match="YUHENG_DATA is not set.*Set YUHENG_DATA to the folder"):
        load_source(name).read()
    with pytest.raises(DataError, match="there is no such file"):
        load_source(name).read(tmp_path)


@pytest.mark.parametrize(
    ("name", "file"), [("sba", sba.FILE), ("sba_case", sba_case.FILE), ("polish", polish.FILE), ("us", us.FILE)]
)
def test_a_changed_file_is_refused_by_its_digest(name, file, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"Term": [84]}).write_parquet(tmp_path / file)
    with pytest.raises(UnreadableFileError, match="its sha256 is .*the contract describes"):
        load_source(name).read(tmp_path)


def test_the_shipped_loans_are_small_and_their_readme_has_their_digest():
    file = sba.SAMPLES_DIR / sba.FILE
    readme = (sba.SAMPLES_DIR / "README.md").read_text()
    section = readme.split(f"## {sba.FILE}")[1].split("\n## ")[0]
    assert file.stat().st_size < 2_000_000
    assert external_files.file_sha256(file) == sba.TABLE.origin.sha256
    assert sba.TABLE.origin.sha256 in section
    assert "licence" in section


# the SBA's loans ----------------------------------------------------------------------------------------------------


def test_no_name_and_no_address_of_a_borrower_is_shipped():
    assert not {"Name", "City", "Zip"} & set(pl.read_parquet_schema(sba.SAMPLES_DIR / sba.FILE))


def test_what_is_known_only_after_the_approval_is_no_indicator():
    after = {"Term", "ChgOffDate", "ChgOffPrinGr", "BalanceGross", "DisbursementDate", "DisbursementGross"}
    assert {column.name for column in sba.TABLE.columns_with_role("leak")} == after
    made_of = {operand for column in sba.TABLE.columns if column.derived for operand in column.derived.operand_names}
    assert not made_of & after


def test_the_detector_finds_the_term_by_itself_and_accuses_no_honest_column():
    frame = sba.read()
    assert leakage.find_leaks(frame, sba.TABLE) == []
    result = {leak.column: leak.reason for leak in leakage.find_leaks(frame, as_if_honest(sba.TABLE))}
    assert set(result) == {"Term", "ChgOffDate", "ChgOffPrinGr"}
    assert "a multiple of 12" in result["Term"]
    assert "0.0% where missing" in result["ChgOffDate"]


def test_the_rates_of_the_docstring_are_those_of_the_file():
    complete = pl.col("Term") % 12 == 0
    rates = sba.read().group_by(complete.alias("whole")).agg(pl.len(), pl.col("default").mean()).sort("whole")
    assert rates["len"].to_list() == [11_544, 30_065]
    assert rates["default"].to_list() == pytest.approx([0.634, 0.025], abs=5e-4)


def test_a_loan_in_the_sources_own_words_becomes_a_row_of_the_contract():
    raw = pl.DataFrame(
        {
            "LoanNr_ChkDgt": ["1000014003", "1000024006", "1000034009"], "Name": ["A", "B", "C"],
            "City": ["X", "X", "X"], "State": ["IN", "IN", None], "Zip": ["47711", "0", "1"],
            "Bank": ["FIFTH THIRD BANK", None, "B"], "BankState": ["IN", "OH", "IN"],
            "NAICS": ["541512", "0", "541110"], "ApprovalDate": ["28-Feb-97", "1-Jul-62", "1-Jan-05"],
            "ApprovalFY": ["1997", "1976A", "2005"], "Term": ["84", "60", "3"], "NoEmp": ["4", "0", "1"],
            "NewExist": ["2", "0", None], "CreateJob": ["2", "0", "0"], "RetainedJob": ["1", "0", "0"],
            "FranchiseCode": ["1", "33470", "0"], "UrbanRural": ["0", "1", "2"], "RevLineCr": ["T", "`", "Y"],
            "LowDoc": ["Y", "S", "N"], "ChgOffDate": [None, "3-Mar-10", None],
            "DisbursementDate": ["28-Feb-99", None, None],
            "DisbursementGross": ["$60,000.00 ", "$1,234.50 ", "$0.00 "],
            "BalanceGross": ["$0.00 "] * 3, "MIS_Status": ["P I F", "CHGOFF", None],
            "ChgOffPrinGr": ["$0.00 ", "$900.00 ", "$0.00 "], "GrAppv": ["$60,000.00 ", "$2,000.00 ", "$1.00 "],
            "SBA_Appv": ["$48,000.00 ", "$1,000.00 ", "$1.00 "],
        }
    )  # fmt: skip
    first, second = validation.validate_or_raise(
        sba.to_contract(raw), sba.NATIONAL_TABLE
    ).to_dicts()  # the third has no outcome
    assert first["trade"] == "computer_systems"
    assert (first["ApprovalDate"], second["ApprovalDate"]) == ("1997-02-28", "1962-07-01")
    assert (first["default"], second["default"]) == (0, 1)
    assert (first["same_state"], second["same_state"]) == (1, 0)
    assert (first["franchise"], second["franchise"]) == (0, 1)
    assert (first["NewExist"], first["UrbanRural"], first["RevLineCr"], first["LowDoc"]) == ("2", None, "T", "Y")
    assert (second["NewExist"], second["UrbanRural"], second["RevLineCr"], second["LowDoc"]) == (None, "1", None, None)
    assert (second["trade"], second["ApprovalFY"], second["DisbursementGross"]) == (None, 1976, 1234.5)
    assert (first["guaranteed_share"], first["loan_per_employee"], second["loan_per_employee"]) == (0.8, 15_000, None)


@data
def test_the_shipped_loans_are_those_of_the_national_file_row_for_row():
    national = sba.read_all()
    assert national.height == 897_167
    assert national["default"].mean() == pytest.approx(0.17562, abs=5e-6)
    assert national["trade"].null_count() == 201_667
    assert national.filter(pl.col("trade").is_in(list(sba.TABLE["trade"].levels))).equals(sba.read())


# the article's case -------------------------------------------------------------------------------------------------


@data
def test_the_articles_halves_and_its_last_model_are_found_again():
    frame = sba_case.read()
    train, test = frame.filter(pl.col("Selected") == 1), frame.filter(pl.col("Selected") == 0)
    assert (train.height, test.height) == (1_051, 1_050)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e6))
    model.fit(train.select(sba_case.ARTICLE_FEATURES).to_numpy(), train["default"].to_numpy())
    pd = model.predict_proba(test.select(sba_case.ARTICLE_FEATURES).to_numpy())[:, 1]
    assert roc_auc_score(test["default"], pd) == pytest.approx(0.735, abs=5e-4)
    assert ((pd > 0.5) != (test["default"].to_numpy() > 0)).mean() == pytest.approx(0.322, abs=5e-4)


@data
def test_the_articles_features_are_made_from_the_term_as_the_docstring_says():
    frame = sba_case.read()
    assert ((frame["Term"] >= 240).cast(float) == frame["RealEstate"]).all()
    assert (frame["daysterm"] == 30 * frame["Term"]).all()
    ended = frame["xx"].is_between(17_501, 18_078)  # 2007-12-01 to 2009-06-30
    assert (ended.fill_null(False).cast(float) == frame["Recession"]).all()
    assert {"RealEstate", "Recession", "daysterm", "xx"} <= {
        column.name for column in sba_case.TABLE.columns_with_role("leak")
    }


@data
def test_the_detector_finds_the_term_in_the_case_too():
    frame = sba_case.read()
    assert leakage.find_leaks(frame, sba_case.TABLE) == []
    result = {leak.column: leak.reason for leak in leakage.find_leaks(frame, as_if_honest(sba_case.TABLE))}
    assert set(result) == {"Term", "daysterm", "ChgOffDate", "ChgOffPrinGr"}
    assert "a multiple of 12" in result["Term"]


@data
def test_the_case_agrees_with_the_national_file():
    same = ["default", "Term", "ApprovalDate", "ChgOffDate", "DisbursementDate", "GrAppv", "NoEmp", "BankState"]
    key = "LoanNr_ChkDgt"
    case = sba_case.read().select(key, *same).sort(key)
    national = sba.read_all().select(key, *same).join(case.select(key), on=key, how="semi").sort(key)
    assert case.equals(national)


# the Polish bankruptcies --------------------------------------------------------------------------------------------


def test_the_sixty_four_ratios_are_named_and_none_twice():
    assert [column.name for column in polish.TABLE.indicators] == [f"Attr{i}" for i in range(1, 65)]
    assert len({column.en for column in polish.TABLE.indicators}) == 64
    assert len({column.zh for column in polish.TABLE.indicators}) == 64
    assert polish.TABLE["Attr1"].en == "net profit / total assets"
    assert polish.TABLE["Attr64"].en == "sales / fixed assets"


@data
def test_a_direction_is_never_against_what_the_ratio_does_alone():
    frame = polish.read()
    bad = frame["class"] == 1
    for column in polish.TABLE.indicators:
        if column.direction:
            ranks = frame[column.name].rank()
            riskier = ranks.filter(bad).mean() - ranks.filter(~bad).mean()
            assert riskier * column.direction > 0, column.name


@data
def test_repeated_rows_are_dropped_and_nothing_else():
    raw = pl.read_parquet(Path(os.environ["YUHENG_DATA"]) / polish.FILE)
    assert (raw.height, int(raw["class"].sum())) == (5_910, 410)
    frame = polish.read()
    assert (frame.height, frame["class"].sum(), frame.is_duplicated().sum()) == (5_850, 408, 0)


@data
def test_what_the_source_gives_away_is_found_and_is_what_the_docstring_names():
    frame = polish.read()
    assert {leak.column for leak in leakage.find_leaks(frame, polish.TABLE)} == {leakage.ROW_ORDER, "Attr22", "Attr27"}
    unfiled = frame.filter(pl.col("Attr22") == 0)
    assert (unfiled.height, unfiled["class"].sum()) == (534, 0)


# US listed companies ------------------------------------------------------------------------------------------------


@data
def test_only_the_last_year_of_a_failed_company_is_one_before_its_bankruptcy():
    frame = us.read()
    failures = frame.filter(pl.col("fails_next") == 1)
    assert failures["company"].n_unique() == failures.height == 487
    assert failures.join(frame, on="company").filter(pl.col("year_right") > pl.col("year")).is_empty()
