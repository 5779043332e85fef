"""Imported registers and the histories of companies: warnings, results and decisions, but no indicators."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from datasets.errors import DataError, InvalidTableError
from datasets.scitech_risk import monthly_history
from models.scitech_risk.policy import Policy
from serving.__main__ import app
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import COMPANIES, INDICATORS, SUBJECT_KEYS
from serving.decisions.companies import register_loader
from serving.decisions.companies.history import decode_months
from serving.decisions.companies.register_loader import ImportSummary, import_register
from tests.serving.conftest import POLICIES, locked_store, rows, run_inside, stored, vault_of

URL = "/v1/scitech-risks"
MONTH = "2026-06"


@pytest.fixture(scope="module")
def policy():
    return Policy.load(POLICIES / "scitech_risk.toml")


@pytest.fixture
def folder(tmp_path):
    """Three companies: one whose revenue collapses, one that is well, one of which nothing is known."""
    return written(tmp_path / "simulated-2026-06", MONTH)


def written(folder, month: str, length: int = 24):
    folder.mkdir()
    columnshistory = {"company_id": ["S-1", "S-2", "S-3"], "as_of": [month] * 3, "revenue": [700.0, 1_200.0, None]}
    pl.DataFrame(columnshistory | {"insured_staff": [20, 30, None]}).write_csv(folder / "companies.csv")
    past = [monthly_history.add_months(month, -back) for back in reversed(range(length))]
    falling, steady = [100.0] * (length - 6) + [20.0] * 6, [100.0] * length
    rows = {"company_id": ["S-1"] * length + ["S-2"] * length, "month": past * 2, "revenue": falling + steady}
    pl.DataFrame(rows | {"insured_staff": [20] * length + [30] * length}).write_csv(folder / "history.csv")
    return folder


def results(path, month: str = MONTH, **changed):
    columns = {
        "company_id": ["S-1", "S-2", "S-3"],
        "month": [month] * 3,
        "grade": ["CC", "A", None],
        "pd": [0.3, 0.01, 0.08],
        "limit": [None, 2_000_000, None],
        "gate": ["pass", "pass", "review"],
        "innovation": [41.0, 60.5, None],
    }
    pl.DataFrame({k: v for k, v in (columns | changed).items() if v is not None}).write_parquet(path)
    return path


def load(settings, folder, policy, answers=None) -> ImportSummary:
    return import_register(folder, policy, settings.store_location, 1.0, vault_of(settings), answers)


def months_of(settings, where=None):
    """Company -> its months, opened."""
    vault, where = vault_of(settings), where or settings
    months = {
        name: vault.unwrap(key, name)
        for name, key in rows(where, sa.select(SUBJECT_KEYS.c.pseudonym, SUBJECT_KEYS.c.wrapped))
    }
    sealed = {row.pseudonym: row.months for row in rows(where, sa.select(COMPANIES))}
    names = {company: vault.pseudonym("scitech_risk", company) for company in ("S-1", "S-2", "S-3")}
    return {company: decode_months(vault.open(months[name], sealed[name], name)) for company, name in names.items()}


async def get_history(client, company: str, query: str = ""):
    answer = await client.get(f"/v1/companies/{company}/history{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_imported_register_is_shown_by_month_newest_first_with_warnings(settings, folder, policy):
    loaded = load(settings, folder, policy)
    assert (loaded.companies, loaded.months, loaded.month) == (3, 48, MONTH)
    assert {remark.code for remark in loaded.remarks} >= {"no_links", "without_history"}

    async def story(client, gateway):
        first = await get_history(client, "S-1")
        assert (first["company_id"], first["simulated"], first["decisions"]) == ("S-1", True, [])
        assert [month["month"] for month in first["months"]] == [
            monthly_history.add_months(MONTH, -back) for back in range(24)
        ]
        [warning] = [item for item in first["months"][0]["warnings"] if item["code"] == "revenue_collapses"]
        assert warning["severity"] == "act"
        assert "-50% or less" in warning["en"]
        assert "-50% 或以下" in warning["zh"]
        assert first["months"][10]["warnings"] == []
        assert first["months"][0]["grade"] is None
        assert [month["warnings"] for month in (await get_history(client, "S-2"))["months"]] == [[]] * 24
        [unknown] = (await get_history(client, "S-3"))["months"]
        assert (unknown["month"], unknown["warnings"]) == (MONTH, [])

    run_inside(settings, story)


def test_the_results_of_a_run_are_added_to_the_registers_month(settings, folder, policy, tmp_path):
    load(settings, folder, policy, results(tmp_path / "answers.parquet"))

    async def story(client, gateway):
        months = (await get_history(client, "S-2"))["months"]
        stored = {name: months[0][name] for name in ("grade", "pd", "limit", "gate", "innovation")}
        assert stored == {"grade": "A", "pd": 0.01, "limit": 2_000_000, "gate": "pass", "innovation": 60.5}
        assert {month["grade"] for month in months[1:]} == {None}
        assert (await get_history(client, "S-3"))["months"][0]["gate"] == "review"

    run_inside(settings, story)


def test_the_next_month_is_added_and_earlier_results_stay(settings, folder, policy, tmp_path):
    load(settings, folder, policy, results(tmp_path / "answers.parquet"))
    for _ in range(2):  # a second time changes nothing
        load(settings, written(tmp_path / f"simulated-{_}", "2026-07"), policy)

    async def story(client, gateway):
        months = (await get_history(client, "S-2"))["months"]
        assert len(months) == 25
        assert [(month["month"], month["grade"]) for month in months[:2]] == [("2026-07", None), (MONTH, "A")]

    run_inside(settings, story)


def test_months_and_decisions_come_in_pages(settings, folder, policy):
    load(settings, folder, policy)

    async def story(client, gateway):
        for _ in range(3):
            assert (await client.post(URL, json={"subject_id": "S-2"})).status_code == 200
        complete = await get_history(client, "S-2")
        assert [item["decision_id"] for item in complete["decisions"]] == sorted(
            (item["decision_id"] for item in complete["decisions"]), reverse=True
        )
        page = await get_history(client, "S-2", "?limit=2")
        assert (page["months"], page["decisions"]) == (complete["months"][:2], complete["decisions"][:2])
        older = await get_history(client, "S-2", f"?limit=2&before={page['decisions'][-1]['decision_id']}")
        assert older["decisions"] == complete["decisions"][2:]
        older = await get_history(client, "S-2", f"?limit=2&before={page['months'][-1]['month']}")
        assert (older["months"], older["decisions"]) == (complete["months"][2:4], [])

    run_inside(settings, story)


def test_a_decision_by_company_id_is_in_that_companys_history_only(settings, folder, policy):
    load(settings, folder, policy)

    async def story(client, gateway):
        answer = (await client.post(URL, json={"subject_id": "S-1"})).json()
        [decision] = (await get_history(client, "S-1"))["decisions"]
        assert decision == {
            "decision_id": answer["decision_id"],
            "created": answer["created"],
            "currency": "CNY",
            "model": "scitech_risk",
            "version": "1",
            "gate": answer["gate"]["verdict"],
            **{name: answer[name] for name in ("decision", "grade", "pd", "limit")},
        }
        assert answer["simulated"] is True
        assert (await get_history(client, "S-2"))["decisions"] == []
        sent = await client.post(
            f"{URL}/batch", content=b"subject_id\nS-2\nS-1\n", headers={"Content-Type": "text/csv"}
        )
        assert sent.status_code == 200, sent.text
        newest, _ = (await get_history(client, "S-1"))["decisions"]
        assert newest == decision | {
            "decision_id": f"{sent.headers['Batch-Id']}-2", "created": newest["created"], "currency": None,
        }  # fmt: skip
        page = await client.get(f"/v1/companies/S-1/history?limit=1&before={newest['decision_id']}")
        assert [item["decision_id"] for item in page.json()["decisions"]] == [answer["decision_id"]]

    run_inside(settings, story)


def test_a_history_never_shows_an_indicator(settings, folder, policy, tmp_path):
    load(settings, folder, policy, results(tmp_path / "answers.parquet"))

    async def story(client, gateway):
        await client.post(URL, json={"subject_id": "S-1"})
        history = await get_history(client, "S-1")
        assert set(history["months"][0]) == {"month", "warnings", "grade", "pd", "limit", "gate", "innovation"}
        assert all(
            set(warning) == {"code", "severity", "en", "zh"}
            for month in history["months"]
            for warning in month["warnings"]
        )
        assert "80" not in "".join(
            warning["en"] for month in history["months"] for warning in month["warnings"]
        )  # it fell by 80 %

    run_inside(settings, story)


def test_a_household_and_a_company_with_the_same_id_are_two_subjects(settings, folder, policy, tmp_path):
    from serving.privacy.subjects.ingestion import load_contract, load_subjects

    load(settings, folder, policy)
    (tmp_path / "households.csv").write_text("household_id,declared_income\nS-1,96000\nH-2,5000\n")
    load_subjects(
        tmp_path / "households.csv", load_contract("county"), settings.store_location, 1.0, vault_of(settings)
    )
    assert "declared_income" in stored(settings, "credit_limit", "S-1")
    assert "insured_staff" in stored(settings, "scitech_risk", "S-1")

    async def story(client, gateway):
        refused = await client.get("/v1/companies/H-2/history")
        assert (refused.status_code, refused.json()["type"]) == (404, "/problems/unknown_company")
        assert "'H-2'" in refused.json()["detail_zh"]

    run_inside(settings, story)


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=121", "limit"), ("limit=many", "limit"), ("before=2026-13", "before"),
     ("before=june", "before"), ("since=2026-01", "since"), ("limit=3&limit=4", "limit")],
)  # fmt: skip
def test_an_invalid_page_is_refused_by_its_parameter(inside, query, field):
    async def story(client, gateway):
        refused = await client.get(f"/v1/companies/S-1/history?{query}")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)

    inside(story)


@pytest.mark.parametrize("before", ["1969-12", "0000-01", "9999-12", "0" * 32, "f" * 32])
def test_any_month_and_any_decision_id_is_a_valid_cursor(settings, folder, policy, before):
    load(settings, folder, policy)

    async def story(client, gateway):
        await get_history(client, "S-1", f"?before={before}")

    run_inside(settings, story)


def spoilt(folder, name: str, old: str, new: str) -> None:
    file = folder / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def test_every_fault_of_a_register_is_reported_together_and_nothing_is_imported(settings, folder, policy):
    spoilt(folder, "companies.csv", "S-2", "S-1")  # a company twice
    spoilt(folder, "history.csv", "S-1,2026-06", "S-1,2026-09")  # a month to come
    spoilt(folder, "companies.csv", "700.0", "-700.0")
    with pytest.raises(InvalidTableError) as refused:
        load(settings, folder, policy)
    text = str(refused.value)
    assert "which another row has too" in text
    assert "2026-09" in text
    assert "revenue is" in text
    assert not settings.paths.store.exists()


def test_a_register_of_two_months_is_refused(settings, folder, policy):
    spoilt(folder, "companies.csv", "S-3,2026-06", "S-3,2026-05")
    with pytest.raises(DataError, match="2026-05"):
        load(settings, folder, policy)


def test_a_folder_without_companies_is_refused_with_what_is_expected(settings, tmp_path, policy):
    with pytest.raises(DataError, match=r"companies\.parquet"):
        load(settings, tmp_path, policy)


def test_answers_of_another_register_are_refused_with_every_fault(settings, folder, policy, tmp_path):
    strange = results(tmp_path / "answers.parquet", month="2026-05", company_id=["S-1", "S-1", "S-9"])
    with pytest.raises(InvalidTableError) as refused:
        load(settings, folder, policy, strange)
    text = str(refused.value)
    assert "month is '2026-05'; it must be the register's, 2026-06" in text
    assert "row 2: company_id is 'S-1'; it must be in one row only" in text
    assert "row 3: company_id is 'S-9'; it must be a company of the register" in text
    (tmp_path / "other.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="Parquet"):
        load(settings, folder, policy, tmp_path / "other.parquet")
    with pytest.raises(InvalidTableError, match="grade is absent"):
        load(settings, folder, policy, results(tmp_path / "less.parquet", grade=None))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pd": ["a", "b", "c"]}, "other types than"),
        ({"pd": [0.3, 7.5, 0.08]}, "row 2: pd is 7.5; it must be from 0 to 1"),
        ({"limit": [None, -5, None]}, "row 2: limit is -5; it must be 0 or more"),
        ({"gate": ["pass", "fine", "review"]}, "row 2: gate is 'fine'; it must be one of pass, review, block"),
        ({"grade": ["CC", "ZZZ", None]}, "row 2: grade is 'ZZZ'; it must be one of AAA"),
    ],
)
def test_answers_that_no_run_could_give_are_refused(settings, folder, policy, tmp_path, changed, message):
    with pytest.raises(DataError) as refused:
        load(settings, folder, policy, results(tmp_path / "answers.parquet", **changed))
    assert message in str(refused.value)


def test_an_older_register_does_not_replace_a_newer_one(settings, folder, policy, tmp_path):
    load(settings, folder, policy)
    with pytest.raises(DataError, match="2026-06.*a register of that month or later"):
        load(settings, written(tmp_path / "simulated-2026-05", "2026-05"), policy)
    load(settings, folder, policy)  # the same month again is a correction


def test_an_import_that_breaks_off_changes_nothing(settings, folder, policy, tmp_path, monkeypatch):
    load(settings, folder, policy)
    calls = iter(range(9))
    real = register_loader._insert_chunk
    monkeypatch.setattr(register_loader, "COMPANIES_PER_CHUNK", 1)
    monkeypatch.setattr(register_loader, "_insert_chunk", lambda *given: real(*given) if next(calls) < 1 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load(settings, written(tmp_path / "later", "2026-07"), policy)
    assert months_of(settings)["S-1"][0]["month"] == MONTH
    assert rows(settings, sa.select(INDICATORS.c.source).distinct()) == [("simulated-2026-06",)]


def test_importing_in_small_chunks_gives_the_same_months(settings, folder, policy, tmp_path, monkeypatch):
    load(settings, folder, policy, results(tmp_path / "answers.parquet"))
    complete = months_of(settings)
    monkeypatch.setattr(register_loader, "COMPANIES_PER_CHUNK", 1)
    import_register(folder, policy, tmp_path / "second.db", 1.0, vault_of(settings), tmp_path / "answers.parquet")
    assert months_of(settings, f"sqlite:///{tmp_path}/second.db") == complete


def test_histories_are_read_while_decisions_are_made(settings, folder, policy):
    load(settings, folder, policy)

    async def story(client, gateway):
        requests = [client.post(URL, json={"subject_id": "S-1"}) for _ in range(20)]
        requests += [client.get("/v1/companies/S-1/history") for _ in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*requests)} == {200}
        assert len((await get_history(client, "S-1"))["decisions"]) == 20

    run_inside(settings, story)


def test_a_locked_store_refuses_the_import_with_a_message(settings, folder, policy):
    load(settings, folder, policy)
    with locked_store(settings), pytest.raises(StoreUnavailableError, match="another process holds the store"):
        import_register(folder, policy, settings.store_location, 0.1, vault_of(settings))


def test_the_command_reports_what_it_imported_or_every_fault(settings, folder, monkeypatch):
    monkeypatch.setenv("YUHENG_STORE", str(settings.paths.store))
    monkeypatch.setenv("YUHENG_STORE_URL", settings.store.url)
    done = CliRunner().invoke(app, ["import-register", str(folder)])
    assert done.exit_code == 0, done.output
    assert "3 companies of 2026-06 with 48 months are in" in done.output
    assert "缺少 links 文件" in done.output
    spoilt(folder, "companies.csv", "700.0", "-700.0")
    spoilt(folder, "history.csv", "S-1,2026-06", "S-1,2026-09")
    done = CliRunner().invoke(app, ["import-register", str(folder)])
    assert done.exit_code == 1
    assert "revenue is '-700.0'" in done.output
    assert "2026-09" in done.output
