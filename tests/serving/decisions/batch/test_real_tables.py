"""Real tables of credit and companies, as an owner brings them: read without a contract, then answered alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datasets.tables.reader import read_raw
from models import bundle
from models.feature_encoder import date_operands
from serving.decisions.batch.files.formats import MEDIA_TYPES
from serving.decisions.products.base import products
from tests.paths import DATA
from tests.serving.conftest import fitted
from tests.serving.decisions.batch.test_round_trip import answers, upload
from training.tabular.columns.target import encode_target
from training.tabular.config_draft import draft_config
from training.tabular.profile.summary import summarise
from training.tabular.user_table import UserTableConfig, read_user_table

SAMPLE = 250  # rows that are answered
# file -> target, its value for a default
TABLES = {
    "company/sba_case/SBAcase.parquet": ("Default", "1"),
    "credit/fico_heloc/heloc.parquet": ("RiskPerformance", "Bad"),
    "company/polish_bankruptcy/polish_5year.parquet": ("class", "1"),
    "company/sba_national/SBAnational.parquet": ("MIS_Status", "CHGOFF"),
    "company/taiwan_bankruptcy_5807/taiwan_bankruptcy.parquet": ("bankrupt", "1"),
    "company/us_bankruptcy/us_bankruptcy.parquet": ("failed", "1"),
    "credit/give_me_some_credit/cs-training.csv.gz": ("SeriousDlqin2yrs", "1"),
    "credit/lgd_european_bank/lgd.parquet": ("event", "1"),
    "credit/taiwan_credit_card/taiwan_credit_card.parquet": ("default_payment_next_month", "1"),
    "credit/vub_nbfi_romania/vub_credit_scoring.csv.gz": ("Default_45", "1"),
    "clinical/cervical_risk_uci/risk_factors_cervical_cancer.csv": ("Biopsy", "1"),
    "clinical/breast_survival/rotterdam_gbsg.csv.gz": ("event", "1"),
    "clinical/breast_survival/metabric_ihc4_clinical.csv.gz": ("event", "1"),
    "clinical/breast_survival/breast_cancer_nki70.csv.gz": ("event", "1"),
}
FAST = ("company/sba_case/SBAcase.parquet", "credit/fico_heloc/heloc.parquet")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="YUHENG_DATA is not set: the files are not shipped")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow, id=name) for name in TABLES]
)
def test_a_real_table_is_profiled_and_its_rows_are_answered_as_training_read_them(name, tmp_path):
    path = DATA / name
    target, bad = TABLES[name]
    config = UserTableConfig(file=path, target=target, positive_labels=(bad,))
    read = read_user_table(config)
    summary = summarise(read)
    assert summary.rows == read.frame.height
    assert 0 < summary.bad_rate < 1
    assert draft_config(config.model_copy(), "credit_limit")

    inputs = [column for column in read.table.indicators if column.kind != "text"]
    dates = date_operands(inputs, read.table.columns)
    keys = bundle.create_signing_keys(tmp_path / "keys")
    made = fitted("credit_limit", read.frame, target, inputs, dates, keys)
    made = replace(made, card=made.card.model_copy(update={"missing": read.table.missing}))
    made.publish(tmp_path / "bundles", "1")
    model = products()["credit_limit"].deploy(
        bundle.load_bundle(tmp_path / "bundles" / "credit_limit" / "1", made.public)
    )

    raw = read_raw(path, None, [target]).frame
    raw = raw.filter(encode_target(raw[target], (bad,), (), config.missing).is_not_null())
    assert raw.height == read.frame.height
    step = max(1, raw.height // SAMPLE)
    names = [column.name for column in model.fields]
    rows, typed = raw.gather_every(step).head(SAMPLE).select(names), read.frame.gather_every(step).head(SAMPLE)
    expected = model.predict_batch(typed, False).select("pd", "indicative_limit", "score", "decision")
    for format in MEDIA_TYPES:
        result = answers(model, upload(rows, format, tmp_path / "batch"))
        assert result["error"].null_count() == rows.height, (format, result["error"].drop_nulls()[0])
        assert result.select(expected.columns).equals(expected), format
    options = {"moral_data_consent": True, "person": False, "raises": False}
    for i, values in enumerate(rows.head(50).iter_rows(named=True)):
        row, faults = model.validate(values)
        assert not faults, faults
        answer = model.decide(values, row, options)
        assert (answer["pd"], answer["indicative_limit"]) == (expected["pd"][i], expected["indicative_limit"][i])
