"""Exports for training: pseudonyms, values as known at the time, under active grants only."""

from __future__ import annotations

import polars as pl
import pytest
from typer.testing import CliRunner

from datasets.credit_limit.county import reader, schema
from datasets.errors import DataError, InvalidTableError
from datasets.export.manifest import read_manifest
from datasets.simulation import SIMULATED_KEY
from serving.__main__ import app
from serving.core.audit.authenticator import open_log_store
from serving.governance.lineage import training_export
from serving.privacy.consent import grants
from serving.privacy.consent import rules as consent
from serving.privacy.subjects.ingestion import import_indicators, load_contract, load_subjects
from serving.privacy.subjects.vault import shred
from tests.paths import ROOT
from tests.serving.conftest import stored, vault_of

RULES = consent.load_rules()
CONDUCT = ["self_assessment", "village_appraisal"]
OFFICIAL = [group for group in RULES.needs["credit_limit"] if group not in CONDUCT]


class Store:
    """The actions of the tests on a store, each in one line."""

    def __init__(self, settings, folder):
        self.settings, self.folder = settings, folder
        self.vault = vault_of(settings)
        self.engine = open_log_store(settings, 1.0)

    def load(self, text, true_at=None):
        file = self.folder / "simulated.csv"
        file.write_text(text)
        load_subjects(
            file, load_contract("county"), self.settings.store_location, 1.0, self.vault, "credit_limit", true_at
        )

    def grant(self, groups, subject=None, **more):
        fields = {"kind": "personal" if subject else "government", "grantor": "County", "tenant": "local",
                "purpose": "training", "groups": groups, "valid_to": "2999-01-01", "document_sha256": "0" * 64,
                "product": "credit_limit"} | ({"subject_id": subject} if subject else {}) | more  # fmt: skip
        form, faults = grants.validate(fields, RULES, self.vault)
        assert not faults
        with self.engine.begin() as connection:
            return grants.create(connection, form, "test")["authorisation"]

    def run(self, transaction, *args):
        with self.engine.begin() as connection:
            return transaction(connection, *args)

    def take(self, rows=None, tenant="local"):
        file = None
        if rows is not None:
            file = self.folder / "rows.csv"
            file.write_text(rows)
        requested = training_export.requested_rows(file, schema.TABLE, self.engine, self.vault)
        export_request = training_export.ExportRequest(schema.TABLE, "credit_limit", tenant, requested)
        out = self.folder / "out" / "county.parquet"
        manifest = training_export.export(self.engine, self.vault, RULES, export_request, out)
        return manifest, pl.read_parquet(out).sort("household_id")

    def name(self, subject):
        return self.vault.pseudonym("credit_limit", subject)


@pytest.fixture
def store(settings, tmp_path):
    made = Store(settings, tmp_path)
    yield made
    made.engine.dispose()


def test_an_export_has_pseudonyms_values_and_the_grants_behind_them(store):
    store.load("household_id,declared_income,self_score\nA,1000,80\nB,2000,70\n")
    official, own = store.grant(OFFICIAL), store.grant(CONDUCT, "A")
    store.grant(CONDUCT, "B", purpose="credit_limit")  # another purpose
    store.grant(CONDUCT, "B", tenant="other")
    manifest, frame = store.take()
    incomes = dict(frame.select("household_id", "declared_income").iter_rows())
    assert incomes == {store.name("A"): 1000.0, store.name("B"): 2000.0}
    assert dict(frame.select("household_id", "self_score").iter_rows()) == {
        store.name("A"): 80.0,
        store.name("B"): None,
    }
    assert set(manifest.authorisations) == {official, own}
    assert manifest.missing == {"self_assessment": 1, "village_appraisal": 1}
    assert (manifest.rows, manifest.simulated, manifest.left_out) == (2, True, {})
    path = store.folder / "out" / "county.parquet"
    assert read_manifest(path) == manifest
    reader.read(path)  # it is marked as simulated, and fits its contract


def test_erased_and_revoked_subjects_are_left_out_and_counted(store):
    store.load("household_id,declared_income\nA,1\nB,2\nC,3\n")
    with pytest.raises(DataError, match="3 rows are not authorised.*grant create"):
        store.take()
    everyone = store.grant(OFFICIAL)
    store.run(shred, store.vault, "credit_limit", "B")
    rows = "household_id,as_of,default_12m\n" + "".join(f"{subject_id},2999-01-01,0\n" for subject_id in "ABC")
    manifest, frame = store.take(rows)
    assert frame["household_id"].to_list() == sorted([store.name("A"), store.name("C")])
    assert manifest.left_out == {"unknown or erased": 1}
    store.run(grants.revoke, everyone)
    own = store.grant(OFFICIAL, "C", kind="government", grantor="County")
    manifest, frame = store.take(rows)
    assert frame["household_id"].to_list() == [store.name("C")]
    assert manifest.left_out == {"unknown or erased": 1, "not authorised": 1}
    assert manifest.authorisations == (own,)


