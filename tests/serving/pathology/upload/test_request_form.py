"""The request form: all its errors are reported together, in both languages."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.pathology import patient_risk
from models.pathology.policy import ReadingPolicy
from serving.pathology.upload import request_form
from tests.serving.conftest import ROOT
from tests.serving.pathology.conftest import FORM

CHINESE = re.compile(r"[\u4e00-\u9fff]")
BLEEDING = {"name": "bleeding", "value": True, "source": "clinic record 2026-10-02", "authorisation": "A-77"}
FULL_FORM = FORM | {
    "age": 57,
    "hpv_result": "positive",
    "hpv_genotype": ["16", "52"],
    "previous_result": "ASC-US",
    "menopause": "after",
    "focal_plane": 3,
    "context": [BLEEDING],
    "mpp": 0.25,
}


def error_fields(changes) -> dict[str, str]:
    form, errors = request_form.validate(FORM | changes)
    assert (form is None) == bool(errors)
    for error in errors:
        assert error.expected
        assert CHINESE.search(error.expected_zh), error
    return {error.field: error.actual for error in errors}


def test_a_complete_form_is_read_with_the_scale_apart():
    form, errors = request_form.validate(FULL_FORM)
    assert not errors
    assert form.mpp == 0.25
    assert form.request == {name: value for name, value in FULL_FORM.items() if name != "mpp"}
    assert form.columns()["specimen"] == "cervical_cytology"


def test_null_means_unknown():
    form, errors = request_form.validate(FORM | {"age": None, "context": None, "mpp": None})
    assert not errors
    assert form.request == FORM
    assert form.mpp is None


@pytest.mark.parametrize(
    "changes",
    [
        {"accession": ""},
        {"accession": " C1"},
        {"accession": "C\n1"},
        {"accession": "C\u202e1"},  # turns the direction of writing
        {"accession": "x" * 65},
        {"accession": 5},
        {"specimen": "liver"},
        {"stain": "blue"},
        {"preparation": ["liquid_based"]},
        {"age": -1},
        {"age": 121},
        {"age": 33.5},
        {"age": "33"},
        {"age": True},
        {"hpv_result": "yes"},
        {"hpv_result": "positive", "hpv_genotype": "16"},
        {"hpv_result": "positive", "hpv_genotype": ["sixteen"]},
        {"hpv_result": "negative", "hpv_genotype": ["16"]},
        {"previous_result": "fine"},
        {"menopause": "soon"},
        {"mpp": 0},
        {"mpp": 352.8},
        {"mpp": "0.25"},
        {"mpp": float("nan")},
        {"context": {}},
        {"context": [5]},
        {"context": [BLEEDING | {"source": ""}]},
        {"context": [{"name": "bleeding", "value": True}]},
        {"context": [BLEEDING | {"name": "Bleeding!"}]},
        {"context": [BLEEDING | {"value": [1]}]},
        {"context": [BLEEDING | {"sauce": "x"}]},
        {"hpv": "positive"},
    ],
)
def test_a_wrong_field_is_named(changes):
    errors = error_fields(changes)
    assert errors
    assert all(name.split("[")[0].split(".")[0] in changes for name in errors)


def test_all_errors_are_reported_together():
    errors = request_form.validate({"stain": "blue", "age": -1, "acession": "C1", "context": [{"name": "x"}]})[1]
    fields = {error.field for error in errors}
    assert fields >= {"accession", "specimen", "preparation", "stain", "age", "acession"}
    assert fields >= {"context[0].value", "context[0].source", "context[0].authorisation"}
    assert any("did you mean 'accession'?" in error.expected for error in errors)


def test_a_context_value_may_be_unknown_and_still_names_its_source():
    assert not error_fields({"context": [BLEEDING | {"value": None}]})


def test_the_patient_level_risk_understands_every_value_of_the_form():
    policy = ReadingPolicy.load(ROOT / "configs/policies/pathology.toml")
    risk = patient_risk.assess_risk(request_form.validate(FULL_FORM)[0].request, policy.patient)
    assert {reason.code for reason in risk.reasons} == {
        *("hpv_16", "hpv_other", "previous_low", "bleeding_after_menopause"),
    }
    assert set(patient_risk.RISK_FIELDS) <= set(request_form.FormFields.model_fields)
    assert {*patient_risk.HIGH_GRADE_RESULTS, *patient_risk.LOW_GRADE_RESULTS} <= set(request_form.PREVIOUS_RESULTS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # which depends on the machine
@given(st.dictionaries(st.sampled_from([*request_form.FormFields.model_fields, "other"]), JSON, max_size=11))
def test_any_form_is_read_or_refused_without_a_crash(payload):
    form, errors = request_form.validate(payload)
    assert (form is None) == bool(errors)