def test_a_row_has_no_value_that_was_loaded_after_its_time(store):
    store.grant(OFFICIAL)
    store.load("household_id,declared_income,housing\nA,1000,5\n", "2026-01-31")
    store.load("household_id,declared_income\nA,2000\n", "2031-03-31")  # true later
    rows = "household_id,as_of,default_12m\n"
    _, frame = store.take(rows + "A,2031-03-30,1\n")
    assert frame.select("declared_income", "housing", "default_12m").row(0) == (1000.0, 5.0, 1)
    _, frame = store.take(rows + "A,2031-03-31,0\n")
    assert frame.select("declared_income", "housing", "default_12m").row(0) == (2000.0, 5.0, 0)
    _, frame = store.take(rows + "A,2026-02-28,0\n")  # true then, and loaded only today
    assert "declared_income" not in frame.columns or frame["declared_income"].to_list() == [None]


def test_training_reads_the_authorisations_and_refuses_a_file_that_was_changed(store):
    from training.credit_limit import RECIPE

    text = "".join(f"H{n},{1000 + n},{n % 2}\n" for n in range(30))
    store.load("household_id,declared_income\n" + "".join(line.rsplit(",", 1)[0] + "\n" for line in text.splitlines()))
    grant = store.grant(OFFICIAL)
    rows = "household_id,as_of,default_12m\n" + "".join(f"H{n},2999-01-01,{n % 2}\n" for n in range(30))
    store.take(rows)
    path = store.folder / "out" / "county.parquet"
    config = RECIPE.load(ROOT / "configs/credit_limit.toml", path)
    read = RECIPE.read(config)
    assert (read.data.rows, read.data.authorisations, read.data.simulated) == (30, (grant,), True)
    pl.read_parquet(path).head(3).write_parquet(path, metadata={SIMULATED_KEY: "true"})
    with pytest.raises(DataError, match="was changed"):
        RECIPE.read(config)


def test_a_department_imports_its_own_groups_only_and_all_faults_are_reported(store):
    file = store.folder / "tax.csv"

    def bring(text, groups=("tax",)):
        file.write_text(text)
        where = (store.settings.store_location, 1.0, store.vault, "credit_limit", "tax office", groups)
        return import_indicators(file, load_contract("county"), *where, "2026-06")

    store.load("household_id,declared_income,housing\nA,1,7\n", "2026-01-01")
    assert bring("household_id,declared_income,tax_grade\nA,2,B\nC,3,A\n") == 2
    assert stored(store.settings, "credit_limit", "A") == {"declared_income": 2.0, "tax_grade": "B", "housing": 7.0}
    with pytest.raises(InvalidTableError) as error:
        bring("household_id,declared_income,housing\nA,-5,1\nD,4,1\nE,-6,1\n")
    assert error.value.total == 3
    assert "housing is not in the contract" in str(error.value)
    assert stored(store.settings, "credit_limit", "D") is None
    with pytest.raises(DataError, match="did you mean 'tax'"):
        bring("household_id\nA\n", ("taxe",))


def test_the_commands_import_indicators_and_export_them(store, monkeypatch):
    settings = store.settings
    for name, value in (
        ("STORE", settings.paths.store),
        ("STORE_URL", settings.store.url),
        ("VAULT_KEY", settings.paths.vault_key),
    ):
        monkeypatch.setenv(f"YUHENG_{name}", str(value))
    file, out = store.folder / "tax.csv", store.folder / "x.parquet"
    file.write_text("household_id,declared_income\nA,2\n")
    done = CliRunner().invoke(app, ["import-indicators", str(file), "--department", "tax", "--true-at", "2026-06-30"])
    assert done.exit_code == 0, done.output
    assert "tax of 1 subjects from tax" in done.output
    done = CliRunner().invoke(app, ["export-training", "--out", str(out)])
    assert done.exit_code == 1
    assert "1 rows are not authorised" in done.output
    store.grant(OFFICIAL)
    done = CliRunner().invoke(app, ["export-training", "--table", "county", "--out", str(out), "--purpose", "training"])
    assert done.exit_code == 0, done.output
    assert "1 rows under 1 authorisations" in done.output
